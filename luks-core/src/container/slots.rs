//! Testing, adding and removing keys.

use std::path::PathBuf;

use libcryptsetup_rs::consts::flags::CryptVolumeKey;
use libcryptsetup_rs::{CryptDevice, Either};

use super::load_error::LoadError;
use super::loaded::Container;
use crate::crypt::pbkdf::{self, SecretKind};
use crate::crypt::session::{CryptsetupError, Session};
use crate::header::disk_header::flush;
use crate::header::key_slot::KeySlot;
use crate::header::slot_info::SlotState;
use crate::header::version::LuksVersion;
use crate::secret::bytes::Secret;

/// Why a key was not found to open a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestKeyError {
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The key opens no slot.
    #[error("the key opens no slot of {}; is it the key of this drive?", device.display())]
    WrongKey {
        /// The container.
        device: PathBuf,
    },
    /// libcryptsetup failed otherwise.
    #[error("cannot test a key on {}: {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddKeyError {
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The authorising key opens no slot.
    #[error("the authorising key opens no slot of {}; use a key that the drive already takes", device.display())]
    WrongKey {
        /// The container.
        device: PathBuf,
    },
    /// The volume key is another container's.
    #[error("the volume key isn't that of {}; is it the right drive?", device.display())]
    WrongVolumeKey {
        /// The container.
        device: PathBuf,
    },
    /// The slot has a key already.
    #[error("slot {slot} of {} is occupied; choose another slot, or remove its key first", device.display())]
    Occupied {
        /// The container.
        device: PathBuf,
        /// The slot.
        slot: KeySlot,
    },
    /// This version of LUKS has fewer slots.
    #[error("{version} has no slot {slot}; choose one below {}", version.slot_count())]
    NoSuchSlot {
        /// The version.
        version: LuksVersion,
        /// The asked slot.
        slot: KeySlot,
    },
    /// No slot is free. (That an unusually small header has no room for key material is [`AddKeyError::Failed`].)
    #[error("no slot of {} is free; remove a key first", device.display())]
    Full {
        /// The container.
        device: PathBuf,
    },
    /// libcryptsetup failed otherwise.
    #[error("cannot add a key to {}: {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The change was made but could not be confirmed from the disk.
    #[error("the key was added to {} but not confirmed by reading it back: {reason}; check the drive", device.display())]
    NotConfirmed {
        /// The container.
        device: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Why a slot was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillSlotError {
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no key in the slot.
    #[error("slot {slot} of {} is empty", device.display())]
    Empty {
        /// The container.
        device: PathBuf,
        /// The slot.
        slot: KeySlot,
    },
    /// It is the last key.
    #[error("slot {slot} is the last key of {}, without it the data is lost; add another key first", device.display())]
    Last {
        /// The container.
        device: PathBuf,
        /// The slot.
        slot: KeySlot,
    },
    /// The authorising key opens no other slot.
    #[error(
        "the key given opens no slot of {} other than {slot}; give a key that goes on opening it",
        device.display()
    )]
    NotAuthorised {
        /// The container.
        device: PathBuf,
        /// The slot that was to be removed.
        slot: KeySlot,
    },
    /// libcryptsetup failed otherwise.
    #[error("cannot remove slot {slot} of {}: {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// The slot.
        slot: KeySlot,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The change was made but could not be confirmed from the disk.
    #[error("slot {slot} of {} was removed but not confirmed by reading back: {reason}; check the drive", device.display())]
    NotConfirmed {
        /// The container.
        device: PathBuf,
        /// The slot.
        slot: KeySlot,
        /// What went wrong.
        reason: String,
    },
}

impl Container {
    /// Finds the slot that a key opens, without opening the container.
    ///
    /// # Errors
    /// [`TestKeyError::WrongKey`] when it opens none.
    pub fn test_key(&self, key: &Secret) -> Result<KeySlot, TestKeyError> {
        self.header()?.test_keys(&[key]).map(|opened| opened.slot)
    }

    /// Whether a key opens one particular slot; `false` also when the slot is empty.
    ///
    /// # Errors
    /// Never [`TestKeyError::WrongKey`].
    pub fn test_key_in(&self, key: &Secret, slot: KeySlot) -> Result<bool, TestKeyError> {
        self.header()?.test_key_in(key, slot)
    }

    /// Adds a key, authorised by one that opens the container already; in the given slot or the first free one.
    ///
    /// Back the header up before ([`Container::backup_header`]). Afterwards the new key has been tested against the
    /// header on the disk.
    ///
    /// # Errors
    /// [`AddKeyError::WrongKey`] when `auth` opens no slot, [`AddKeyError::Occupied`] when the slot is taken.
    pub fn add_key(
        &self,
        auth: &Secret,
        new: &Secret,
        kind: SecretKind,
        slot: Option<KeySlot>,
    ) -> Result<KeySlot, AddKeyError> {
        // The drive is asked for nothing but to take the new key: what opens it was found in the bytes that were judged.
        let volume_key = match self.header()?.volume_key(auth) {
            Ok((_slot, volume_key)) => volume_key,
            Err(TestKeyError::Load(error)) => return Err(error.into()),
            Err(TestKeyError::WrongKey { device }) => return Err(AddKeyError::WrongKey { device }),
            Err(TestKeyError::Failed { device, source }) => {
                return Err(AddKeyError::Failed { device, source });
            }
        };
        self.add_key_by_volume_key(&volume_key, new, kind, slot)
    }

