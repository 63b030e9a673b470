//! Noticing that a filesystem went read-only under way: the kernel met an error in it and stopped writing.
//!
//! No event tells of it in all kernels and for all filesystems, so while a drive is mounted the mount table is looked at
//! every few seconds. That asks no drive for anything.

use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::MountTable;

use super::drive::Drive;
use super::fleet::Fleet;
use super::journal::warn;
use super::stopped_writing::{note, stopped_at};

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
