//! Writing a header back from its backup.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::vals::EncryptionFormat;

use super::judged::Header;
use super::load_error::{LoadError, read_header};
use super::loaded::Container;
use super::slots::TestKeyError;
use crate::crypt::session::{CryptsetupError, Session};
use crate::header::disk_header::{self, DiskHeader, flush};
use crate::header::luks_uuid::LuksUuid;
use crate::header::target::Target;
use crate::header::{luks1_header, reencryption};
use crate::secret::bytes::Secret;

/// Why a header was not restored; nothing was written unless said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup is no sound header.
    #[error("the backup can't be used")]
    Backup {
        /// The reason.
        #[source]
        source: LoadError,
    },
    /// The backup is another container's.
    #[error("{} is the header of {found}, not of {expected}; look for the right backup", backup.display())]
    WrongBackup {
        /// The backup.
        backup: PathBuf,
        /// The container asked for.
        expected: LuksUuid,
        /// The container that the backup is of.
        found: LuksUuid,
    },
    /// The key opens no slot of the backup, so restoring it would lock the caller out.
    #[error("the key can't open the backup")]
    Key {
        /// The reason.
        #[source]
        source: TestKeyError,
    },
    /// The device can't be examined.
    #[error("cannot examine {}: {source}", device.display())]
    Examine {
        /// The device.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Somebody uses the device.
    #[error("{} is in use: {reason}; unmount and close it first", device.display())]
    InUse {
        /// The device.
        device: PathBuf,
        /// By whom.
        reason: String,
    },
    /// Another container is on the device.
    #[error("{} carries the intact container {found}, not {expected}; it is another drive", device.display())]
    OtherContainer {
        /// The device.
        device: PathBuf,
        /// The container asked for.
        expected: LuksUuid,
        /// The container on the device.
        found: LuksUuid,
    },
    /// The data on the device are being reencrypted; the header of before would make them unreadable.
    #[error(
        "a reencryption of {} is under way, so that no other header fits its data; end it: cryptsetup reencrypt --resume-only {}",
        device.display(),
        device.display()
    )]
    Reencryption {
        /// The device.
        device: PathBuf,
    },
    /// The device is smaller than the one that the header is of.
    #[error("{} has {size} bytes, its data would begin at {data_offset}; it is another drive", device.display())]
    TooSmall {
        /// The device.
        device: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Where the data would begin, in bytes.
        data_offset: u64,
    },
    /// The device can't be written; the header may be written in part.
    #[error("cannot write the header of {}: {source}; try again", device.display())]
    Write {
        /// The device.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// libcryptsetup failed; the header may be written in part.
    #[error("cannot write the header of {}: {source}; try again", device.display())]
    Failed {
        /// The device.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The header was written but not confirmed from the disk.
    #[error("the header of {} was written but not confirmed by reading it back: {reason}; try again", device.display())]
    NotConfirmed {
        /// The device.
        device: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl Container {
    /// Writes the header of container `expected` back to its device from a backup that `key` opens.
    ///
    /// Afterwards the header on the device was read back, says what the backup says, and `key` opens it.
    ///
    /// A device that carries another intact container is refused. One without any readable header can't be told by its
    /// contents: the caller makes sure that it is the right drive, by its serial number. Keys removed since the backup
    /// was made open the drive again. `root` (usually `/`) is where `sys` and `dev` are looked up.
    ///
    /// # Errors
    /// Before anything is written, except for [`RestoreError::Write`], [`RestoreError::Failed`] and [`RestoreError::NotConfirmed`].
    pub fn restore_header(
        root: &Path,
        device: &Path,
        backup: &Path,
        expected: LuksUuid,
        key: &Secret,
    ) -> Result<Self, RestoreError> {
        let owned = || device.to_owned();
        let unusable = |source| RestoreError::Backup { source };
        let copy = Self::load(backup).map_err(unusable)?;
        let whole = copy.header().map_err(unusable)?;
        if copy.uuid() != expected {
            return Err(RestoreError::WrongBackup {
                backup: backup.to_owned(),
                expected,
                found: copy.uuid(),
            });
        }
        let slot = copy.test_key(key).map_err(|source| RestoreError::Key { source })?;
        check_target(root, device, expected, copy.data_offset_bytes())?;
        forget_luks1(device).map_err(|source| RestoreError::Write { device: owned(), source })?;
        let failed = |source| RestoreError::Failed { device: owned(), source };
        let mut session = Session::init(device).map_err(failed)?;
        session
            .call(|handle| handle.backup_handle().header_restore(None::<EncryptionFormat>, backup))
            .map_err(failed)?;
        drop(session);
        let not_confirmed = |reason| RestoreError::NotConfirmed { device: owned(), reason };
        flush(device).map_err(|error| not_confirmed(format!("flushing failed: {error}")))?;
        let restored = Self::load(device).map_err(|error| not_confirmed(error.to_string()))?;
        if restored.uuid() != expected {
            return Err(not_confirmed(format!("container {} is there", restored.uuid())));
        }
        restored.confirm_key(key, slot).map_err(not_confirmed)?;
        let read = Header::read(device).map_err(|error| not_confirmed(error.to_string()))?;
        if !read.says_the_same(&whole) {
            return Err(not_confirmed("it is another header than the backup".to_owned()));
        }
        Ok(restored)
    }
}

/// Takes the signature off a LUKS1 header that is to be overwritten.
///
/// libcryptsetup refuses a backup whose data offset or key length differ from those on the device, as if nothing but the
/// key slots could be damaged; LUKS1 has no checksum that would tell.
fn forget_luks1(device: &Path) -> io::Result<()> {
    if !matches!(disk_header::read(device)?, DiskHeader::Luks1(_)) {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(device)?;
    file.write_all_at(&[0; luks1_header::LEN], 0)?;
    file.sync_all()
}

fn check_target(
    root: &Path,
    device: &Path,
    expected: LuksUuid,
    data_offset: u64,
) -> Result<(), RestoreError> {
    let owned = || device.to_owned();
    let target =
        Target::examine(root, device).map_err(|source| RestoreError::Examine { device: owned(), source })?;
    if let Some(reason) = target.used_by {
        return Err(RestoreError::InUse { device: owned(), reason });
    }
    if target.size <= data_offset {
        return Err(RestoreError::TooSmall { device: owned(), size: target.size, data_offset });
    }
    let header = read_header(device)
        .map_err(|error| RestoreError::Examine { device: owned(), source: io::Error::other(error) })?;
    if reencryption::is_under_way(&header) {
        return Err(RestoreError::Reencryption { device: owned() });
    }
    let there = match &header {
        DiskHeader::Luks1(header) => Some(header.uuid.as_str()),
        DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => Some(copy.uuid.as_str()),
        DiskHeader::NotLuks | DiskHeader::Luks1Reencryption | DiskHeader::Ruined { .. } => None,
    };
    match there.and_then(|uuid| uuid.parse().ok()) {
        Some(found) if found != expected => {
            Err(RestoreError::OtherContainer { device: owned(), expected, found })
        }
        _ => Ok(()),
    }
}
