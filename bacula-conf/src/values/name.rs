//! Names and addresses that are safe in configuration files and in console commands.

use std::fmt::{self, Display, Formatter};
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name, path or command that Bacula 9.6 takes, in bytes (`MAX_NAME_LENGTH` less its final zero).
pub const MAX_LENGTH: usize = 127;

/// A resource's name: 1 to 127 letters, digits, blanks, `.`, `:`, `-` or `_`, starting with a letter or digit and not
/// ending with a blank.
///
/// Narrower than Bacula: such a name can stand in a console command in plain quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A host name or an IP address, as it stands in `Address =`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

/// A name or address that can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing.
    #[error("the {what} is empty")]
    Empty {
        /// `name` or `address`.
        what: &'static str,
    },
    /// Longer than Bacula takes.
    #[error("the {what} {text:?} has {} bytes; Bacula takes at most {MAX_LENGTH}", .text.len())]
    TooLong {
        /// `name` or `address`.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// A character that doesn't belong there.
    #[error(
        "the {what} {text:?} holds {found:?}; use letters, digits, '.', ':', '-' and '_', a letter or digit first{}",
        if *what == "name" { ", and blanks inside" } else { "" }
    )]
    Character {
        /// `name` or `address`.
        what: &'static str,
        /// What was given.
        text: String,
        /// The first wrong character.
        found: char,
    },
}

fn checked(what: &'static str, text: String) -> Result<String, NameError> {
    let Some(first) = text.chars().next() else { return Err(NameError::Empty { what }) };
    let blank = what == "name" && !text.ends_with(' ');
    let wrong =
        |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_') || (blank && *c == ' '));
    let found = if first.is_ascii_alphanumeric() || (what == "address" && first == ':') {
        text.chars().find(wrong)
    } else {
        Some(first)
    };
    if let Some(found) = found {
        return Err(NameError::Character { what, text, found });
    }
    if text.len() > MAX_LENGTH {
        return Err(NameError::TooLong { what, text });
    }
    Ok(text)
}

macro_rules! text_type {
    ($($type:ident $what:literal),*) => { $(
        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// Says which character is wrong, or that it is empty or too long.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                checked($what, text.into()).map(Self)
            }

            /// A text known when the program was written.
            pub(crate) fn known(text: &'static str) -> Self {
                debug_assert!(checked($what, text.to_owned()).is_ok());
                Self(text.to_owned())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    )* };
}
text_type!(Name "name", Address "address");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_change_a_file_or_a_command() {
        for text in
            ["", " a", "a ", "a\tb", "a\"", "a\nb", "a;b", "@|rm", "a{", "-x", "ä", ".api", &"x".repeat(128)]
        {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        for text in ["c0", "Offsite-eSATA", "backup-dir", "2nd.pool", "USB Autochanger", &"x".repeat(127)] {
            assert!(Name::new(text).is_ok(), "{text:?}");
        }
        assert!(Address::new("::1").is_ok());
        assert!(Address::new("storage.example.org").is_ok());
        assert!(Address::new("a b").is_err());
    }
}
