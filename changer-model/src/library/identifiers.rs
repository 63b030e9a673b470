//! Numbers and names that must not be mixed up.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// A slot of the virtual library, counted from 1 as Bacula counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(NonZeroU32);

impl Slot {
    /// Makes a slot of a number; zero is no slot.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number Bacula uses, from 1.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A virtual drive, counted from 0 as Bacula's `Drive Index` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DriveIndex(u32);

impl DriveIndex {
    /// The highest drive number accepted; `LISTALL` prints a line for each drive up to the highest one.
    pub const HIGHEST: u32 = 9_999;

    /// Makes a drive index of a number up to [`DriveIndex::HIGHEST`].
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::HIGHEST).then_some(Self(number))
    }

    /// The number, from 0.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for DriveIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the configuration calls a magazine: `UUID:` with the file system's UUID in lower case, or a directory.
///
/// It keeps its meaning when the order of the configuration's lines changes, so the state is kept by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MagazineId(String);

impl MagazineId {
    /// Normalizes a `Magazine` line's value: `UUID:` and the UUID ignore case, a directory loses trailing slashes.
    pub fn new(text: &str) -> Self {
        match text.split_at_checked(5) {
            Some((prefix, uuid)) if prefix.eq_ignore_ascii_case("uuid:") => {
                Self(format!("UUID:{}", uuid.trim().to_ascii_lowercase()))
            }
            _ => {
                let trimmed = text.trim_end_matches('/');
                Self(if trimmed.is_empty() { text.to_owned() } else { trimmed.to_owned() })
            }
        }
    }

    /// Stands for a line that names no magazine; it is no UUID and no directory.
    pub(crate) fn unusable(text: &str) -> Self {
        Self(format!("invalid: {}", text.escape_debug()))
    }

    /// The file system's UUID, when the magazine is named by one.
    pub fn uuid(&self) -> Option<&str> {
        self.0.strip_prefix("UUID:")
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MagazineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume's name as Bacula's catalog knows it: 1 to 127 of `A-Z a-z 0-9 : . - _`.
///
/// The rule is Bacula's `is_volume_name_legal`; text that keeps it can stand in a console command and in a
/// path without quoting, but for the two names of directories, which are refused too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// The longest name Bacula accepts, in bytes.
    pub const LONGEST: usize = 127;

    /// Checks a name.
    ///
    /// # Errors
    /// [`IllegalVolumeName`] when it is empty, too long, a directory's name, or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, IllegalVolumeName> {
        let text = text.into();
        let legal = !text.is_empty()
            && text.len() <= Self::LONGEST
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-_".contains(&b));
        if legal { Ok(Self(text)) } else { Err(IllegalVolumeName { name: text }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The magazine's and the slot's number in a name of the 0.8 generation, `CHANGER_MMMM_SSSS`.
    pub(crate) fn numbers(&self) -> Option<(u32, u32)> {
        let number = |digits: &str| {
            let plain = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        let (before, slot) = self.0.rsplit_once('_')?;
        let (_changer, magazine) = before.rsplit_once('_')?;
        Some((number(magazine)?, number(slot)?))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = IllegalVolumeName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

/// A text that Bacula would not take as a volume's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no volume name: 1 to 127 of A-Z a-z 0-9 : . - _ are allowed")]
pub struct IllegalVolumeName {
    /// The text.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magazine_ids_ignore_what_the_peer_ignores() {
        assert_eq!(MagazineId::new("uuid:ABCD-12"), MagazineId::new("UUID:abcd-12"));
        assert_eq!(MagazineId::new("/mnt/a//"), MagazineId::new("/mnt/a"));
        assert_eq!(MagazineId::new("/").as_str(), "/");
        assert_eq!(MagazineId::new("/mnt/a").uuid(), None);
        assert_eq!(MagazineId::new("Uuid:X").uuid(), Some("x"));
    }

    #[test]
    fn volume_names_follow_bacula() {
        for good in ["a", "c0_0001_0001", "A:b.c-d_e", &"x".repeat(127)] {
            assert!(VolumeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a+b", "ä", "a\n", "a;b", &"x".repeat(128)] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_the_old_generation_have_two_numbers() {
        let numbers = |text: &str| VolumeName::new(text).expect("legal").numbers();
        assert_eq!(numbers("c0_0001_0069"), Some((1, 69)));
        assert_eq!(numbers("my_changer_0012_10000"), Some((12, 10_000)));
        for other in ["c0", "c0_0001", "c0_1_0069", "c0_0001_x", "c0_0001_69", "c0_A_0001"] {
            assert_eq!(numbers(other), None, "{other}");
        }
    }
}
