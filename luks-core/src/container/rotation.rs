//! Exchanging a key for another one.

use std::path::PathBuf;

use super::loaded::Container;
use super::slots::{AddKeyError, KillSlotError, TestKeyError};
use crate::crypt::pbkdf::SecretKind;
use crate::header::key_slot::KeySlot;
use crate::secret::bytes::Secret;

/// What an exchange of keys did; nothing when it had been done before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotated {
    /// A slot that the new key opens.
    pub slot: KeySlot,
    /// Whether the new key was added now.
    pub added: bool,
    /// The slots of the old key that were removed now.
    pub removed: Vec<KeySlot>,
}

/// Why a key was not exchanged; at least one of the two keys opens the container in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// Both keys are the same.
    #[error("the old and the new key of {} are the same; generate a new key first", device.display())]
    SameKey {
        /// The container.
        device: PathBuf,
    },
    /// The keys could not be tested.
    #[error(transparent)]
    Test(#[from] TestKeyError),
    /// The new key could not be added.
    #[error(transparent)]
    Add(#[from] AddKeyError),
    /// A slot of the old key could not be removed.
    #[error(transparent)]
    Kill(#[from] KillSlotError),
}

impl Container {
    /// All slots that a key opens, none when it is a wrong one.
    ///
    /// # Errors
    /// Never [`TestKeyError::WrongKey`].
    pub fn slots_opened_by(&self, key: &Secret) -> Result<Vec<KeySlot>, TestKeyError> {
        let mut opened = Vec::new();
        for info in self.slots()?.into_iter().filter(crate::SlotInfo::is_active) {
            if self.test_key_in(key, info.slot)? {
                opened.push(info.slot);
            }
        }
        Ok(opened)
    }

    /// Puts a new key in the place of an old one: adds the new one, tests it from the disk, and only then removes every
    /// slot of the old one.
    ///
    /// Interrupted anywhere, it goes on where it was when it is called again; when all is done it changes nothing. Back
    /// the header up before ([`Container::backup_header`]), and throw that backup away once the new header's is safe:
    /// the old key opens it for ever.
    ///
    /// # Errors
    /// [`RotateError::SameKey`], or what the single steps may say.
    pub fn rotate_key(&self, old: &Secret, new: &Secret, kind: SecretKind) -> Result<Rotated, RotateError> {
        if old.expose() == new.expose() {
            return Err(RotateError::SameKey { device: self.device.clone() });
        }
        let (slot, added) = match self.test_key(new) {
            Ok(slot) => (slot, false),
            Err(TestKeyError::WrongKey { .. }) => (self.add_key(old, new, kind, None)?, true),
            Err(error) => return Err(error.into()),
        };
        let removed = self.slots_opened_by(old)?;
        for slot in &removed {
            self.kill_slot(*slot, new)?;
        }
        Ok(Rotated { slot, added, removed })
    }
}
