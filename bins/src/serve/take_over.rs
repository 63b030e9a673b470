//! What an earlier daemon has left: drives that are mounted stay so, everything else is put to rest.

use std::path::Path;
use std::sync::Arc;

use luks_core::{CloseMode, LuksUuid, MappingStatus};
use mount_by_uuid::{DevNum, MountEntry, MountTable};

use super::drive::{Drive, Open, Plugged};
use super::fleet::Fleet;
use super::{open, warn};
use crate::site::mapping_name;

impl Fleet {
    /// Takes over what an earlier daemon left mounted below the mount point, and locks what it left unlocked.
    pub(super) fn take_over(self: &Arc<Self>) {
        match MountTable::read(&self.system) {
            Ok(mounts) => self.take_over_mounts(&mounts),
            Err(error) => warn(&format!("cannot see what is mounted: {error}")),
        }
        for drive in self.drives() {
            if let Some(luks) = drive.magazine().luks_uuid {
                lock_leftovers(&drive, luks);
            }
        }
    }

    fn take_over_mounts(self: &Arc<Self>, mounts: &MountTable) {
        let automount = &self.automount;
        for name in automount.mounted() {
            let at = automount.dir().join(&name);
            let (Some(drive), Some(mount)) = (self.by_fs_uuid(&name), mounts.at(&at)) else { continue };
            let mapping = drive.magazine().luks_uuid.and_then(|_| Path::new(&mount.source).file_name());
            let open =
                Open { mapping: mapping.map(|name| name.to_string_lossy().into_owned()), lingers: false };
            if let Some(plugged) = self.behind(&open, mount) {
                drive.note(|seen| {
                    seen.plugged = Some(plugged);
                    seen.open = Some(open);
                });
                self.watch(&at, &drive);
                drive.say(&format!("{} is still mounted", drive.magazine()));
            } else {
                drive.warn(&format!("{} was pulled while nobody watched", drive.magazine()));
                self.clear_away(&drive, Some(open));
            }
        }
    }

    /// The drive behind a mount; none if it has gone.
    fn behind(&self, open: &Open, mount: &MountEntry) -> Option<Plugged> {
        let devnum = match &open.mapping {
            None => mount.devnum,
            Some(name) => match luks_core::mapping_status(name).ok()? {
                MappingStatus::Active { backing: Some(device), .. } => {
                    DevNum { major: device.major, minor: device.minor }
                }
                _ => return None,
            },
        };
        self.system.device(devnum).map(|device| Plugged::from(&device))
    }
}

/// Locks mappings by which nothing is mounted: the daemon before was killed between unlocking and mounting, or between
/// unmounting and locking.
fn lock_leftovers(drive: &Drive, luks: LuksUuid) {
    let _work = drive.work();
    let ours = mapping_name(luks);
    let in_place = drive.seen().open.and_then(|open| open.mapping);
    let left = luks_core::mappings_of(luks).unwrap_or_else(|error| {
        warn(&error.to_string());
        Vec::new()
    });
    for name in left.iter().filter(|name| name.starts_with(&ours) && in_place.as_ref() != Some(*name)) {
        match luks_core::mapping_status(name) {
            Ok(MappingStatus::Active { backing: None, .. }) => open::force_closed(name),
            _ => match luks_core::close(name, CloseMode::Now) {
                Ok(_) => drive.say(&format!("{} was left unlocked; it is locked now", drive.magazine())),
                Err(error) => drive.warn(&format!("{} stays unlocked: {error}", drive.magazine())),
            },
        }
    }
}