    /// As [`Container::add_key`], authorised by the volume key itself: for who has kept it (`cryptsetup luksDump
    /// --dump-volume-key --volume-key-file PATH`) and lost every key.
    ///
    /// # Errors
    /// [`AddKeyError::WrongVolumeKey`] when it is another container's.
    pub fn add_key_by_volume_key(
        &self,
        volume_key: &Secret,
        new: &Secret,
        kind: SecretKind,
        slot: Option<KeySlot>,
    ) -> Result<KeySlot, AddKeyError> {
        let device = || self.device.clone();
        let failed = |source| AddKeyError::Failed { device: device(), source };
        let mut session = self.header()?.session_to_change()?;
        let slot = self.free_slot(&mut session, slot)?;
        session.call(|device| pbkdf::choose(device, kind, self.version)).map_err(failed)?;
        let put = |device: &mut CryptDevice| {
            device.keyslot_handle().add_by_key(
                Some(slot.get().into()),
                Some(Either::Left(volume_key.expose())),
                new.expose(),
                CryptVolumeKey::empty(),
            )
        };
        session.call(put).map_err(|source| match source {
            wrong if wrong.is(libc::EPERM) => AddKeyError::WrongVolumeKey { device: device() },
            source => failed(source),
        })?;
        drop(session);
        self.confirm_key(new, slot)
            .map_err(|reason| AddKeyError::NotConfirmed { device: device(), reason })?;
        Ok(slot)
    }

    fn free_slot(&self, session: &mut Session, slot: Option<KeySlot>) -> Result<KeySlot, AddKeyError> {
        if let Some(slot) = slot {
            if !self.version.has_slot(slot) {
                return Err(AddKeyError::NoSuchSlot { version: self.version, slot });
            }
            return match self.slot_state(session, slot)? {
                SlotState::Empty => Ok(slot),
                _ => Err(AddKeyError::Occupied { device: self.device.clone(), slot }),
            };
        }
        for slot in KeySlot::first(self.version.slot_count()) {
            if self.slot_state(session, slot)? == SlotState::Empty {
                return Ok(slot);
            }
        }
        Err(AddKeyError::Full { device: self.device.clone() })
    }

    /// Removes a key; `auth` must open another slot, which is tried in this very call.
    ///
    /// Back the header up before ([`Container::backup_header`]). Afterwards `auth` has been tested against the header
    /// on the disk.
    ///
    /// # Errors
    /// [`KillSlotError::Last`] for the last key and [`KillSlotError::NotAuthorised`] when `auth` opens no other slot;
    /// nothing is changed then.
    pub fn kill_slot(&self, slot: KeySlot, auth: &Secret) -> Result<(), KillSlotError> {
        let device = || self.device.clone();
        let failed = |source| KillSlotError::Failed { device: device(), slot, source };
        let header = self.header()?;
        let state = if self.version.has_slot(slot) {
            self.slot_state(&mut header.session_as_read()?, slot)?
        } else {
            SlotState::Empty
        };
        match state {
            SlotState::Empty => return Err(KillSlotError::Empty { device: device(), slot }),
            SlotState::ActiveLast => return Err(KillSlotError::Last { device: device(), slot }),
            SlotState::Active | SlotState::Unbound | SlotState::Invalid => {}
        }
        let mut others = header.slots();
        others.retain(|other| *other != slot);
        let remaining = header.test_in(&others, auth).map_err(|error| match error {
            TestKeyError::Load(error) => error.into(),
            TestKeyError::WrongKey { device } => KillSlotError::NotAuthorised { device, slot },
            TestKeyError::Failed { source, .. } => failed(source),
        })?;
        let mut session = header.session_to_change()?;
        session.call(|handle| handle.keyslot_handle().destroy(slot.get().into())).map_err(failed)?;
        drop(session);
        self.confirm_key(auth, remaining)
            .and_then(|()| match self.slots() {
                Ok(slots) if slots.iter().any(|info| info.slot == slot && info.state != SlotState::Empty) => {
                    Err("the slot is still there".to_owned())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
            .map_err(|reason| KillSlotError::NotConfirmed { device: device(), slot, reason })
    }

    /// Flushes the device and makes sure that a key opens a slot of the header that is on it.
    pub(crate) fn confirm_key(&self, key: &Secret, slot: KeySlot) -> Result<(), String> {
        flush(&self.device).map_err(|error| format!("flushing failed: {error}"))?;
        match self.test_key_in(key, slot) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the key doesn't open slot {slot}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
