//! Numbers of key slots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a key slot, 0 to 31; LUKS1 has 0 to 7 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct KeySlot(u8);

/// The number or text is no key slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no key slot, expected a number from 0 to 31")]
pub struct KeySlotError {
    text: String,
}

impl KeySlot {
    /// Slot 0, where the tutorial puts its temporary passphrase.
    pub const ZERO: Self = Self(0);
    /// Slot 1, where the key file lives.
    pub const ONE: Self = Self(1);
    /// Slot 2, where a recovery key lives.
    pub const TWO: Self = Self(2);

    /// The slot of this number; `None` above 31.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 { Some(Self(number)) } else { None }
    }

    /// The number, 0 to 31.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Every slot from 0 up to (not including) `count`, at most 32.
    pub(crate) fn first(count: u8) -> impl Iterator<Item = Self> {
        (0..count.min(32)).map(Self)
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeySlot {
    type Err = KeySlotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KeySlotError { text: text.to_owned() };
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        text.parse().ok().and_then(Self::new).ok_or_else(error)
    }
}

impl TryFrom<u8> for KeySlot {
    type Error = KeySlotError;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or_else(|| KeySlotError { text: number.to_string() })
    }
}

impl From<KeySlot> for u8 {
    fn from(slot: KeySlot) -> Self {
        slot.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_0_to_31_are_slots() {
        for number in 0..=u8::MAX {
            assert_eq!(KeySlot::new(number).is_some(), number < 32);
            assert_eq!(number.to_string().parse::<KeySlot>().is_ok(), number < 32);
        }
        for text in ["", "-1", "+1", " 1", "1 ", "0x1", "one"] {
            assert!(text.parse::<KeySlot>().is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&KeySlot::TWO).unwrap(), "2");
        assert!(serde_json::from_str::<KeySlot>("32").is_err());
    }
}
