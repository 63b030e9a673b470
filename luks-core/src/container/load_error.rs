//! Why a container can't be loaded.

use std::io;
use std::path::{Path, PathBuf};

use crate::crypt::session::CryptsetupError;
use crate::header::disk_header::{self, DiskHeader};
use crate::header::luks_uuid::LuksUuid;
use crate::header::luks2_copy::HeaderCopy;

/// Why a container could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such device or file.
    #[error("{} is not there; plug the drive in, or check the name", device.display())]
    Missing {
        /// The path.
        device: PathBuf,
    },
    /// The path can't be passed to libcryptsetup.
    #[error("the path {} is not valid UTF-8, which libcryptsetup needs; use another name", device.display())]
    PathNotUtf8 {
        /// The path.
        device: PathBuf,
    },
    /// It can't be read.
    #[error("cannot read {}: {source}", device.display())]
    Read {
        /// The path.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It has no LUKS header.
    #[error("{} is no LUKS container", device.display())]
    NotLuks {
        /// The path.
        device: PathBuf,
    },
    /// One of LUKS2's two header copies is damaged, the other one is sound.
    #[error("on {} the {damaged} header copy {reason}; the other copy is sound and can repair it", device.display())]
    HeaderDamaged {
        /// The path.
        device: PathBuf,
        /// The damaged copy.
        damaged: HeaderCopy,
        /// What is wrong with it.
        reason: String,
    },
    /// Its data are being reencrypted, so that nothing but cryptsetup may touch its header.
    #[error(
        "a reencryption of {} is under way, until its end no key and no header is touched; end it: cryptsetup reencrypt --resume-only {}",
        device.display(),
        device.display()
    )]
    Reencryption {
        /// The path.
        device: PathBuf,
    },
    /// It is LUKS, but its header can't be trusted.
    #[error("the LUKS header of {} is ruined: {reason}; restore it from its backup", device.display())]
    HeaderRuined {
        /// The path.
        device: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// libcryptsetup accepts the header, but something in it endangers data or keys.
    #[error("the LUKS header of {} is not to be trusted: {reason}; restore it from its backup", device.display())]
    Suspicious {
        /// The path.
        device: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Trying a key would take too long, and can't be interrupted.
    #[error("opening {} would take too long: {reason}; restore its header from the backup", device.display())]
    TooCostly {
        /// The path.
        device: PathBuf,
        /// What asks for how much.
        reason: String,
    },
    /// The header requires what this crate doesn't know.
    #[error(
        "the LUKS header of {} requires {names}, which is not known here; open it with the program that made it so, or \
         restore its header",
        device.display()
    )]
    Requirements {
        /// The path.
        device: PathBuf,
        /// The names of the requirements.
        names: String,
    },
    /// Another container is there than the one that was loaded before.
    #[error("{} now carries container {found} in place of {expected}; look for the drive anew", device.display())]
    Exchanged {
        /// The path.
        device: PathBuf,
        /// The container loaded before.
        expected: LuksUuid,
        /// The container that is there now.
        found: LuksUuid,
    },
    /// The header says something else than the read before: somebody changed it, or the drive answers each read otherwise.
    #[error(
        "the LUKS header of {} is another one than it was a moment ago: another program changes it, or the drive is not to \
         be trusted; nothing more is written to it",
        device.display()
    )]
    Inconstant {
        /// The path.
        device: PathBuf,
    },
    /// libcryptsetup refused the header.
    #[error("the LUKS header of {} is refused: {source}", device.display())]
    Refused {
        /// The path.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
}

pub(crate) fn read_header(device: &Path) -> Result<DiskHeader, LoadError> {
    disk_header::read(device).map_err(|source| load_error(device, source))
}

pub(crate) fn load_error(device: &Path, source: io::Error) -> LoadError {
    match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { device: device.to_owned() },
        _ => LoadError::Read { device: device.to_owned(), source },
    }
}
