//! Unmounting the automount itself.

use std::path::Path;

use crate::device::block::DevNum;
use crate::device::system::System;
use crate::mount::filesystem::{MountError, UnmountMode};
use crate::mount::table::MountTable;

/// Unmounts the autofs itself. Lazily: it is empty and dead, and a process may have it as working directory.
pub(crate) fn unmount_root(system: &System, dir: &Path, devnum: DevNum) -> Result<(), MountError> {
    let table = MountTable::read(system).map_err(|source| MountError::Table { source })?;
    match table.at(dir) {
        Some(top) if top.devnum == devnum => system.unmount(dir, UnmountMode::Lazy),
        Some(_) => Err(MountError::Covered { devnum, at: dir.to_owned() }),
        None => Ok(()),
    }
}
