//! What udevd has found out about block devices.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use udev::{Device, Enumerator};

use super::block::{BlockDevice, DevNum, Tag};
use super::sysfs;
use super::system::{ScanError, System};

/// Lists all block devices that have a medium, from udev's database.
pub(crate) fn scan(system: &System) -> Result<Vec<BlockDevice>, ScanError> {
    let fail = |source: io::Error| ScanError::Udev { source };
    let mut enumerator = Enumerator::new().map_err(fail)?;
    enumerator.match_subsystem("block").map_err(fail)?;
    let devices = enumerator.scan_devices().map_err(fail)?;
    Ok(devices
        .filter_map(|device| describe(system, &device))
        .filter(|device| device.size_bytes > 0)
        .collect())
}

/// Lists the block devices with a medium that udevd knows nothing of: it is at work on them, or their record was lost.
pub(crate) fn unrecorded(system: &System) -> Result<Vec<BlockDevice>, ScanError> {
    let fail = |source: io::Error| ScanError::Udev { source };
    let mut enumerator = Enumerator::new().map_err(fail)?;
    enumerator.match_subsystem("block").map_err(fail)?;
    let devices = enumerator.scan_devices().map_err(fail)?.filter(|device| !device.is_initialized());
    Ok(devices
        .filter_map(|device| describe(system, &device))
        .filter(|device| device.size_bytes > 0)
        .collect())
}

fn describe(system: &System, device: &Device) -> Option<BlockDevice> {
    let mut found = sysfs::of(system, DevNum::from_dev(device.devnum()?))?;
    let content = Content::of(device);
    found.path = content.path.unwrap_or(found.path);
    found.serial = content.serial.or(found.serial);
    found.tag = content.tag;
    found.fs_type = content.fs_type;
    found.label = content.label;
    Some(found)
}

/// The properties of a device (`udevadm info --query=property`) that tell what it carries.
pub(crate) struct Content {
    pub(crate) path: Option<std::path::PathBuf>,
    pub(crate) tag: Option<Tag>,
    pub(crate) fs_type: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) serial: Option<String>,
}

impl Content {
    pub(crate) fn of(device: &Device) -> Content {
        let property = |name: &str| {
            let value = device.property_value(name).and_then(OsStr::to_str);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let fs_type = property("ID_FS_TYPE");
        let uuid = property("ID_FS_UUID");
        let tag =
            fs_type.as_deref().zip(uuid.as_deref()).and_then(|(kind, uuid)| Tag::from_blkid(kind, uuid));
        Content {
            path: device.devnode().map(Path::to_owned),
            tag,
            fs_type,
            label: property("ID_FS_LABEL"),
            serial: property("ID_SERIAL_SHORT").or_else(|| property("ID_SERIAL")),
        }
    }
}
