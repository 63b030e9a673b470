//! Taking mounts out of the directory tree whose device is gone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::filesystem::{MountError, namespace};
use super::table::{MountEntry, MountTable};
use crate::device::block::DevNum;
use crate::device::system::System;

/// Takes the filesystem that is mounted at `at` out of the directory tree, with all its other mounts, because its device
/// is gone: users of open files get errors, everyone else finds the mount points empty. Returns the mount points, the
/// innermost first; none if nothing is mounted at `at`, which must be absolute and free of symbolic links.
///
/// No other filesystem is touched, even one that is mounted meanwhile and given the same device number. Only mounts in
/// the calling process' namespace (or that of [`System::with_mounts_of`]), and those that follow it by propagation, are reached.
///
/// # Errors
/// [`MountError::Covered`] after the others are gone, if a mount lies under another one; [`MountError::Unmount`].
pub fn detach(system: &System, at: &Path) -> Result<Vec<PathBuf>, MountError> {
    system.among_mounts(|| detach_here(system, at)).map_err(namespace)?
}

fn detach_here(system: &System, at: &Path) -> Result<Vec<PathBuf>, MountError> {
    // As long as it is open, its device number can't be given to another filesystem.
    let Some(top) = open_mount(at)? else { return Ok(Vec::new()) };
    let id = mount_id(system, &top).map_err(|source| MountError::Unmount { at: at.to_owned(), source })?;
    let table = read(system)?;
    let mounted = table.entries().iter().find(|entry| entry.id == id && entry.mount_point == at);
    match mounted {
        Some(entry) => {
            detach_all(system, entry.devnum, table.mounts_of(entry.devnum).rev().cloned().collect())
        }
        None => Ok(Vec::new()),
    }
}

/// Takes every mount of a device out of the directory tree, like [`detach`], by the device's number. The number must
/// still be that device's: a kernel gives it to the next one that comes.
///
/// # Errors
/// See [`detach`].
pub fn detach_device(system: &System, devnum: DevNum) -> Result<Vec<PathBuf>, MountError> {
    let all = || detach_all(system, devnum, read(system)?.mounts_of(devnum).rev().cloned().collect());
    system.among_mounts(all).map_err(namespace)?
}

/// Detaches mounts in the reverse of the table's order: that has a mount after its parent, so the innermost comes first.
fn detach_all(
    system: &System,
    devnum: DevNum,
    mut left: Vec<MountEntry>,
) -> Result<Vec<PathBuf>, MountError> {
    let mut detached = Vec::new();
    loop {
        let mut covered = Vec::new();
        let before = detached.len();
        for entry in left {
            match detach_one(system, &entry)? {
                Outcome::Detached => detached.push(entry.mount_point),
                Outcome::Gone => {}
                Outcome::Covered => covered.push(entry),
            }
        }
        match covered.first() {
            None => return Ok(detached),
            // What covered it may have been one of the others.
            Some(_) if detached.len() > before => left = covered,
            Some(entry) => return Err(MountError::Covered { devnum, at: entry.mount_point.clone() }),
        }
    }
}

/// Opens the root of the mount on top at a path, without reading from it; none where there is no such path.
fn open_mount(at: &Path) -> Result<Option<OwnedFd>, MountError> {
    match open(at, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(top) => Ok(Some(top)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(MountError::Unmount { at: at.to_owned(), source: errno.into() }),
    }
}

enum Outcome {
    Detached,
    Gone,
    Covered,
}

fn detach_one(system: &System, entry: &MountEntry) -> Result<Outcome, MountError> {
    let at = &entry.mount_point;
    let top = open_mount(at)?;
    // While it is open its number can't be given to another mount, so now it can be compared.
    let on_top = match &top {
        Some(top) => {
            Some(mount_id(system, top).map_err(|source| MountError::Unmount { at: at.clone(), source })?)
        }
        None => None,
    };
    let same = |now: &&MountEntry| now.id == entry.id && now.devnum == entry.devnum;
    let exists = read(system)?.entries().iter().any(|now| same(&now));
    match top {
        _ if !exists => Ok(Outcome::Gone),
        Some(top) if on_top == Some(entry.id) => unmount_open(system, &top, at),
        _ => Ok(Outcome::Covered),
    }
}

/// Lazily unmounts the very mount that is open, whatever its path leads to by now.
fn unmount_open(system: &System, top: &OwnedFd, at: &Path) -> Result<Outcome, MountError> {
    let path = system.below(&format!("proc/self/fd/{}", top.as_raw_fd()));
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) => Ok(Outcome::Detached),
        // Someone was faster.
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(Outcome::Gone),
        Err(errno) => Err(MountError::Unmount { at: at.to_owned(), source: errno.into() }),
    }
}

/// The number of the mount that an open file belongs to (`proc_pid_fdinfo(5)`).
fn mount_id(system: &System, file: &OwnedFd) -> io::Result<u32> {
    let info = std::fs::read_to_string(system.below(&format!("proc/self/fdinfo/{}", file.as_raw_fd())))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("the kernel tells no mount number in /proc/self/fdinfo"))
}

fn read(system: &System) -> Result<MountTable, MountError> {
    MountTable::read(system).map_err(|source| MountError::Table { source })
}
