//! What names a drive for good: its serial number, its model, its link in `/dev/disk/by-id`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::system::attribute::read_trimmed;
use crate::system::node::DeviceNumber;
use crate::system::root::System;
use crate::system::sysfs::BlockDevice;

/// Finds the serial number: udev's database first, then what the kernel shows.
///
/// A device-mapper device has its UUID or name in place of a serial number, a loop device its backing file's path.
pub(crate) fn stable_id(system: &System, device: &BlockDevice) -> Option<String> {
    let shown = |file: &str| device.attribute(file).ok().flatten();
    if let Some(backing) = shown("loop/backing_file") {
        return Some(backing);
    }
    udev_property(system, device, "ID_SERIAL_SHORT")
        .or_else(|| shown("device/serial"))
        .or_else(|| shown("serial"))
        .or_else(|| device.bytes_attribute("device/vpd_pg80").and_then(|page| unit_serial(&page)))
        .or_else(|| udev_property(system, device, "ID_SERIAL"))
        .or_else(|| shown("device/wwid"))
        .or_else(|| shown("wwid"))
        .or_else(|| shown("dm/uuid"))
        .or_else(|| shown("dm/name"))
}

/// The model as udev or the kernel shows it.
pub(crate) fn model(system: &System, device: &BlockDevice) -> Option<String> {
    let shown = |file: &str| device.attribute(file).ok().flatten();
    match (shown("device/vendor"), shown("device/model")) {
        // libata shows "ATA" for every vendor, and virtio and NVMe show a PCI number.
        (Some(vendor), Some(model)) if vendor != "ATA" && !vendor.starts_with("0x") => {
            Some(format!("{vendor} {model}"))
        }
        (_, Some(model)) => Some(model),
        _ => udev_property(system, device, "ID_MODEL"),
    }
}

/// The link in `/dev/disk/by-id` that says most about the drive.
pub(crate) fn by_id_link(system: &System, number: DeviceNumber) -> Option<PathBuf> {
    let links = fs::read_dir(system.path("/dev/disk/by-id")).ok()?;
    links
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|link| fs::metadata(link).is_ok_and(|meta| DeviceNumber::from_rdev(meta.rdev()) == number))
        .min_by_key(|link| {
            let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // World-wide names tell a person nothing.
            (
                name.starts_with("wwn-") || name.starts_with("nvme-eui") || name.starts_with("scsi-3"),
                name.len(),
                name,
            )
        })
}

/// A property in udev's database, whose entries are lines `E:KEY=VALUE` (systemd, `device_read_db`).
fn udev_property(system: &System, device: &BlockDevice, key: &str) -> Option<String> {
    let text = read_trimmed(&system.path(&format!("/run/udev/data/b{}", device.number))).ok()??;
    text.lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// The serial number in a SCSI vital product data page 0x80: four bytes of header, then text (SPC-4, 7.8.15).
fn unit_serial(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, text @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let text = String::from_utf8_lossy(text.get(..length)?);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_page_0x80() {
        assert_eq!(unit_serial(b"\0\x80\0\x08  WX1234rest").as_deref(), Some("WX1234"));
        assert_eq!(unit_serial(b"\0\x80\0\x08 WX"), None);
        assert_eq!(unit_serial(b"\0\x83\0\x02WX"), None);
    }
}
