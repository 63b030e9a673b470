//! Mending one of LUKS2's two header copies from the other.

use std::path::{Path, PathBuf};

use super::damage::HeaderRepair;
use super::handle::session;
use super::load_error::{LoadError, read_header};
use super::loaded::Container;
use crate::header::disk_header::{DiskHeader, flush};
use crate::header::luks2_copy::HeaderCopy;
use crate::header::reencryption;

/// Why a header was not mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The container can't be loaded, and not because of a single damaged copy.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The damaged copy is still damaged.
    #[error("the damaged {copy} header copy of {} could not be written anew: {reason}", device.display())]
    NotRepaired {
        /// The container.
        device: PathBuf,
        /// The damaged copy.
        copy: HeaderCopy,
        /// What went wrong.
        reason: String,
    },
}

impl Container {
    /// Loads a container as [`Container::load`] does, and first mends a damaged header copy from the sound one.
    ///
    /// Writes only when there is something to mend, and says what: an interrupted change of a key slot leaves an older
    /// copy behind, anything else hints at a dying drive or a foreign program. libcryptsetup refuses to mend over
    /// another signature, so a new filesystem isn't overwritten by the remains of an older container.
    ///
    /// # Errors
    /// As [`Container::load`], and [`RepairError::NotRepaired`] when writing failed.
    pub fn load_repairing(device: &Path) -> Result<(Self, Option<HeaderRepair>), RepairError> {
        let header = read_header(device)?;
        if reencryption::is_under_way(&header) {
            return Err(LoadError::Reencryption { device: device.to_owned() }.into());
        }
        let DiskHeader::OneDamaged { damaged, reason, .. } = header else {
            return Ok((Self::load(device)?, None));
        };
        let not_repaired =
            |reason| RepairError::NotRepaired { device: device.to_owned(), copy: damaged, reason };
        // libcryptsetup mends while it loads.
        drop(session(device).map_err(|error| not_repaired(error.to_string()))?);
        flush(device).map_err(|error| not_repaired(format!("flushing failed: {error}")))?;
        match Self::load(device) {
            Ok(container) => Ok((container, Some(HeaderRepair { copy: damaged, reason }))),
            Err(error) => Err(not_repaired(error.to_string())),
        }
    }
}
