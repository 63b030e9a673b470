//! Finding block devices by what they carry.

use std::path::{Path, PathBuf};

use super::block::{Activity, BlockDevice, DevNum, Tag};
use super::probe::{self, ProbeError};
use super::sysfs::{self, describe};
use super::system::{ScanError, System};
use super::udev_database;

/// Lists and probes all block devices that have a medium.
pub(crate) fn scan(system: &System) -> Result<Vec<BlockDevice>, ScanError> {
    let path = system.below("sys/class/block");
    let fail = |source| ScanError::Sysfs { path: path.clone(), source };
    let mut devices = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let device = describe(system, &entry.path()).filter(|device| device.size_bytes > 0);
        // A device that can't be read (no medium, torn out) is listed by its number and size alone.
        devices.extend(device.map(|device| probe::probe(system, &device.path).unwrap_or(device)));
    }
    Ok(devices)
}

/// Why no device was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// No device carries the tag.
    #[error("no device carries {tag}; is the drive plugged and powered?")]
    NotFound {
        /// What was looked for.
        tag: Tag,
    },
    /// Several devices carry the tag, so none of them is used.
    #[error("{tag} is on several devices ({}); unplug the copy or give it a new UUID", list(devices))]
    Ambiguous {
        /// What was looked for.
        tag: Tag,
        /// All devices that carry it.
        devices: Vec<BlockDevice>,
    },
    /// udev reported the tag on a device that doesn't carry it (any more).
    #[error("{} carried {tag} when udev last looked, but not now; run `udevadm trigger {}`", device.display(), device.display())]
    Stale {
        /// What was looked for.
        tag: Tag,
        /// The device that udev named.
        device: PathBuf,
    },
    /// The only device that should carry the tag can't be read.
    #[error("can't confirm what {} carries", device.display())]
    Probe {
        /// The device.
        device: PathBuf,
        /// What went wrong there.
        #[source]
        source: ProbeError,
    },
    /// The devices can't be listed.
    #[error("can't look for a device")]
    Scan {
        /// What went wrong there.
        #[source]
        source: ScanError,
    },
}

pub(crate) fn list(devices: &[BlockDevice]) -> String {
    let paths: Vec<_> = devices.iter().map(|device| device.path.display().to_string()).collect();
    paths.join(", ")
}

/// Leaves out the devices that another one of them is built on.
pub(crate) fn outermost(
    devices: Vec<BlockDevice>,
    holders: impl Fn(DevNum) -> Vec<DevNum>,
) -> Vec<BlockDevice> {
    let numbers: Vec<DevNum> = devices.iter().map(|device| device.devnum).collect();
    let held = |device: &BlockDevice| holders(device.devnum).iter().any(|holder| numbers.contains(holder));
    devices.into_iter().filter(|device| !held(device)).collect()
}

impl System {
    /// Lists every block device with what it carries, in the order of device numbers.
    ///
    /// Devices without a medium (size 0) are left out. A device that udevd knows nothing of is read from, and so is every
    /// device where no udevd runs, which spins up a sleeping disk. One that can't be read is listed without a tag.
    ///
    /// # Errors
    /// [`ScanError`] when there is neither a udev database nor /sys.
    pub fn scan(&self) -> Result<Vec<BlockDevice>, ScanError> {
        let mut devices = self.recorded()?;
        let unrecorded = self.unrecorded()?;
        for device in
            devices.iter_mut().filter(|device| unrecorded.iter().any(|other| other.devnum == device.devnum))
        {
            if let Ok(probed) = probe::probe(self, &device.path) {
                *device = probed;
            }
        }
        Ok(devices)
    }

    /// Lists the block devices that udevd has no record of: it has not finished with them, in which case an event
    /// follows, or the record was lost (a full /run). Nothing is read from them. None where no udevd runs.
    ///
    /// # Errors
    /// See [`System::scan`].
    pub fn unrecorded(&self) -> Result<Vec<BlockDevice>, ScanError> {
        if self.has_udevd() { udev_database::unrecorded(self) } else { Ok(Vec::new()) }
    }

    /// Lists every block device like [`System::scan`], but where udevd runs by its word alone, without reading from any:
    /// what it has no record of is listed without a tag.
    ///
    /// # Errors
    /// See [`System::scan`].
    pub fn recorded(&self) -> Result<Vec<BlockDevice>, ScanError> {
        let mut devices = if self.has_udevd() { udev_database::scan(self)? } else { scan(self)? };
        devices.sort_by_key(|device| device.devnum);
        Ok(devices)
    }

    /// Reads from one device what it carries now; a regular file is refused.
    ///
    /// Nothing is cached and udev isn't asked. Needs permission to read the device.
    ///
    /// # Errors
    /// [`ProbeError`] when the path is no block device, can't be read, or carries contradictory signatures.
    pub fn probe(&self, device: &Path) -> Result<BlockDevice, ProbeError> {
        probe::probe(self, device)
    }

