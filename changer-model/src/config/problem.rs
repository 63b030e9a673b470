//! What can be wrong with a configuration, and where.

use std::path::PathBuf;
use std::{fmt, io};

use super::generation::Generation;

/// A place in a configuration file, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character within the line.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not there or may not be read.
    #[error("cannot read the changer configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file says something that cannot be understood.
    #[error("{}:{position}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: Position,
        /// What is wrong and what would be right.
        problem: ConfigProblem,
    },
    /// Something that must be there is missing.
    #[error("{}: {problem}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing.
        problem: ConfigProblem,
    },
}

/// What is wrong at a place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// The text is not UTF-8.
    #[error("the file is not UTF-8 text")]
    NotUtf8,
    /// A `[section]`.
    #[error("sections in brackets are not known here; remove the line")]
    Section,
    /// A line without `=`.
    #[error("expected 'key = value', found {text:?}")]
    NoEquals {
        /// The line.
        text: String,
    },
    /// A quote without its end.
    #[error("this quote is not closed on its line")]
    OpenQuote,
    /// Text behind a quoted value.
    #[error("unexpected {text:?} after the closing quote")]
    AfterQuote {
        /// The text.
        text: String,
    },
    /// A key nobody knows.
    #[error("unknown key {key:?}{}", suggestion.as_ref().map(|s| format!("; did you mean {s:?}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest known one.
        suggestion: Option<String>,
    },
    /// A key of the other generation.
    #[error("{key:?} belongs to vchanger {theirs}, but this file is of {ours}{}", instead.as_ref().map(|s| format!("; write {s:?}")).unwrap_or_default())]
    OtherGeneration {
        /// The key.
        key: String,
        /// The generation that knows it.
        theirs: Generation,
        /// The generation of the file.
        ours: Generation,
        /// What the same setting is called in the file's generation.
        instead: Option<String>,
    },
    /// An empty value where one is needed.
    #[error("{key:?} must not be empty")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A value outside its range.
    #[error("{key:?} must be {expected}, not {found:?}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// No magazine at all.
    #[error("no magazine is configured; add a line 'Magazine = UUID:...' or 'Magazine = /directory'")]
    NoMagazine,
}

impl ConfigProblem {
    /// Whether it is of a value of this key, by the key's name in either generation.
    pub(super) fn is_of(&self, name: &str) -> bool {
        match self {
            Self::Empty { key } | Self::BadValue { key, .. } => key.eq_ignore_ascii_case(name),
            _ => false,
        }
    }
}
