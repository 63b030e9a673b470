//! What an earlier daemon has left: drives that are mounted stay so, everything else is put to rest.

use std::path::Path;
use std::sync::Arc;

use luks_core::{CloseMode, Closed, LuksUuid, MappingStatus};
use mount_by_uuid::{DevNum, MountEntry, MountError, MountTable, Refusal, UnmountMode};

use super::drive::{Drive, Open, Plugged};
use super::fleet::Fleet;
use super::journal::{say, warn};
use super::open;
use crate::site::description::{is_mapping_name, mapping_name};

impl Fleet {
    /// Takes over what an earlier daemon left mounted below the mount point, and locks what it left unlocked.
    pub(super) fn take_over(self: &Arc<Self>) {
        match MountTable::read(&self.system) {
            Ok(mounts) => self.take_over_mounts(&mounts),
            Err(error) => warn(&format!("cannot see what is mounted: {error}")),
        }
        for drive in self.drives() {
            match drive.magazine().luks_uuid {
                Some(luks) => self.lock_leftovers(&drive, luks),
                None => self.see_leftovers(&drive),
            }
        }
    }

    fn take_over_mounts(self: &Arc<Self>, mounts: &MountTable) {
        let automount = &self.automount;
        for name in automount.mounted() {
            let at = automount.dir().join(&name);
            let (Some(drive), Some(mount)) = (self.by_fs_uuid(&name), mounts.at(&at)) else { continue };
            let mapping = drive.magazine().luks_uuid.and_then(|_| self.mapping_of(mount));
            let open = Open { mapping, lingers: false };
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

    /// Unmounts and locks what an earlier daemon mounted at `at` and site.toml doesn't know any more.
    pub(super) fn put_away(&self, at: &Path) -> Result<(), Refusal> {
        let mounts = MountTable::read(&self.system).map_err(|error| Refusal::failed(&error))?;
        let mapping = mounts.at(at).and_then(|mount| self.mapping_of(mount));
        match self.system.flush(at).and_then(|()| self.system.unmount(at, UnmountMode::Now)) {
            Ok(()) | Err(MountError::NotMounted { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        say(&format!("{} is not enrolled any more: unmounted", at.display()));
        if let Some(name) = mapping.filter(|name| is_mapping_name(name)) {
            let closed = luks_core::close(&name, CloseMode::Now)
                .or_else(|_| luks_core::close(&name, CloseMode::Deferred));
            if let Err(error) = closed {
                warn(&error.to_string());
            }
        }
        Ok(())
    }

    /// The mapping that is mounted: by its number, or by its name where the mount table shows none (Btrfs).
    fn mapping_of(&self, mount: &MountEntry) -> Option<String> {
        let named = || Some(Path::new(&mount.source).file_name()?.to_string_lossy().into_owned());
        self.system.mapping_name(mount.devnum).or_else(named)
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

    /// Locks mappings by which nothing is mounted: the daemon before was killed between unlocking and mounting, or
    /// between unmounting and locking. One that is in use elsewhere stays, and is locked when its last user goes.
    fn lock_leftovers(self: &Arc<Self>, drive: &Arc<Drive>, luks: LuksUuid) {
        let _work = drive.work();
        let ours = mapping_name(luks);
        let in_place = drive.seen().open.and_then(|open| open.mapping);
        let left = luks_core::mappings_of(luks).unwrap_or_else(|error| {
            warn(&error.to_string());
            Vec::new()
        });
        for name in left.into_iter().filter(|name| name.starts_with(&ours) && in_place.as_ref() != Some(name))
        {
            let status = luks_core::mapping_status(&name);
            let Ok(MappingStatus::Active { backing: Some(backing), in_use, .. }) = status else {
                open::force_closed(&name);
                continue;
            };
            if !in_use
                && matches!(luks_core::close(&name, CloseMode::Now), Ok(Closed::Gone | Closed::WasAbsent))
            {
                drive.say(&format!("{} was left unlocked; it is locked now", drive.magazine()));
                continue;
            }
            let devnum = DevNum { major: backing.major, minor: backing.minor };
            if let Some(device) = self.system.device(devnum) {
                self.lingers(drive, &Plugged::from(&device), Some(name));
            }
        }
    }

    /// Notes that an unencrypted drive is in use, if it is: its filesystem lives on elsewhere.
    fn see_leftovers(self: &Arc<Self>, drive: &Arc<Drive>) {
        let _work = drive.work();
        if drive.seen().open.is_none()
            && let Ok(devices) = self.system.carriers(&drive.magazine().tag())
            && let [device] = devices.as_slice()
            && mount_by_uuid::is_in_use(&device.path)
        {
            self.lingers(drive, &Plugged::from(device), None);
        }
    }

    /// Notes that a drive is in use although it isn't mounted where it belongs, and waits for the end of that.
    fn lingers(self: &Arc<Self>, drive: &Arc<Drive>, plugged: &Plugged, mapping: Option<String>) {
        drive.note(|seen| {
            seen.plugged = Some(plugged.clone());
            seen.open = Some(Open { mapping, lingers: true });
        });
        self.await_rest(drive);
    }
}
