//! The lines of a schedule.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::keyword::{is_number, keyword, read_yes_no};
use super::name::Name;
use super::units::Period;
use crate::schema::LEVELS;
use crate::syntax::lexer::{Cursor, Reading, Word, WordKind};

/// One `Run` line of a schedule, e.g. `Level=Full sun at 23:05`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Run(String);

/// A `Run` line that Bacula would not take, or would take for something else.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// A word that has no meaning in a schedule.
    #[error(
        "{word:?} means nothing in the schedule line {line:?}{}",
        .similar.map_or(String::new(), |word| format!("; did you mean {word:?}?"))
    )]
    Word {
        /// The whole line.
        line: String,
        /// The word.
        word: String,
        /// The known word that is most like it.
        similar: Option<&'static str>,
    },
    /// A time that does not exist.
    #[error("{word:?} in the schedule line {line:?} is no time of day; write for example 23:05")]
    Time {
        /// The whole line.
        line: String,
        /// The word.
        word: String,
    },
    /// No time of day.
    #[error("the schedule line {line:?} says no time; add for example \"at 23:05\"")]
    NoTime {
        /// The whole line.
        line: String,
    },
    /// Nothing behind the settings, or something that begins with a digit.
    #[error(
        "the schedule line {line:?} needs a day, `on` or `at` behind its settings; write for example \"Level=Full on 1 at 23:05\""
    )]
    NoDay {
        /// The whole line.
        line: String,
    },
}

/// What may be set for one run, before the days and times (`RunFields` of `src/dird/run_conf.c`).
const SETTINGS: [(&str, Field); 13] = [
    ("Level", Field::Level),
    ("Pool", Field::Reference("Pool")),
    ("FullPool", Field::Reference("Pool")),
    ("IncrementalPool", Field::Reference("Pool")),
    ("DifferentialPool", Field::Reference("Pool")),
    ("NextPool", Field::Reference("Pool")),
    ("Storage", Field::Reference("Storage")),
    ("Messages", Field::Reference("Messages")),
    ("Priority", Field::Number),
    ("SpoolData", Field::YesNo),
    ("Accurate", Field::YesNo),
    ("WritePartAfterJob", Field::YesNo),
    ("MaxRunSchedTime", Field::Period),
];

/// What a setting of a run takes.
#[derive(Clone, Copy)]
enum Field {
    Level,
    Reference(&'static str),
    Number,
    YesNo,
    Period,
}

/// What a word of a schedule stands for (`keyw` of `src/dird/run_conf.c`); in a range both ends must be of one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Nothing,
    At,
    Day,
    Month,
    /// The first, second, ... week of the month.
    Week,
    /// Words such as `daily` and `lastday`.
    Whole,
    Hourly,
}

/// The words of each kind; the place of a word modulo the number is what it stands for.
const WORDS: [(Unit, usize, &[&str]); 7] = [
    (Unit::Nothing, 1, &["on"]),
    (Unit::At, 1, &["at"]),
    (Unit::Hourly, 1, &["hourly"]),
    (Unit::Whole, 4, &["daily", "weekly", "monthly", "lastday"]),
    (
        Unit::Day,
        7,
        &[
            "sun",
            "mon",
            "tue",
            "wed",
            "thu",
            "fri",
            "sat",
            "sunday",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
        ],
    ),
    (
        Unit::Month,
        12,
        &[
            "jan",
            "feb",
            "mar",
            "apr",
            "may",
            "jun",
            "jul",
            "aug",
            "sep",
            "oct",
            "nov",
            "dec",
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
    ),
    (
        Unit::Week,
        6,
        &["1st", "2nd", "3rd", "4th", "5th", "6th", "first", "second", "third", "fourth", "fifth", "sixth"],
    ),
];

impl Run {
    /// The line without `Run =`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Run {
    type Err = RunError;

    /// Takes what Bacula takes, and a time of day has to be said: without one Bacula runs the job every hour.
    fn from_str(text: &str) -> Result<Self, RunError> {
        let line = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let mut words = Vec::new();
        let mut cursor = Cursor::new(&line);
        while let Ok(Some(word)) = cursor.next_word(Reading::RunLine) {
            words.push(word);
        }
        let rest = cursor.rest().to_owned();
        // Quotes, includes and comments have no place in a description.
        let plain =
            |word: &Word| !matches!(word.kind, WordKind::Quoted | WordKind::Include | WordKind::Brace);
        if let Some(word) = words.iter().find(|word| !plain(word)) {
            return Err(unknown(&line, &word.text));
        }
        if !rest.is_empty() || line.contains('\\') {
            return Err(unknown(&line, if rest.is_empty() { "\\" } else { &rest }));
        }
        let scanned = scan(&words, &line)?;
        if let Some((_, word)) = scanned.references.iter().find(|(_, word)| Name::new(&*word.text).is_err()) {
            return Err(unknown(&line, &word.text));
        }
        if scanned.times { Ok(Self(line)) } else { Err(RunError::NoTime { line }) }
    }
}

/// What a line of a schedule says, as far as checks need it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned<'w> {
    /// Whether it says when; otherwise the job runs every hour.
    pub(crate) times: bool,
    /// Resources that it names: their type, and the name.
    pub(crate) references: Vec<(&'static str, &'w Word)>,
}

