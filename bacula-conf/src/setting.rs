//! What a directive's value means: numbers, durations and keywords in place of words.

use serde::Serialize;

use crate::lexer::WordKind;
use crate::schedule::Run;
use crate::schema::{Kind, MESSAGE_TYPES};
use crate::suggest::nearest;
use crate::tree::Value;
use crate::units::{Period, Size};

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

/// A value that Bacula refuses, or takes for something else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// What would be right.
    pub(crate) expected: String,
    pub(crate) remedy: String,
}

impl Misfit {
    fn new(expected: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { expected: expected.into(), remedy: remedy.into() }
    }
}

/// Reads a value of some kind; `None` for groups, which have no value of their own.
pub(crate) fn read(kind: Kind, value: &Value) -> Result<Option<Setting>, Misfit> {
    let text = value.text().unwrap_or("");
    Ok(Some(match kind {
        Kind::Name | Kind::Text | Kind::ShortText | Kind::Path | Kind::Reference(_) => {
            Setting::Text(text.to_owned())
        }
        Kind::Address => {
            unquoted(value, "an address to listen on")?;
            Setting::Text(text.to_owned())
        }
        Kind::Password => Setting::Hidden,
        Kind::YesNo => Setting::YesNo(yes_no(text)?),
        Kind::YesNoOrName => yes_no(text).map_or_else(|_| Setting::Text(text.to_owned()), Setting::YesNo),
        Kind::Number => {
            let wrong = |_| Misfit::new("a whole number", "write digits only, e.g. 10");
            Setting::Number(text.parse().map_err(wrong)?)
        }
        Kind::Size => Setting::Size(size(value)?),
        Kind::Speed => {
            unquoted(value, "a speed")?;
            let wrong = || Misfit::new("a speed", "write e.g. 5 mb/s (1000-based) or 5 m/s (1024-based)");
            Setting::Size(Size::speed_from_bacula(&value.line()).ok_or_else(wrong)?)
        }
        Kind::Period => Setting::Period(period(value)?),
        Kind::Word(words) => Setting::Text(word(text, words)?),
        Kind::Texts | Kind::References(_) => Setting::Texts(value.list().map(str::to_owned).collect()),
        Kind::Messages => {
            messages(value)?;
            Setting::Text(value.line())
        }
        Kind::Run => {
            // A brace is a finding of its own.
            let line = value.line().replace(", ", ",").replace(" - ", "-");
            let line = line.trim_end_matches(['{', '}', ' ']);
            line.parse::<Run>().map_err(|error| Misfit::new("a line of a schedule", error.to_string()))?;
            Setting::Text(value.line())
        }
        Kind::Addresses | Kind::Script | Kind::FileList | Kind::Options => return Ok(None),
    }))
}

/// A default as the schema writes it.
pub(crate) fn read_default(kind: Kind, text: &str) -> Option<Setting> {
    let value = Value::bare_line(text).ok()?;
    read(kind, &value).ok().flatten()
}

fn yes_no(text: &str) -> Result<bool, Misfit> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(Misfit::new("yes or no", "write yes or no; on, off, 1 and 0 are not taken")),
    }
}

/// Bacula takes numbers with units, and addresses, only bare.
fn unquoted(value: &Value, what: &str) -> Result<(), Misfit> {
    if value.words().first().is_some_and(|word| word.kind == WordKind::Quoted) {
        return Err(Misfit::new(format!("{what} without quotes"), "remove the quotes"));
    }
    Ok(())
}

fn size(value: &Value) -> Result<Size, Misfit> {
    unquoted(value, "a size")?;
    Size::from_bacula(&value.line()).ok_or_else(|| {
        Misfit::new("a size", "write e.g. 10737418240, 10 g (1024-based) or 10 gb (1000-based)")
    })
}

fn period(value: &Value) -> Result<Period, Misfit> {
    unquoted(value, "a duration")?;
    Period::from_bacula(&value.line())
        .ok_or_else(|| Misfit::new("a duration", "write e.g. 4 weeks, 2 hours or 1 day 12 hours"))
}

fn word(text: &str, words: &'static [&'static str]) -> Result<String, Misfit> {
    if let Some(known) = words.iter().find(|known| known.eq_ignore_ascii_case(text)) {
        return Ok((*known).to_owned());
    }
    let remedy = match nearest(text, words.iter().copied()) {
        Some(similar) => format!("did you mean {similar:?}?"),
        None => format!("write one of {}", words.join(", ")),
    };
    Err(Misfit::new("a keyword", remedy))
}

/// `root@localhost = all, !skipped`, or the kinds alone.
fn messages(value: &Value) -> Result<(), Misfit> {
    let words = value.words();
    let kinds = words.iter().rposition(|word| word.kind == WordKind::Equals).map_or(0, |equals| equals + 1);
    for kind in words.iter().skip(kinds).filter(|word| word.kind != WordKind::Comma) {
        word(kind.text.trim_start_matches('!'), MESSAGE_TYPES).map_err(|misfit| {
            Misfit::new(format!("a kind of message, not {:?}", kind.text), misfit.remedy)
        })?;
    }
    Ok(())
}
