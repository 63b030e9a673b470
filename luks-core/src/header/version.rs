//! Versions of the LUKS format.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::key_slot::KeySlot;

/// The version of the on-disk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LuksVersion {
    /// One header, 8 slots, PBKDF2 only, no labels; what the tutorial of 2010 made.
    Luks1,
    /// Two copies of the header with checksums, 32 slots, Argon2id, labels.
    #[default]
    Luks2,
}

impl LuksVersion {
    /// How many key slots there are: 8 or 32.
    pub fn slot_count(self) -> u8 {
        match self {
            Self::Luks1 => 8,
            Self::Luks2 => 32,
        }
    }

    pub(crate) fn has_slot(self, slot: KeySlot) -> bool {
        slot.get() < self.slot_count()
    }
}

impl fmt::Display for LuksVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Luks1 => "LUKS1",
            Self::Luks2 => "LUKS2",
        })
    }
}
