//! Keepers that mount loop devices or tmpfs, slowly or not at all, and count what they are asked.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mount_by_uuid::{Keeper, MountOptions, Refusal, UnmountMode, flush, mount, unmount};

/// Mounts ext4 from the device that a name stands for; other names are absent.
#[derive(Default)]
pub(crate) struct Drives {
    devices: Mutex<HashMap<OsString, PathBuf>>,
    /// How long mounting takes.
    takes: Duration,
    /// How long it takes to begin unmounting.
    unmount_takes: Duration,
    pub(crate) mounts: AtomicUsize,
    pub(crate) unmounts: AtomicUsize,
}

impl Drives {
    pub(crate) fn of(devices: &[(&str, &Path)]) -> Drives {
        let drives = Drives::default();
        for (name, device) in devices {
            drives.plug(name, device);
        }
        drives
    }

    pub(crate) fn slow(self, takes: Duration) -> Drives {
        Drives { takes, ..self }
    }

    pub(crate) fn slow_to_unmount(self, unmount_takes: Duration) -> Drives {
        Drives { unmount_takes, ..self }
    }

    pub(crate) fn plug(&self, name: &str, device: &Path) {
        self.devices.lock().unwrap().insert(name.into(), device.to_owned());
    }

    pub(crate) fn mounts(&self) -> usize {
        self.mounts.load(Ordering::SeqCst)
    }

    pub(crate) fn unmounts(&self) -> usize {
        self.unmounts.load(Ordering::SeqCst)
    }
}

impl Keeper for Drives {
    fn mount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        self.mounts.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.takes);
        let device = self.devices.lock().unwrap().get(name).cloned().ok_or(Refusal::Absent)?;
        Ok(mount(&device, at, "ext4", &MountOptions::default())?)
    }

    fn unmount(&self, _name: &OsStr, at: &Path) -> Result<(), Refusal> {
        self.unmounts.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.unmount_takes);
        flush(at)?;
        match unmount(at, UnmountMode::Now) {
            Err(mount_by_uuid::MountError::NotMounted { .. }) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Mounts an empty tmpfs on every name.
pub(crate) struct Blanks;

impl Keeper for Blanks {
    fn mount(&self, _name: &OsStr, at: &Path) -> Result<(), Refusal> {
        Ok(mount(Path::new("blank"), at, "tmpfs", &MountOptions::default())?)
    }

    fn unmount(&self, _name: &OsStr, at: &Path) -> Result<(), Refusal> {
        Ok(unmount(at, UnmountMode::Now)?)
    }
}

/// Does for each request what a function says.
pub(crate) struct Scripted<F>(pub(crate) F);

impl<F: Fn(&OsStr, &Path) -> Result<(), Refusal> + Send + Sync> Keeper for Scripted<F> {
    fn mount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        (self.0)(name, at)
    }

    fn unmount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        Blanks.unmount(name, at)
    }
}