    /// Looks up in /sys what the kernel knows of the device with this number, without reading from it: none if there is
    /// no such device now. Whether it is the one that had the number before, its
    /// [`diskseq`](BlockDevice::diskseq) tells.
    pub fn device(&self, devnum: DevNum) -> Option<BlockDevice> {
        sysfs::of(self, devnum)
    }

    /// Whether a device can only be read, by the kernel's word: it is write-protected.
    pub fn is_read_only(&self, devnum: DevNum) -> bool {
        sysfs::is_read_only(self, devnum)
    }

    /// Looks up in /sys what a device has done so far, without disturbing it: whether it still answers shows in what
    /// changes.
    pub fn activity(&self, devnum: DevNum) -> Option<Activity> {
        sysfs::activity(self, devnum)
    }

    /// Looks up in /sys the device-mapper device of this name, without reading from it.
    ///
    /// Its path is that of its own node (`/dev/dm-0`): the link `/dev/mapper/NAME` may be missing, for instance while
    /// the device goes when its last user does.
    pub fn mapping(&self, name: &str) -> Option<BlockDevice> {
        sysfs::mapping(self, name)
    }

    /// Looks up in /sys the name of the device-mapper device with this number.
    pub fn mapping_name(&self, devnum: DevNum) -> Option<String> {
        sysfs::mapping_name(self, devnum)
    }

    /// Lists every device that carries `tag` by udev's word, which isn't confirmed; where no udevd runs, by reading from
    /// all of them.
    ///
    /// A device that another match is built on (a path below multipath, say) is left out.
    ///
    /// # Errors
    /// See [`System::scan`].
    pub fn carriers(&self, tag: &Tag) -> Result<Vec<BlockDevice>, ScanError> {
        let scanned = self.recorded()?;
        let matching = scanned.into_iter().filter(|device| device.tag.as_ref() == Some(tag)).collect();
        Ok(outermost(matching, |devnum| sysfs::holders(self, devnum)))
    }

    /// Finds the one device that carries `tag` and confirms it by reading from the device.
    ///
    /// # Errors
    /// [`FindError::NotFound`]; [`FindError::Ambiguous`] when several devices carry the tag: none is to be used.
    pub fn find(&self, tag: &Tag) -> Result<BlockDevice, FindError> {
        let scan = |source| FindError::Scan { source };
        let mut devices = self.carriers(tag).map_err(scan)?;
        if devices.is_empty() {
            let unrecorded = self.unrecorded().map_err(scan)?.into_iter();
            let probed = unrecorded.filter_map(|device| probe::probe(self, &device.path).ok());
            devices.extend(probed.filter(|device| device.tag.as_ref() == Some(tag)));
        }
        match (devices.pop(), devices.is_empty()) {
            (None, _) => Err(FindError::NotFound { tag: tag.clone() }),
            (Some(device), true) => self.confirm(tag, device),
            (Some(last), false) => {
                devices.push(last);
                Err(FindError::Ambiguous { tag: tag.clone(), devices })
            }
        }
    }

    pub(crate) fn confirm(&self, tag: &Tag, device: BlockDevice) -> Result<BlockDevice, FindError> {
        match self.probe(&device.path) {
            Ok(now) if now.tag.as_ref() == Some(tag) && now.devnum == device.devnum => Ok(device),
            Ok(_) => Err(FindError::Stale { tag: tag.clone(), device: device.path }),
            Err(source) => Err(FindError::Probe { device: device.path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(minor: u32) -> BlockDevice {
        BlockDevice {
            path: format!("/dev/x{minor}").into(),
            devnum: DevNum { major: 8, minor },
            tag: None,
            fs_type: None,
            label: None,
            serial: None,
            size_bytes: 1,
            diskseq: None,
        }
    }

    #[test]
    fn paths_below_a_multipath_device_are_no_copies() {
        // 8:9 is built on 8:1 and 8:2; 8:3 is a copy; something without the tag is built on 8:3.
        let holders = |devnum: DevNum| match devnum.minor {
            1 | 2 => vec![DevNum { major: 8, minor: 9 }],
            3 => vec![DevNum { major: 253, minor: 0 }],
            _ => Vec::new(),
        };
        assert_eq!(outermost(vec![device(1), device(2), device(9)], holders), [device(9)]);
        assert_eq!(outermost(vec![device(1), device(2)], holders), [device(1), device(2)]);
        assert_eq!(outermost(vec![device(3), device(4)], holders), [device(3), device(4)]);
    }

    #[test]
    fn without_sys_the_scan_says_what_is_missing() {
        let empty = tempfile::tempdir().unwrap();
        let system = System::new(empty.path());
        assert!(!system.has_udevd());
        let error = system.find(&Tag::Filesystem("7A1B-03C4".parse().unwrap())).unwrap_err();
        assert!(matches!(error, FindError::Scan { source: ScanError::Sysfs { .. } }), "{error:?}");
    }

    #[test]
    fn a_regular_file_is_not_a_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = System::new(Path::new("/")).probe(file.path()).unwrap_err();
        assert!(matches!(error, ProbeError::NotABlockDevice { .. }), "{error:?}");
    }
}
