//! What a directive's value means: numbers, durations and keywords in place of words.

use serde::Serialize;

use super::spec::{Destinations, Kind};
use super::{Keyword, MESSAGE_TYPES};
use crate::syntax::lexer::WordKind;
use crate::syntax::suggest::nearest;
use crate::syntax::tree::{Document, Value};
use crate::values::keyword::{is_number, keyword, read_yes_no};
use crate::values::schedule::scan;
use crate::values::units::{Period, Size};

/// What a directive is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Setting {
    /// A text, a name, a path or a keyword.
    Text(String),
    /// The entries of a list.
    Texts(Vec<String>),
    /// Yes or no.
    YesNo(bool),
    /// A number without a unit.
    Number(u64),
    /// A number of bytes, or of bytes a second.
    Size(Size),
    /// A duration.
    Period(Period),
    /// A password, which is never handed out.
    Hidden,
}

/// `MAX_BLOCK_SIZE` of `src/stored/block.h`.
const LARGEST_BLOCK: Size = Size::bytes(20_000_000);

/// A value that Bacula refuses, or takes for something else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// What would be right.
    pub(crate) expected: String,
    pub(crate) remedy: String,
}

impl Misfit {
    pub(crate) fn new(expected: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { expected: expected.into(), remedy: remedy.into() }
    }
}

/// Reads a value of some kind as Bacula's `store_...` functions do (`src/lib/parse_conf.c`).
pub(crate) fn read(kind: Kind, value: &Value) -> Result<Setting, Misfit> {
    Ok(match kind {
        Kind::Name => Setting::Text(resource_name(text(value)?)?.to_owned()),
        Kind::Text | Kind::ShortText | Kind::Path | Kind::Each | Kind::Reference(_) => {
            Setting::Text(text(value)?.to_owned())
        }
        Kind::Address => {
            bare(value, "an address to listen on")?;
            alone(value)?;
            Setting::Text(first(value).to_owned())
        }
        Kind::Port => {
            bare(value, "a port")?;
            alone(value)?;
            match first(value).parse::<u64>() {
                Ok(port) if !(1..0xffff).contains(&port) => {
                    return Err(Misfit::new("a port from 1 to 65534", "write a port from 1 to 65534"));
                }
                Ok(port) => Setting::Number(port),
                // A service of /etc/services.
                Err(_) => Setting::Text(first(value).to_owned()),
            }
        }
        Kind::Password => {
            text(value)?;
            Setting::Hidden
        }
        Kind::YesNo => Setting::YesNo(yes_no(text(value)?)?),
        Kind::YesNoOrName => {
            let text = text(value)?;
            read_yes_no(text).map_or_else(|| Setting::Text(text.to_owned()), Setting::YesNo)
        }
        Kind::Number => Setting::Number(number(value)?),
        Kind::Integer => {
            if value.words().first().is_some_and(|word| word.kind != WordKind::Number) {
                return Err(Misfit::new("a whole number without quotes", "write digits only, e.g. 10"));
            }
            Setting::Number(number(value)?)
        }
        Kind::Size => Setting::Size(size(value)?),
        Kind::BlockSize => {
            let size = size(value)?;
            if size > LARGEST_BLOCK {
                return Err(Misfit::new(
                    format!("at most {LARGEST_BLOCK}"),
                    "write a smaller size, e.g. 1 m",
                ));
            }
            Setting::Size(size)
        }
        Kind::Speed => {
            let wrong = || Misfit::new("a speed", "write e.g. 5 mb/s (1000-based) or 5 m/s (1024-based)");
            Setting::Size(Size::speed_from_bacula(&measured(value, "a speed")?).ok_or_else(wrong)?)
        }
        Kind::Period => {
            let wrong = || Misfit::new("a duration", "write e.g. 4 weeks, 2 hours or 1 day 12 hours");
            Setting::Period(Period::from_bacula(&measured(value, "a duration")?).ok_or_else(wrong)?)
        }
        Kind::Word(words) => Setting::Text(word(text(value)?, words)?),
        Kind::Texts | Kind::References(_) => Setting::Texts(list(value)?),
        Kind::List => {
            text(value)?;
            Setting::Texts(value.list().map(str::to_owned).collect())
        }
        Kind::Codes => Setting::Text(first(value).to_owned()),
        Kind::Digits => {
            let text = first(value);
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Misfit::new("a whole number", "write digits only, e.g. 2"));
            }
            Setting::Text(text.to_owned())
        }
        Kind::Acl => Setting::Texts(acl(value)?),
        Kind::Messages(destinations) => {
            messages(destinations, value)?;
            Setting::Text(value.line())
        }
        Kind::Run => {
            // A brace is a finding of its own.
            let words: Vec<_> =
                value.words().iter().filter(|word| word.kind != WordKind::Brace).cloned().collect();
            scan(&words, &value.line())
                .map_err(|error| Misfit::new("a line of a schedule", error.to_string()))?;
            Setting::Text(value.line())
        }
        Kind::Addresses | Kind::Script | Kind::FileList | Kind::Options => {
            return Err(Misfit::new("its directives in braces", "write `{`, the directives, and `}`"));
        }
    })
}

