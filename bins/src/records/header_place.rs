//! Where on its drive a container begins, as it was when its header was backed up: a header is written back there and
//! nowhere else.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use luks_core::LuksUuid;
use serde::{Deserialize, Serialize};

use crate::base::atomic_file;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// A container's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes from the start of the whole drive: 0 where the drive has no partition.
    pub start_bytes: u64,
    /// Size of the whole drive in bytes.
    pub drive_bytes: u64,
}

impl Place {
    /// Of a partition, a whole drive, or a file that stands for one.
    fn of(root: &Root, device: &Path) -> Result<Self, Failure> {
        let failed = || format!("cannot see where {} lies on its drive", device.display());
        let metadata = std::fs::metadata(device).or_fail(failed())?;
        if !metadata.file_type().is_block_device() {
            return Ok(Self { start_bytes: 0, drive_bytes: metadata.len() });
        }
        let number = metadata.rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        let block = root.kernel().join(format!("sys/dev/block/{major}:{minor}"));
        // The link leads into the directory of the disk.
        let disk = if block.join("partition").exists() { block.join("..") } else { block };
        let sectors = std::fs::read_to_string(disk.join("size")).or_fail(failed())?;
        let sectors: u64 = sectors.trim().parse().or_fail(failed())?;
        let start_bytes = luks_core::partition_start(root.kernel(), device).or_fail(failed())?;
        Ok(Self { start_bytes, drive_bytes: sectors.saturating_mul(512) })
    }
}

/// Records where the container on `device` begins, unless that is known.
pub fn keep(root: &Root, luks: LuksUuid, device: &Path) -> Result<(), Failure> {
    let place = Place::of(root, device)?;
    if recorded(root, luks).is_ok_and(|there| there == Some(place)) {
        return Ok(());
    }
    atomic_file::directory(&root.places_dir(), 0o700)?;
    let bytes = serde_json::to_vec_pretty(&place).or_fail("cannot write JSON")?;
    atomic_file::replace(&path(root, luks), 0o600, &bytes)
}

/// What was recorded; nothing of a drive that was enrolled by an earlier version and hasn't been used since.
pub fn recorded(root: &Root, luks: LuksUuid) -> Result<Option<Place>, Failure> {
    let path = path(root, luks);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.or_fail(format!("cannot read {}", path.display()))?,
    };
    let place =
        serde_json::from_slice(&text).or_exit(Exit::Failed, format!("cannot understand {}", path.display()));
    place.map(Some).map_err(|failure| failure.hint("remove it; it is written again when the drive is used"))
}

fn path(root: &Root, luks: LuksUuid) -> PathBuf {
    root.places_dir().join(format!("{luks}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_recorded_once_and_follows_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let luks = LuksUuid::random();
        assert_eq!(recorded(&root, luks).unwrap(), None);
        let drive = directory.path().join("drive");
        for len in [4096, 8192] {
            std::fs::write(&drive, vec![0; len]).unwrap();
            keep(&root, luks, &drive).unwrap();
            let expected = Place { start_bytes: 0, drive_bytes: len as u64 };
            assert_eq!(recorded(&root, luks).unwrap(), Some(expected));
        }
        std::fs::write(path(&root, luks), "{").unwrap();
        assert!(recorded(&root, luks).unwrap_err().remedy().is_some());
        keep(&root, luks, &drive).unwrap();
        assert!(recorded(&root, luks).unwrap().is_some());
    }
}
