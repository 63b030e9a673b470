//! A drive whose container lies in its only partition.

use std::path::{Path, PathBuf};

use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// Where the container of a whole drive is, or would be: in its only partition, else on the drive itself.
pub fn container_device(root: &Root, device: &Path) -> Result<PathBuf, Failure> {
    let found = luks_core::partitions(root.kernel(), device)
        .or_fail(format!("cannot see the partitions of {}", device.display()))?;
    match found.as_slice() {
        [] => Ok(device.to_owned()),
        [only] => Ok(only.clone()),
        several => {
            let luks: Vec<_> =
                several.iter().filter(|path| luks_core::is_luks(path).unwrap_or(false)).collect();
            match luks.as_slice() {
                [only] => Ok((*only).clone()),
                _ => Err(Failure::new(
                    Exit::Refused,
                    format!("{} has {} partitions, not one", device.display(), several.len()),
                )
                .hint("a magazine is a whole drive, with one LUKS container")),
            }
        }
    }
}