/// The duration that Bacula reads from a value; `None` where it refuses it.
pub(crate) fn period_of(value: &Value) -> Option<Period> {
    Period::from_bacula(&measured(value, "").ok()?)
}

/// The number of bytes that Bacula reads from a value; `None` where it refuses it.
pub(crate) fn size_of(value: &Value) -> Option<Size> {
    size(value).ok()
}

/// A default as the schema writes it.
pub(crate) fn read_default(kind: Kind, text: &str) -> Option<Setting> {
    let document: Document = format!("default = {text}\n").parse().ok()?;
    read(kind, document.directive("default")?.value()).ok()
}

fn size(value: &Value) -> Result<Size, Misfit> {
    let wrong = || Misfit::new("a size", "write e.g. 10737418240, 10 g (1024-based) or 10 gb (1000-based)");
    Size::from_bacula(&measured(value, "a size")?).ok_or_else(wrong)
}

fn first(value: &Value) -> &str {
    value.text().unwrap_or("")
}

/// The first word, which has to be a name or a text: digits alone are a number to Bacula.
fn text(value: &Value) -> Result<&str, Misfit> {
    match value.words().first() {
        Some(word) if matches!(word.kind, WordKind::Bare | WordKind::Quoted | WordKind::Include) => {
            Ok(&word.text)
        }
        Some(word) if word.kind == WordKind::Number => {
            Err(Misfit::new("a text: digits alone are a number", "put it into quotes"))
        }
        _ => Err(Misfit::new("a text", "put the value into quotes")),
    }
}

/// A resource's name (`is_name_valid` of `src/lib/edit.c`).
fn resource_name(text: &str) -> Result<&str, Misfit> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-' | '_' | ' ');
    match text.chars().find(|c| !good(*c)) {
        Some(wrong) => Err(Misfit::new(
            format!("a name without {wrong:?}"),
            "use letters of ASCII, digits, blanks, `.`, `:`, `-` and `_`",
        )),
        None if text.is_empty() => Err(Misfit::new("a name of at least one character", "write a name")),
        None => Ok(text),
    }
}

fn yes_no(text: &str) -> Result<bool, Misfit> {
    read_yes_no(text)
        .ok_or_else(|| Misfit::new("yes or no", "write yes or no; on, off, 1 and 0 are not taken"))
}

/// A whole number; what stands behind its digits is not read.
fn number(value: &Value) -> Result<u64, Misfit> {
    let text = first(value);
    let wrong = || Misfit::new("a whole number", "write digits only, e.g. 10");
    if !is_number(text) {
        return Err(wrong());
    }
    let text = text.trim_start_matches('+');
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)
}

/// Bacula takes numbers with units, and addresses, only bare.
fn bare(value: &Value, what: &str) -> Result<(), Misfit> {
    match value.words().first().map(|word| word.kind) {
        Some(WordKind::Bare | WordKind::Number | WordKind::Include) => Ok(()),
        Some(WordKind::Quoted) => Err(Misfit::new(format!("{what} without quotes"), "remove the quotes")),
        _ => Err(Misfit::new(what, "remove what stands before it")),
    }
}

/// Behind an address or a port, Bacula expects the next directive.
fn alone(value: &Value) -> Result<(), Misfit> {
    match value.words().get(1) {
        Some(_) => Err(Misfit::new("one word only", "start a new line behind the first word")),
        None => Ok(()),
    }
}

/// The words of a number with units: Bacula goes on while a word that is not all letters has a space behind it
/// (`store_int_unit`, `store_time`). Behind a comma, or a tab, the rest of the line is skipped.
fn measured(value: &Value, what: &str) -> Result<String, Misfit> {
    bare(value, what)?;
    let mut read = String::new();
    for (index, word) in value.words().iter().enumerate() {
        match word.kind {
            WordKind::Bare | WordKind::Number => read.push_str(&word.text),
            WordKind::Quoted => {}
            _ => break,
        }
        if !value.goes_on_behind(index) {
            break;
        }
    }
    Ok(read)
}

