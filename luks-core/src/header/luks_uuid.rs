//! The UUID in a LUKS header.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UUID that a LUKS header carries; not the UUID of the filesystem inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LuksUuid(Uuid);

/// The text is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no LUKS UUID, expected the form 01234567-89ab-cdef-0123-456789abcdef")]
pub struct ParseLuksUuidError {
    text: String,
}

impl LuksUuid {
    /// Wraps a UUID.
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Makes a random UUID (version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The plain UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for LuksUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for LuksUuid {
    type Err = ParseLuksUuidError;

    /// Reads a UUID with or without hyphens, in lower or upper case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| ParseLuksUuidError { text: text.to_owned() })
    }
}

impl From<Uuid> for LuksUuid {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_lower_case_and_reads_both() {
        let text = "01234567-89AB-CDEF-0123-456789ABCDEF";
        let uuid: LuksUuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text.to_lowercase());
        assert_eq!(text.replace('-', "").parse(), Ok(uuid));
        assert!("01234567".parse::<LuksUuid>().is_err());
    }
}