/// Reads the words of a line as `store_run` of `src/dird/run_conf.c` does.
///
/// # Errors
/// Bacula refuses the line.
pub(crate) fn scan<'w>(words: &'w [Word], line: &str) -> Result<Scanned<'w>, RunError> {
    let mut scanned = Scanned::default();
    let mut rest = words.iter().peekable();
    // Settings come first, and one name at least behind them.
    let mut first = loop {
        let name = rest.next().filter(|word| is_name(word)).ok_or_else(|| unfinished(line))?;
        if is_level(&name.text) {
            continue;
        }
        let Some((_, field)) = SETTINGS.iter().find(|(key, _)| key.eq_ignore_ascii_case(&name.text)) else {
            break Some(name);
        };
        rest.next().filter(|word| word.kind == WordKind::Equals).ok_or_else(|| unknown(line, &name.text))?;
        let value = rest.next().ok_or_else(|| unfinished(line))?;
        if !field.takes(value) {
            return Err(unknown(line, &format!("{}={}", name.text, value.text)));
        }
        if let Field::Reference(kind) = field {
            scanned.references.push((kind, value));
        }
    };
    let mut at = false;
    while let Some(word) = first.take().or_else(|| rest.next()) {
        let text = word.text.as_str();
        let known = match word.kind {
            WordKind::Comma => true,
            WordKind::Number => text.parse().is_ok_and(|day: u8| (1..=31).contains(&day)),
            WordKind::Bare if text.contains('-') => is_range(text),
            WordKind::Bare if text.contains(':') => {
                if !at || !is_time(text) {
                    return Err(RunError::Time { line: line.to_owned(), word: text.to_owned() });
                }
                scanned.times = true;
                true
            }
            WordKind::Bare if is_week_of_year(text).is_some() => true,
            WordKind::Bare => match unit(text) {
                Some((unit, _)) => {
                    at |= unit == Unit::At;
                    scanned.times |= unit == Unit::Hourly;
                    true
                }
                None => false,
            },
            _ => false,
        };
        if !known {
            return Err(unknown(line, text));
        }
    }
    Ok(scanned)
}

impl Field {
    fn takes(self, word: &Word) -> bool {
        match self {
            Self::Level => is_name(word) && is_level(&word.text),
            Self::Reference(_) => is_name(word),
            Self::Number => is_number(&word.text),
            Self::YesNo => is_name(word) && read_yes_no(&word.text).is_some(),
            Self::Period => Period::from_bacula(&word.text).is_some(),
        }
    }
}

fn is_name(word: &Word) -> bool {
    matches!(word.kind, WordKind::Bare | WordKind::Quoted)
}

fn is_level(text: &str) -> bool {
    keyword(text, LEVELS).is_some()
}

/// What a word stands for, and which of its kind it is.
fn unit(text: &str) -> Option<(Unit, usize)> {
    WORDS.iter().find_map(|(unit, count, words)| {
        Some((*unit, words.iter().position(|word| word.eq_ignore_ascii_case(text))? % count))
    })
}

