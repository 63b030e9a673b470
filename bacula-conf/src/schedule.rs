//! The lines of a schedule.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::Name;

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
}

/// What may be set for one run (`src/dird/run_conf.c`).
const SETTINGS: [&str; 13] = [
    "Level",
    "Pool",
    "FullPool",
    "IncrementalPool",
    "DifferentialPool",
    "NextPool",
    "Storage",
    "Messages",
    "Priority",
    "SpoolData",
    "Accurate",
    "WritePartAfterJob",
    "MaxRunSchedTime",
];

/// The words of `src/dird/run_conf.c`, less the settings.
const WORDS: [&str; 70] = [
    "full",
    "incremental",
    "differential",
    "since",
    "virtualfull",
    "base",
    "on",
    "at",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "lastday",
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
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
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
    "1st",
    "2nd",
    "3rd",
    "4th",
    "5th",
    "6th",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "last",
    "am",
    "pm",
    "mondays",
    "tuesdays",
    "sundays",
    "to",
    "of",
];

impl Run {
    /// The line without `Run =`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Run {
    type Err = RunError;

    fn from_str(text: &str) -> Result<Self, RunError> {
        let line = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let mut timed = false;
        let mut after_at = false;
        for word in line.split(' ') {
            if after_at {
                check_time(&line, word)?;
                timed = true;
                after_at = false;
                continue;
            }
            if let Some((key, value)) = word.split_once('=') {
                check_word(&line, key, &SETTINGS)?;
                Name::new(value).map_err(|_| unknown(&line, word, &SETTINGS))?;
                continue;
            }
            after_at = word.eq_ignore_ascii_case("at");
            timed |= word.eq_ignore_ascii_case("hourly");
            for part in word.split([',', '-']) {
                if !is_number(part) {
                    check_word(&line, part, &WORDS)?;
                }
            }
        }
        if timed && !after_at { Ok(Self(line)) } else { Err(RunError::NoTime { line }) }
    }
}

/// A day of the month, or a week of the year as `w07`.
fn is_number(part: &str) -> bool {
    let (digits, last) = match part.strip_prefix(['w', 'W']) {
        Some(week) => (week, 53),
        None => (part, 31),
    };
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u8>().is_ok_and(|number| number <= last)
}

fn check_word(line: &str, word: &str, known: &[&'static str]) -> Result<(), RunError> {
    let found = known.iter().any(|candidate| candidate.eq_ignore_ascii_case(word));
    if found { Ok(()) } else { Err(unknown(line, word, known)) }
}

fn unknown(line: &str, word: &str, known: &[&'static str]) -> RunError {
    let similar = crate::suggest::nearest(word, known.iter().copied());
    RunError::Word { line: line.to_owned(), word: word.to_owned(), similar }
}

fn check_time(line: &str, word: &str) -> Result<(), RunError> {
    let lower = word.to_ascii_lowercase();
    let (clock, last_hour) = match lower.strip_suffix("am").or_else(|| lower.strip_suffix("pm")) {
        Some(clock) => (clock, 12),
        None => (lower.as_str(), 23),
    };
    let part = |text: &str, last: u8| {
        (1..=2).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && text.parse::<u8>().is_ok_and(|number| number <= last)
    };
    match clock.split_once(':') {
        Some((hour, minute)) if part(hour, last_hour) && minute.len() == 2 && part(minute, 59) => Ok(()),
        _ => Err(RunError::Time { line: line.to_owned(), word: word.to_owned() }),
    }
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
