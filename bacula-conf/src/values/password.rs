//! Passwords: handed in by the caller, shown nowhere.

use thiserror::Error;
use zeroize::Zeroizing;

use super::name::MAX_LENGTH;

/// A password of 1 to 127 printable ASCII characters; wiped from memory when dropped.
pub struct Password(Zeroizing<String>);

/// A password that can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a password needs 1 to {MAX_LENGTH} printable ASCII characters without line breaks")]
#[non_exhaustive]
pub struct PasswordError;

impl Password {
    /// Checks a password.
    ///
    /// # Errors
    /// It is empty, too long, or holds something other than printable ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text.into());
        let fits = (1..=MAX_LENGTH).contains(&text.len());
        if fits && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Self(text))
        } else {
            Err(PasswordError)
        }
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The passwords that two daemons, or a daemon and a console, have to share.
pub struct Passwords {
    /// Of the Director's default console: bacula-dir.conf and bconsole.conf.
    pub director: Password,
    /// Between Director and storage daemon.
    pub storage: Password,
    /// Between Director and file daemon.
    pub client: Password,
    /// Of the restricted console that the changer uses.
    pub console: Password,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_a_configuration_can_hold() {
        assert!(Password::new("a \"b\" \\ c").is_ok());
        for text in ["", "a\nb", "ü", &"x".repeat(128)] {
            assert!(Password::new(text).is_err(), "{text:?}");
        }
    }
}