/// `w00` to `w53`.
fn is_week_of_year(text: &str) -> Option<u8> {
    let digits = text.strip_prefix(['w', 'W']).filter(|digits| digits.len() == 2)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|week| *week <= 53)
}

/// `1-10`, `w00-w26`, `mon-fri`, `jan-jun`, `2nd-5th`.
fn is_range(text: &str) -> bool {
    let Some((from, to)) = text.split_once('-') else { return false };
    let day = |text: &str| text.parse().ok().filter(|day: &u8| (1..=31).contains(day));
    if let (Some(_), Some(_)) = (day(from), day(to)) {
        return true;
    }
    if let (Some(_), Some(_)) = (is_week_of_year(from), is_week_of_year(to)) {
        return true;
    }
    match (unit(from), unit(to)) {
        (Some((unit, from)), Some((other, to))) => {
            unit == other && from != to && matches!(unit, Unit::Day | Unit::Month | Unit::Week)
        }
        _ => false,
    }
}

/// `23:05`, `9:00pm`.
fn is_time(text: &str) -> bool {
    let Some((hour, minute)) = text.split_once(':') else { return false };
    let lower = minute.to_ascii_lowercase();
    let (minute, half) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(minute), _) => (minute, Some(0)),
        (_, Some(minute)) => (minute, Some(12)),
        _ => (lower.as_str(), None),
    };
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (Some(hour), Some(minute), 2) = (number(hour), number(minute), minute.len()) else { return false };
    let hour = match half {
        Some(half) if hour == 12 => half,
        Some(half) => hour.saturating_add(half),
        None => hour,
    };
    hour <= 23 && minute <= 59
}

fn unknown(line: &str, word: &str) -> RunError {
    let words = WORDS.iter().flat_map(|(_, _, words)| words.iter().copied());
    let settings = SETTINGS.iter().map(|(key, _)| *key);
    let similar = crate::syntax::suggest::nearest(
        word,
        words.chain(settings).chain(LEVELS.iter().map(|level| level.text)),
    );
    RunError::Word { line: line.to_owned(), word: word.to_owned(), similar }
}

fn unfinished(line: &str) -> RunError {
    RunError::NoDay { line: line.to_owned() }
}

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Run {
    type Error = RunError;

    fn try_from(text: String) -> Result<Self, RunError> {
        text.parse()
    }
}

impl From<Run> for String {
    fn from(run: Run) -> Self {
        run.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lines_that_people_write() {
        for line in [
            "Level=Full sun at 23:05",
            "Level=Incremental mon-sun at 23:05",
            "Full 1st sun at 23:05",
            "Differential 2nd-5th sun at 23:05",
            "Incremental mon,wed,fri at 9:00pm",
            "Level=Full Pool=Offsite on 1,15 jan-jun at 1:30",
            "Full w01 sun at 12:00",
            "hourly",
        ] {
            assert!(line.parse::<Run>().is_ok(), "{line}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_others() {
        let message = |line: &str| line.parse::<Run>().expect_err("wrong line").to_string();
        insta::assert_snapshot!(message("Level=Full sonday at 23:05"), @r#""sonday" means nothing in the schedule line "Level=Full sonday at 23:05"; did you mean "sunday"?"#);
        insta::assert_snapshot!(message("Levle=Full sun at 23:05"), @r#""Levle" means nothing in the schedule line "Levle=Full sun at 23:05"; did you mean "Level"?"#);
        insta::assert_snapshot!(message("Full sun at 24:00"), @r#""24:00" in the schedule line "Full sun at 24:00" is no time of day; write for example 23:05"#);
        insta::assert_snapshot!(message("Full sun"), @r#"the schedule line "Full sun" says no time; add for example "at 23:05""#);
        for line in
            ["Full sun at 23:05 }", "Full sun at 23:05; x", "Full sun at 23:05 # c", "@x at 1:00", "", "at"]
        {
            assert!(line.parse::<Run>().is_err(), "{line}");
        }
        assert_eq!("Full sun\n at 23:05".parse::<Run>().map(|run| run.0).as_deref(), Ok("Full sun at 23:05"));
    }
}
