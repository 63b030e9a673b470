//! Errors of the parser, shown as a compiler shows them.

use thiserror::Error;

use super::redact::hide_password;
use super::text::{Position, Span};

/// A configuration text that can't be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {}, column {}: {kind}", .position.line, .position.column)]
#[non_exhaustive]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where, in bytes.
    pub span: Span,
    /// Where, as an editor shows it.
    pub position: Position,
}

/// What is wrong with a configuration text.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text ends inside a block.
    #[error("the block {name:?} is never closed")]
    Unclosed {
        /// The block's name.
        name: String,
    },
    /// A `}` with no block open.
    #[error("this brace closes nothing")]
    StrayBrace,
    /// The text ends inside a quoted string.
    #[error("this quote is never closed")]
    OpenQuote,
    /// Something other than a name where a directive or a resource should start.
    #[error("expected the name of a directive or resource, found {found:?}")]
    NotAName {
        /// The character found.
        found: char,
    },
    /// A name with neither `=` nor `{` behind it.
    #[error("expected `=` or `{{` after {key:?}{}", .found.map_or(String::new(), |c| format!(", found {c:?}")))]
    NoEquals {
        /// The name.
        key: String,
        /// The character found; `None` at the end of the text.
        found: Option<char>,
    },
    /// Nothing behind the `=`.
    #[error("{key:?} has no value")]
    NoValue {
        /// The directive.
        key: String,
    },
    /// More nested blocks than any Bacula configuration has.
    #[error("blocks are nested too deep")]
    TooDeep,
}

impl ParseErrorKind {
    /// What would be right, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unclosed { .. } => {
                "add the missing `}`; a `Run =` of a schedule needs a line of its own, it reads over a `}` behind it"
                    .to_owned()
            }
            Self::StrayBrace => "remove it, or look for one `}` too many above".to_owned(),
            Self::OpenQuote => "close it with \"; inside quotes write \\\" and \\\\".to_owned(),
            Self::NotAName { found: '_' | '0'..='9' } => {
                "names of directives consist of letters and blanks, e.g. `Media Type`".to_owned()
            }
            Self::NotAName { .. } => {
                "a value with special characters has to be quoted; a comment starts with `#`".to_owned()
            }
            Self::NoEquals { found: Some('_'), .. } => {
                "write a blank in place of the underscore, e.g. `Media Type`".to_owned()
            }
            Self::NoEquals { .. } => "write `key = value`, or `Name { ... }` for a resource".to_owned(),
            Self::NoValue { key } => format!("write `{key} = ...` on one line; an empty value is written \"\""),
            Self::TooDeep => return None,
        })
    }
}

impl ParseError {
    pub(crate) fn new(kind: ParseErrorKind, span: Span, text: &str) -> Self {
        Self { kind, span, position: Position::of(text, span.start) }
    }

    /// Shows the error with the line it is in, a caret below it, and the hint. `file` and `text` are what was parsed.
    pub fn render(&self, file: &str, text: &str) -> String {
        render(&format!("error: {}", self.kind), file, text, self.span, self.kind.hint().as_deref())
    }
}

/// A title, the place, the line with carets, and a hint.
pub(crate) fn render(title: &str, file: &str, text: &str, span: Span, hint: Option<&str>) -> String {
    let Position { line, column } = Position::of(text, span.start);
    let source = hide_password(text.lines().nth(line - 1).unwrap_or("")).replace('\t', " ");
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let marked = text.get(span.range(text.len())).unwrap_or("").lines().next().unwrap_or("").chars().count();
    let carets = "^".repeat(marked.max(1));
    let indent = " ".repeat(column - 1);
    let mut shown = format!(
        "{title}\n{margin}--> {file}:{line}:{column}\n{margin} |\n{number} | {source}\n{margin} | {indent}{carets}"
    );
    if let Some(hint) = hint {
        shown.push_str("\nhint: ");
        shown.push_str(hint);
    }
    shown
}

#[cfg(test)]
mod tests {
    use crate::syntax::tree::Document;

    fn rendered(text: &str) -> String {
        text.parse::<Document>().expect_err("wrong text").render("bacula-sd.conf", text)
    }

    #[test]
    fn shows_where_and_what_would_be_right() {
        insta::assert_snapshot!(rendered("Device {\n  Name = a\n  Media_Type = File\n}\n"), @r#"
        error: expected `=` or `{` after "Media", found '_'
         --> bacula-sd.conf:3:3
          |
        3 |   Media_Type = File
          |   ^^^^^
        hint: write a blank in place of the underscore, e.g. `Media Type`
        "#);
        insta::assert_snapshot!(rendered("Schedule {\n  Name = s; Run = Full sun at 23:05 }\n"), @r#"
        error: the block "Schedule" is never closed
         --> bacula-sd.conf:1:1
          |
        1 | Schedule {
          | ^^^^^^^^
        hint: add the missing `}`; a `Run =` of a schedule needs a line of its own, it reads over a `}` behind it
        "#);
        insta::assert_snapshot!(rendered("Device {\n  Name = \"a\n}\n"), @r#"
        error: this quote is never closed
         --> bacula-sd.conf:2:10
          |
        2 |   Name = "a
          |          ^
        hint: close it with "; inside quotes write \" and \\
        "#);
        insta::assert_snapshot!(rendered("}\n"), @r"
        error: this brace closes nothing
         --> bacula-sd.conf:1:1
          |
        1 | }
          | ^
        hint: remove it, or look for one `}` too many above
        ");
    }
}
