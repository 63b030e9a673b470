//! Noticing that a filesystem went read-only under way: the kernel met an error in it and stopped writing.
//!
//! No event tells of it in all kernels and for all filesystems, so while a drive is mounted the mount table is looked at
//! every few seconds. That asks no drive for anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::{MountEntry, MountTable, System};
use nix::errno::Errno;
use nix::sys::stat::stat;

use super::drive::Drive;
use super::fleet::Fleet;
use super::warn;
use crate::paths::Root;
use crate::torn::Torn;

/// How often mounted drives are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// While nothing is mounted nobody need look; a mount rings, and so does what has to be tried again.
const REST: Duration = Duration::from_hours(24);

/// Starts the thread that looks.
pub(super) fn start(fleet: Arc<Fleet>) {
    std::thread::spawn(move || {
        let is_any_due = || fleet.is_any_open() || fleet.is_any_unmarked();
        while fleet.opened.wait(if is_any_due() { LOOK } else { REST }) {
            fleet.publish_again();
            match MountTable::read(&fleet.system) {
                Ok(mounts) => fleet.drives().iter().for_each(|drive| fleet.look_after(drive, &mounts)),
                Err(error) => warn(&format!("cannot see whether drives can be written: {error}")),
            }
        }
    });
}

impl Fleet {
    fn is_any_open(&self) -> bool {
        self.drives().iter().any(|drive| drive.seen().open.is_some())
    }

    /// Marks a drive whose filesystem stopped writing, so that it is checked before its next use.
    fn look_after(&self, drive: &Arc<Drive>, mounts: &MountTable) {
        let seen = drive.seen();
        if seen.open.is_none_or(|open| open.lingers) || seen.doing.is_some() {
            return;
        }
        let fs_uuid = &drive.magazine().fs_uuid;
        let at = self.automount.dir().join(fs_uuid.as_str());
        if let Some(why) = stopped_at(mounts, &at)
            && note(self.root(), drive, why)
        {
            self.bell.ring();
        }
    }
}

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

fn stopped_at(mounts: &MountTable, at: &Path) -> Option<&'static str> {
    let mount = mounts.at(at).filter(|mount| mount.fs_type != "autofs")?;
    stopped(mount, is_shut_down(at))
}

/// Why a filesystem that was mounted to be written is written no more, if so. `emergency_ro` and `shutdown` are the words
/// of newer kernels.
fn stopped(mount: &MountEntry, is_shut_down: bool) -> Option<&'static str> {
    if is_shut_down || mount.option("shutdown").is_some() {
        return Some("its filesystem was shut down after an error");
    }
    let read_only = ["ro", "emergency_ro"].iter().any(|option| mount.option(option).is_some());
    read_only.then_some("its filesystem went read-only after an error")
}

/// XFS shows nothing in the mount table, but its root directory, which is in memory, can't be looked at any more.
fn is_shut_down(at: &Path) -> bool {
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
