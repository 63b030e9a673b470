//! Copies of headers.

use std::io;
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::vals::EncryptionFormat;

use crate::container::{Container, LoadError, read_header};
use crate::key_slot::KeySlot;
use crate::luks_uuid::LuksUuid;
use crate::new_file::Draft;
use crate::session::CryptsetupError;

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
        if let Ok(there) = Self::load(dest)
            && there.uuid != self.uuid
        {
            return Err(BackupError::OtherBackup { path: dest.to_owned(), found: there.uuid });
        }
        self.draft_backup(dest)?.replace().map_err(|source| save_error(dest, source))
    }

    fn draft_backup(&self, dest: &Path) -> Result<Draft, BackupError> {
        let draft = Draft::beside(dest).map_err(|source| save_error(dest, source))?;
        let (_, mut session) = self.reopen()?;
        session
            .call(|device| device.backup_handle().header_backup(None::<EncryptionFormat>, draft.path()))
            .map_err(|source| BackupError::Failed { device: self.device.clone(), source })?;
        drop(session);
        let copy = Self::load(draft.path())
            .map_err(|source| BackupError::NotConfirmed { device: self.device.clone(), source })?;
        if copy.uuid != self.uuid {
            return Err(BackupError::WrongContainer { device: self.device.clone(), found: copy.uuid });
        }
        Ok(draft)
    }

    /// Whether a backup says the same as the header on the device now.
    ///
    /// Compared is what describes the container and its key slots, which every change of a slot changes; the key
    /// material itself (megabytes) isn't read.
    ///
    /// # Errors
    /// As [`Container::load`], for the device and for the backup.
    pub fn is_backed_up_by(&self, backup: &Path) -> Result<bool, LoadError> {
        let copy = Self::load(backup)?;
        let (now, _session) = self.reopen()?;
        Ok(copy.uuid == self.uuid && read_header(backup)? == now)
    }

    /// The slots in use that a backup describes as the header on the device does, down to their random salts: the same
    /// keys were put into them, whether or not the key material is still there.
    ///
    /// # Errors
    /// As [`Container::load`], for the device and for the backup.
    pub fn slots_alike(&self, backup: &Path) -> Result<Vec<KeySlot>, LoadError> {
        let copy = Self::load(backup)?;
        let (now, _session) = self.reopen()?;
        let then = read_header(backup)?;
        let slots = KeySlot::first(self.version.slot_count());
        Ok(slots.filter(|slot| copy.uuid == self.uuid && now.has_slot_of(&then, *slot)).collect())
    }
}

fn save_error(dest: &Path, source: io::Error) -> BackupError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists { path: dest.to_owned() },
        _ => BackupError::Save { path: dest.to_owned(), source },
    }
}
