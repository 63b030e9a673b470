//! Why a filesystem stopped writing.

use std::path::Path;

use mount_by_uuid::{MountEntry, MountTable, System};
use nix::errno::Errno;
use nix::sys::stat::stat;

use super::drive::Drive;
use crate::base::paths::Root;
use crate::records::fsck_due::Torn;

/// Marks a drive whose filesystem stopped writing, and says so; whether that is news.
pub(super) fn note(root: &Root, drive: &Drive, why: &str) -> bool {
    let fs_uuid = &drive.magazine().fs_uuid;
    if matches!(Torn::of(root, fs_uuid), Some(Torn::Errors(_))) {
        return false;
    }
    drive.warn(&format!("{}: {why}; it is checked before its next use", drive.magazine()));
    if let Err(failure) = Torn::Errors(why.to_owned()).note(root, fs_uuid) {
        drive.warn(failure.message());
    }
    true
}

/// Why the filesystem that is mounted at `at` stopped writing, if it did.
pub(super) fn why_stopped(system: &System, at: &Path) -> Option<&'static str> {
    stopped_at(&MountTable::read(system).ok()?, at)
}

pub(crate) fn stopped_at(mounts: &MountTable, at: &Path) -> Option<&'static str> {
    let mount = mounts.at(at).filter(|mount| mount.fs_type != "autofs")?;
    stopped(mount, is_shut_down(at))
}

/// Why a filesystem that was mounted to be written is written no more, if so. `emergency_ro` and `shutdown` are the words
/// of newer kernels.
pub(crate) fn stopped(mount: &MountEntry, is_shut_down: bool) -> Option<&'static str> {
    if is_shut_down || mount.option("shutdown").is_some() {
        return Some("its filesystem was shut down after an error");
    }
    let read_only = ["ro", "emergency_ro"].iter().any(|option| mount.option(option).is_some());
    read_only.then_some("its filesystem went read-only after an error")
}

/// XFS shows nothing in the mount table, but its root directory, which is in memory, can't be looked at any more.
pub(crate) fn is_shut_down(at: &Path) -> bool {
    matches!(stat(at), Err(Errno::EIO | Errno::ESHUTDOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_that_stopped_writing_is_known_by_its_options() {
        let stopped_with = |options: &str| {
            let line = format!("31 30 253:0 / /srv/offsite/u rw,nosuid - ext4 /dev/mapper/a {options}\n");
            let table = MountTable::parse(line).unwrap();
            table.entries().first().and_then(|mount| stopped(mount, false)).is_some()
        };
        assert!(!stopped_with("rw") && !stopped_with("rw,errors=remount-ro,rootcontext=x"));
        for options in ["ro", "ro,errors=remount-ro", "rw,emergency_ro,errors=remount-ro", "rw,shutdown"] {
            assert!(stopped_with(options), "{options}");
        }
        let table = MountTable::parse("31 30 253:0 / /x rw - xfs /dev/mapper/a rw\n").unwrap();
        assert!(stopped(table.entries().first().unwrap(), true).is_some());
    }
}