/// A list whose commas stand directly behind its words, and behind which the line ends (`store_alist_str`).
fn list(value: &Value) -> Result<Vec<String>, Misfit> {
    let mut read = Vec::new();
    let mut words = value.words().iter().enumerate();
    while let Some((index, word)) = words.next() {
        match word.kind {
            WordKind::Bare | WordKind::Quoted | WordKind::Include => read.push(word.text.clone()),
            WordKind::Number => {
                return Err(Misfit::new(
                    format!("texts with commas between them; {} is a number", word.text),
                    "put the number into quotes",
                ));
            }
            _ => return Err(Misfit::new("texts with commas between them", "remove the surplus sign")),
        }
        match words.next() {
            None => break,
            Some((_, comma)) if comma.kind == WordKind::Comma && value.touches_next(index) => {
                if value.words().len() == index + 2 {
                    return Err(Misfit::new("a text behind the last comma", "remove the comma"));
                }
            }
            Some(_) => {
                return Err(Misfit::new(
                    "texts with commas directly behind them",
                    "write a, b, c; quote texts with blanks in them",
                ));
            }
        }
    }
    if value.stop.is_brace() {
        return Err(Misfit::new("the end of the line behind the list", "put the brace on a line of its own"));
    }
    Ok(read)
}

/// The entries of an access list; the word behind the last one, or a brace, is read and dropped (`store_acl`).
fn acl(value: &Value) -> Result<Vec<String>, Misfit> {
    let mut read = Vec::new();
    let mut words = value.words().iter();
    loop {
        match words.next() {
            Some(word) if matches!(word.kind, WordKind::Bare | WordKind::Quoted | WordKind::Include) => {
                read.push(word.text.clone());
            }
            Some(word) if word.kind == WordKind::Number => {
                return Err(Misfit::new(
                    format!("texts with commas between them; {} is a number", word.text),
                    "put the number into quotes",
                ));
            }
            _ => return Err(Misfit::new("a text behind each comma", "remove the surplus comma")),
        }
        match words.next() {
            Some(word) if word.kind == WordKind::Comma => {}
            None if value.stop.is_brace() => {
                return Err(Misfit::new(
                    "the end of the line behind the list, for it swallows the brace",
                    "put the brace on a line of its own, or `;` before it",
                ));
            }
            Some(_) if words.next().is_some() => {
                return Err(Misfit::new("commas between its entries", "write the commas"));
            }
            None | Some(_) => return Ok(read),
        }
    }
}

fn word(text: &str, words: &[Keyword]) -> Result<String, Misfit> {
    if let Some(known) = keyword(text, words) {
        return Ok(known.text.to_owned());
    }
    let known = || words.iter().map(|word| word.text);
    let remedy = match nearest(text, known()) {
        Some(similar) => format!("did you mean {similar:?}?"),
        None => format!("write one of {}", known().collect::<Vec<_>>().join(", ")),
    };
    Err(Misfit::new("a keyword", remedy))
}

/// `root@localhost = all, !skipped`, or the kinds alone; what follows the kinds is skipped (`store_msgs`).
fn messages(destinations: Destinations, value: &Value) -> Result<(), Misfit> {
    let kinds = message_kinds(destinations, value).ok_or_else(|| {
        Misfit::new("destinations, `=` and kinds of messages", "write e.g. root@localhost = all, !skipped")
    })?;
    for (_, kind) in kinds {
        let bare = kind.trim_start_matches('!');
        if !bare.to_ascii_lowercase().starts_with("events.") {
            word(bare, MESSAGE_TYPES)
                .map_err(|misfit| Misfit::new(format!("a kind of message, not {kind:?}"), misfit.remedy))?;
        }
    }
    Ok(())
}

/// The kinds of messages that a line sends to its destinations, with the places of their words; `None` where the line
/// has not that form.
pub(crate) fn message_kinds(destinations: Destinations, value: &Value) -> Option<Vec<(usize, &str)>> {
    let words = value.words();
    let is = |index: usize, kind| words.get(index).is_some_and(|word| word.kind == kind);
    let named =
        |index: usize| words.get(index).filter(|word| matches!(word.kind, WordKind::Bare | WordKind::Quoted));
    let mut start = 0;
    if destinations != Destinations::None {
        named(start)?;
        while destinations == Destinations::Several && is(start + 1, WordKind::Comma) {
            start += 2;
            named(start)?;
        }
        if !is(start + 1, WordKind::Equals) {
            return None;
        }
        start += 2;
    }
    let mut kinds = vec![(start, named(start)?.text.as_str())];
    while is(start + 1, WordKind::Comma) && value.touches_next(start) {
        start += 2;
        kinds.push((start, named(start)?.text.as_str()));
    }
    Some(kinds)
}
