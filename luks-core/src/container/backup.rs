//! Copies of headers.

use std::io;
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::vals::EncryptionFormat;

use super::judged::Header;
use super::load_error::LoadError;
use super::loaded::Container;
use super::slots::TestKeyError;
use crate::crypt::session::{CryptsetupError, Session};
use crate::header::key_slot::KeySlot;
use crate::header::luks_uuid::LuksUuid;
use crate::secret::bytes::Secret;
use crate::secret::new_file::Draft;

/// Why a header was not backed up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The path is taken; a backup is never overwritten.
    #[error("{} exists and is not overwritten; choose another path", path.display())]
    Exists {
        /// The taken path.
        path: PathBuf,
    },
    /// The backup that would be replaced is another container's.
    #[error("{} is the header of container {found} and is not overwritten; choose another path", path.display())]
    OtherBackup {
        /// The backup.
        path: PathBuf,
        /// The container that it is of.
        found: LuksUuid,
    },
    /// libcryptsetup failed.
    #[error("cannot back up the header of {}: {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The file could not be written.
    #[error("cannot save the header backup {}: {source}", path.display())]
    Save {
        /// The path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// What was written is no sound header.
    #[error("the header backup of {} can't be read back, no backup was made", device.display())]
    NotConfirmed {
        /// The container.
        device: PathBuf,
        /// The reason.
        #[source]
        source: LoadError,
    },
    /// No key opens what was written.
    #[error("the header backup of {} isn't opened by the key, no backup was made", device.display())]
    NotOpened {
        /// The container.
        device: PathBuf,
        /// The reason.
        #[source]
        source: TestKeyError,
    },
    /// What was written is another container's header.
    #[error("the header backup of {} holds container {found}, no backup was made", device.display())]
    WrongContainer {
        /// The container.
        device: PathBuf,
        /// What was found in the backup.
        found: LuksUuid,
    },
}

impl Container {
    /// Copies the header with all key slots into a new file of mode 0400, in the form of `cryptsetup
    /// luksHeaderBackup`.
    ///
    /// The file appears whole, synced and read back, or not at all. Whoever has it and one of the keys it had can open
    /// the drive, also after that key was removed from the drive: keep it as safe as the drive.
    ///
    /// # Errors
    /// [`BackupError::Exists`] when `dest` is taken.
    pub fn backup_header(&self, dest: &Path) -> Result<(), BackupError> {
        if dest.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: dest.to_owned() });
        }
        self.draft_backup(dest)?.publish().map_err(|source| save_error(dest, source))
    }

    /// As [`Container::backup_header`], but replaces the backup of the same container that is at `dest`; at every
    /// moment the old one or the new one is there.
    ///
    /// # Errors
    /// [`BackupError::OtherBackup`] when `dest` is the sound header of another container.
    pub fn renew_backup(&self, dest: &Path) -> Result<(), BackupError> {
        self.header()?.draft_renewal(dest)?.replace().map_err(|source| save_error(dest, source))
    }

    fn draft_backup(&self, dest: &Path) -> Result<Draft, BackupError> {
        self.header()?.draft_backup(dest)
    }

    /// Whether a backup says the same as the header on the device now.
    ///
    /// Compared is what describes the container and its key slots, which every change of a slot changes; the key
    /// material itself (megabytes) isn't read.
    ///
    /// # Errors
    /// As [`Container::load`], for the device and for the backup.
    pub fn is_backed_up_by(&self, backup: &Path) -> Result<bool, LoadError> {
        let copy = Header::read(backup)?;
        Ok(copy.uuid() == self.uuid && copy.says_the_same(&self.header()?))
    }

    /// The slots in use that a backup describes as the header on the device does, down to their random salts: the same
    /// keys were put into them, whether or not the key material is still there.
    ///
    /// # Errors
    /// As [`Container::load`], for the device and for the backup.
    pub fn slots_alike(&self, backup: &Path) -> Result<Vec<KeySlot>, LoadError> {
        let (then, now) = (Header::read(backup)?, self.header()?);
        let slots = KeySlot::first(self.version.slot_count());
        let alike = |slot: &KeySlot| now.enrolment().has_slot_of(then.enrolment(), *slot);
        Ok(slots.filter(|slot| then.uuid() == self.uuid && alike(slot)).collect())
    }
}

impl Header {
    /// Makes this header, the bytes that were judged, the backup at `dest`, where none or one of the same container is; at
    /// every moment the old one or the new one is there. Key material is read now, and one of the keys has opened the new
    /// backup before it takes the old one's place.
    ///
    /// # Errors
    /// [`BackupError::OtherBackup`] when `dest` is the sound header of another container, [`BackupError::NotOpened`] when no
    /// key opens the new backup.
    pub fn renew_backup(&self, dest: &Path, keys: &[&Secret]) -> Result<(), BackupError> {
        let draft = self.draft_renewal(dest)?;
        let copy = Self::read(draft.path())?;
        copy.test_keys(keys)
            .map_err(|source| BackupError::NotOpened { device: self.device().to_owned(), source })?;
        draft.replace().map_err(|source| save_error(dest, source))
    }

    fn draft_renewal(&self, dest: &Path) -> Result<Draft, BackupError> {
        match Self::read(dest) {
            Ok(there) if there.uuid() != self.uuid() => {
                Err(BackupError::OtherBackup { path: dest.to_owned(), found: there.uuid() })
            }
            _ => self.draft_backup(dest),
        }
    }

    fn draft_backup(&self, dest: &Path) -> Result<Draft, BackupError> {
        let device = || self.device().to_owned();
        let refused = |source| BackupError::Load(LoadError::Refused { device: device(), source });
        let draft = Draft::beside(dest).map_err(|source| save_error(dest, source))?;
        let copied = self.copied().map_err(|source| LoadError::Read { device: device(), source })?;
        let mut session = Session::init(copied.path()).map_err(refused)?;
        session.load().map_err(refused)?;
        session
            .call(|handle| handle.backup_handle().header_backup(None::<EncryptionFormat>, draft.path()))
            .map_err(|source| BackupError::Failed { device: device(), source })?;
        drop(session);
        let copy = Container::load(draft.path())
            .map_err(|source| BackupError::NotConfirmed { device: device(), source })?;
        if copy.uuid() != self.uuid() {
            return Err(BackupError::WrongContainer { device: device(), found: copy.uuid() });
        }
        Ok(draft)
    }
}

fn save_error(dest: &Path, source: io::Error) -> BackupError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists { path: dest.to_owned() },
        _ => BackupError::Save { path: dest.to_owned(), source },
    }
}
