//! Making values: what has to be quoted is quoted, what can't be written is an error.

use thiserror::Error;

use super::lexer::{Cursor, Reading, Word, WordKind};
use super::text::Span;
use super::tree::{Stop, Value};

/// A text that can't stand in a configuration file.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// A line break, a tab or another control character.
    #[error("{text:?} holds a control character at byte {at}; remove it")]
    Control {
        /// The text.
        text: String,
        /// Byte offset of the character.
        at: usize,
    },
    /// The text of a line that Bacula reads to its end holds what ends or changes it.
    #[error("{text:?} holds {found:?}, which a line of a schedule can't hold")]
    Special {
        /// The text.
        text: String,
        /// The character.
        found: char,
    },
}

impl Value {
    /// A name, path or other string; quoted where needed.
    ///
    /// # Errors
    /// A control character can't be written.
    pub fn string(text: &str) -> Result<Self, ValueError> {
        Ok(Self::of_words([string_word(text)?]))
    }

    /// A string that is always quoted, e.g. a password or a command.
    ///
    /// # Errors
    /// A control character can't be written.
    pub fn quoted(text: &str) -> Result<Self, ValueError> {
        refuse_control(text)?;
        Ok(Self::of_words([word(text, WordKind::Quoted)]))
    }

    /// A list with commas.
    ///
    /// # Errors
    /// A control character can't be written.
    pub fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, ValueError> {
        let mut words = Vec::new();
        for text in texts {
            if !words.is_empty() {
                words.push(word(",", WordKind::Comma));
            }
            words.push(string_word(text)?);
        }
        Ok(Self::of_words(words))
    }

    /// A whole number.
    pub fn number(number: u64) -> Self {
        Self::of_words([word(&number.to_string(), WordKind::Number)])
    }

    /// `yes` or `no`.
    pub fn yes_no(yes: bool) -> Self {
        Self::keyword(if yes { "yes" } else { "no" })
    }

    /// One of Bacula's own words, known when the program was written.
    pub(crate) fn keyword(keyword: &'static str) -> Self {
        Self::line_of(keyword)
    }

    /// A line as it is, for `Run`, durations and the destinations of messages.
    ///
    /// # Errors
    /// Characters that end a line or a block, quotes and `@` are refused.
    pub fn bare_line(text: &str) -> Result<Self, ValueError> {
        refuse_control(text)?;
        let special = |c: &char| matches!(c, ';' | '#' | '{' | '}' | '"' | '\\' | '@');
        if let Some(found) = text.chars().find(special) {
            return Err(ValueError::Special { text: text.to_owned(), found });
        }
        Ok(Self::line_of(text))
    }

    /// Several values with `=` between them, as messages need it: `mail = root = all, !skipped`.
    pub(crate) fn joined_by_equals(left: Self, right: Self) -> Self {
        let mut words = left.words;
        words.push(word("=", WordKind::Equals));
        words.extend(right.words);
        Self { raw: format!("{} = {}", left.raw, right.raw), words, stop: Stop::Line, span: Span::default() }
    }

    fn line_of(text: &str) -> Self {
        let text = text.trim();
        let mut words = Vec::new();
        let mut cursor = Cursor::new(text);
        while let Ok(Some(mut next)) = cursor.next_word(Reading::RunLine) {
            next.span = Span::default();
            words.push(next);
        }
        Self { raw: text.to_owned(), words, stop: Stop::Line, span: Span::default() }
    }

    fn of_words(words: impl Into<Vec<Word>>) -> Self {
        let words = words.into();
        let mut raw = String::new();
        for word in &words {
            if !raw.is_empty() && word.kind != WordKind::Comma {
                raw.push(' ');
            }
            match word.kind {
                WordKind::Quoted => push_quoted(&mut raw, &word.text),
                _ => raw.push_str(&word.text),
            }
        }
        Self { raw, words, stop: Stop::Line, span: Span::default() }
    }
}

fn word(text: &str, kind: WordKind) -> Word {
    Word { text: text.to_owned(), kind, span: Span::default() }
}

fn string_word(text: &str) -> Result<Word, ValueError> {
    refuse_control(text)?;
    Ok(word(text, if may_stand_bare(text) { WordKind::Bare } else { WordKind::Quoted }))
}

fn refuse_control(text: &str) -> Result<(), ValueError> {
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(ValueError::Control { text: text.to_owned(), at }),
        None => Ok(()),
    }
}

/// Bare words start with a letter or `/` (a digit makes a number, `@` an include) and hold nothing special.
fn may_stand_bare(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':'))
}

fn push_quoted(raw: &mut String, text: &str) {
    raw.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            raw.push('\\');
        }
        raw.push(c);
    }
    raw.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_needs_it() {
        let raw = |text| Value::string(text).map(|value| value.raw);
        assert_eq!(raw("c0").as_deref(), Ok("c0"));
        assert_eq!(raw("/var/lib").as_deref(), Ok("/var/lib"));
        assert_eq!(raw("Full Set").as_deref(), Ok("\"Full Set\""));
        assert_eq!(raw("12").as_deref(), Ok("\"12\""));
        assert_eq!(raw("@|rm").as_deref(), Ok("\"@|rm\""));
        assert_eq!(raw("a\"; b\\").as_deref(), Ok("\"a\\\"; b\\\\\""));
        assert_eq!(raw("").as_deref(), Ok("\"\""));
        assert_eq!(raw("a\nb"), Err(ValueError::Control { text: "a\nb".into(), at: 1 }));
    }

    #[test]
    fn a_line_can_not_end_itself() {
        assert_eq!(
            Value::bare_line("Full mon at 23:05 }"),
            Err(ValueError::Special { text: "Full mon at 23:05 }".into(), found: '}' })
        );
        assert!(Value::bare_line("Full mon at 23:05\nRun = x").is_err());
        assert!(Value::bare_line("4 weeks").is_ok());
    }
}
