//! The identifier inside a filesystem's superblock, as text.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The UUID of a filesystem, in the form that udev (`ID_FS_UUID`) and `blkid -s UUID` print.
///
/// Most filesystems carry an RFC 9562 UUID of 36 characters, but FAT (`7A1B-03C4`), NTFS (16 hexadecimal digits) and
/// ISO 9660 (a time stamp) do not, so this is text: 1 to [`FsUuid::MAX_LEN`] ASCII letters, digits, `-` and `_`, not
/// starting with `-`. Such a text is always a safe single path component. It is compared without regard to case and
/// displayed as it was given.
///
/// ```
/// use mount_by_uuid::FsUuid;
///
/// let fat: FsUuid = "7A1B-03C4".parse()?;
/// assert_eq!(fat, "7a1b-03c4".parse()?);
/// assert!("../etc".parse::<FsUuid>().is_err());
/// # Ok::<(), mount_by_uuid::FsUuidError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FsUuid(String);

impl FsUuid {
    /// The greatest length in bytes.
    pub const MAX_LEN: usize = 64;

    /// Returns the text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

/// Why a text is not a filesystem UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FsUuidError {
    /// The text is empty.
    #[error("the filesystem UUID is empty; `blkid` prints the UUID of a device")]
    Empty,
    /// The text is longer than [`FsUuid::MAX_LEN`] bytes.
    #[error(
        "the filesystem UUID has {len} bytes, more than the {} that any filesystem uses",
        FsUuid::MAX_LEN
    )]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A character can't be part of a filesystem UUID.
    #[error(
        "character {character:?} at byte {at} can't be in a filesystem UUID; letters, digits, '-' and '_' can"
    )]
    Character {
        /// The character.
        character: char,
        /// Its byte offset from 0.
        at: usize,
    },
}

impl FromStr for FsUuid {
    type Err = FsUuidError;

    fn from_str(text: &str) -> Result<FsUuid, FsUuidError> {
        FsUuid::try_from(text.to_owned())
    }
}

impl TryFrom<String> for FsUuid {
    type Error = FsUuidError;

    fn try_from(text: String) -> Result<FsUuid, FsUuidError> {
        if text.is_empty() {
            return Err(FsUuidError::Empty);
        }
        if text.len() > FsUuid::MAX_LEN {
            return Err(FsUuidError::TooLong { len: text.len() });
        }
        let allowed = |at: usize, c: char| c.is_ascii_alphanumeric() || c == '_' || (c == '-' && at > 0);
        match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
            Some((at, character)) => Err(FsUuidError::Character { character, at }),
            None => Ok(FsUuid(text)),
        }
    }
}

impl From<FsUuid> for String {
    fn from(uuid: FsUuid) -> String {
        uuid.0
    }
}

impl fmt::Display for FsUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq for FsUuid {
    fn eq(&self, other: &FsUuid) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for FsUuid {}

impl PartialOrd for FsUuid {
    fn partial_cmp(&self, other: &FsUuid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FsUuid {
    fn cmp(&self, other: &FsUuid) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl Hash for FsUuid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().for_each(|byte| state.write_u8(byte));
        state.write_u8(0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashSet};

    fn uuid(text: &str) -> FsUuid {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_that_blkid_prints_is_accepted() {
        for text in [
            "3f1e2a60-6f5c-4b0e-9a52-8d3c1b7f0e11",
            "7A1B-03C4",
            "01D9A3F24C5B6E70",
            "2024-05-17-09-12-33-00",
            "12345678901234567890",
        ] {
            assert_eq!(uuid(text).to_string(), text);
        }
    }

    #[test]
    fn what_could_leave_a_directory_is_refused() {
        for text in ["", ".", "..", "a/b", "a.b", "-rf", "a b", "a\n", "a\0", "\u{7f}", "é"] {
            assert!(text.parse::<FsUuid>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("a".repeat(65).parse::<FsUuid>(), Err(FsUuidError::TooLong { len: 65 }));
        assert_eq!("ab/c".parse::<FsUuid>(), Err(FsUuidError::Character { character: '/', at: 2 }));
    }

    #[test]
    fn case_matters_neither_for_equality_nor_for_hash_nor_for_order() {
        let (upper, lower) = (uuid("7A1B-03C4"), uuid("7a1b-03c4"));
        assert_eq!(upper, lower);
        assert_eq!(HashSet::from([upper.clone(), lower.clone()]).len(), 1);
        assert_eq!(BTreeSet::from([upper, lower]).len(), 1);
        assert!(uuid("a") < uuid("B"));
    }

    #[test]
    fn serde_checks_what_it_reads() {
        let read: FsUuid = serde_json::from_str("\"7A1B-03C4\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"7A1B-03C4\"");
        assert!(serde_json::from_str::<FsUuid>("\"../x\"").is_err());
    }
}
