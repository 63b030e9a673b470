//! Drives that are plugged and not enrolled: a foreign one, a blank one, one of another site. They are only named, by
//! what udev knows of them: none is read from, and no key is ever tried on one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mount_by_uuid::{BlockDevice, DevNum, System, Tag, is_held};

use crate::base::paths::Root;
use crate::protocol::site_status::UnknownDrive;
use crate::site::description::Site;

/// A disk or a partition, with what /sys knows of it.
#[derive(Debug, Clone)]
struct Part {
    device: BlockDevice,
    /// The disk that it is on; itself for a whole disk.
    disk: DevNum,
    /// Something of this server uses it.
    held: bool,
}

/// How the kernel's names of disks begin that can be drives in a dock; other devices are built on such or hold no files.
const DISKS: [&str; 7] = ["sd", "hd", "vd", "xvd", "nvme", "mmcblk", "loop"];

/// What a member of a pool says its content is, such as `LVM2_member`: its pool may come up at any time.
const MEMBER: &str = "_member";

/// Looks for them in udev's records; none is found where no udevd runs, for each drive would have to be read from.
pub fn look(root: &Root, site: &Site) -> Vec<UnknownDrive> {
    let system = System::new(root.kernel());
    if !system.has_udevd() {
        return Vec::new();
    }
    let (Ok(devices), Ok(unrecorded)) = (system.recorded(), system.unrecorded()) else { return Vec::new() };
    // What udevd has not finished with may be anything.
    let unfinished: BTreeSet<DevNum> = unrecorded.iter().map(|device| device.devnum).collect();
    let swaps = std::fs::read_to_string(system.root().join("proc/swaps")).unwrap_or_default();
    let part = |device: BlockDevice| Part {
        disk: disk_of(&system, device.devnum),
        held: is_held(&system, device.devnum)
            || unfinished.contains(&device.devnum)
            || swaps.lines().any(|line| line.split_whitespace().next().map(Path::new) == Some(&device.path)),
        device,
    };
    let parts: Vec<Part> = devices.into_iter().map(part).collect();
    let enrolled: BTreeSet<Tag> =
        site.magazines.iter().map(crate::site::description::Magazine::tag).collect();
    let mut drives = unknown(&parts, &enrolled);
    for drive in &mut drives {
        let serial = drive.serial.as_deref().unwrap_or_default();
        let known: Vec<&str> = site.with_serial(serial).into_iter().map(|m| m.name.as_str()).collect();
        drive.spare(&known);
    }
    drives
}

fn disk_of(system: &System, devnum: DevNum) -> DevNum {
    let directory = system.root().join(format!("sys/dev/block/{devnum}"));
    if !directory.join("partition").exists() {
        return devnum;
    }
    let disk = directory
        .canonicalize()
        .ok()
        .and_then(|path| std::fs::read_to_string(path.parent()?.join("dev")).ok()?.trim().parse().ok());
    disk.unwrap_or(devnum)
}

/// The disks of which no part is enrolled, used, or a member of a pool.
fn unknown(parts: &[Part], enrolled: &BTreeSet<Tag>) -> Vec<UnknownDrive> {
    let mut disks: BTreeMap<DevNum, Vec<&Part>> = BTreeMap::new();
    for part in parts {
        disks.entry(part.disk).or_default().push(part);
    }
    let is_used = |part: &Part| {
        let kind = part.device.fs_type.as_deref().unwrap_or_default();
        part.held
            || kind.ends_with(MEMBER)
            || kind == "swap"
            || part.device.tag.as_ref().is_some_and(|tag| enrolled.contains(tag))
    };
    let unused = disks.into_iter().filter(|(_, parts)| !parts.iter().any(|part| is_used(part)));
    unused.filter_map(|(number, parts)| describe(number, &parts)).collect()
}

fn describe(number: DevNum, parts: &[&Part]) -> Option<UnknownDrive> {
    let disk = &parts.iter().find(|part| part.device.devnum == number)?.device;
    let name = disk.path.file_name()?.to_str()?;
    let boot =
        name.starts_with("mmcblk") && name.get("mmcblk".len()..)?.contains(|c: char| c.is_ascii_alphabetic());
    if boot || !DISKS.iter().any(|start| name.starts_with(start)) {
        return None;
    }
    let kinds: Vec<&BlockDevice> =
        parts.iter().map(|part| &part.device).filter(|device| device.fs_type.is_some()).collect();
    let shown = disk.path.display();
    let erase = format!("`offsite prepare {shown}` erases it and enrols it");
    let luks = kinds.iter().find(|device| matches!(device.tag, Some(Tag::Luks(_))));
    let (contents, remedy) = match (luks, kinds.is_empty(), parts.len()) {
        (Some(luks), _, _) => {
            let adopt = format!("`offsite adopt {}` enrols it as it is", luks.path.display());
            (
                "a LUKS container that is not enrolled here".to_owned(),
                format!("{adopt}, if it is yours; {erase}"),
            )
        }
        (None, false, _) => {
            let contents: Vec<String> = kinds.iter().map(|device| filesystem(device)).collect();
            (contents.join(", "), erase)
        }
        (None, true, 1) => ("blank, or nothing that is known here".to_owned(), erase),
        (None, true, _) => ("partitions with nothing that is known here".to_owned(), erase),
    };
    Some(UnknownDrive {
        device: disk.path.clone(),
        serial: disk.serial.clone(),
        size_bytes: disk.size_bytes,
        contents,
        remedy,
    })
}

fn filesystem(device: &BlockDevice) -> String {
    let kind = device.fs_type.as_deref().unwrap_or_default();
    match &device.label {
        Some(label) => format!("{kind} \"{label}\""),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUKS: &str = "6c5b725d-50c4-4605-b750-4f23575b9b5f";

    fn part(name: &str, minor: u32, disk: u32, fs_type: Option<&str>) -> Part {
        let number = |minor| DevNum { major: 8, minor };
        let tag = (fs_type == Some("crypto_LUKS")).then(|| Tag::Luks(LUKS.parse().unwrap()));
        let device = BlockDevice {
            path: Path::new("/dev").join(name),
            devnum: number(minor),
            tag,
            fs_type: fs_type.map(str::to_owned),
            label: None,
            serial: Some("WD-1".to_owned()),
            size_bytes: 1 << 30,
            diskseq: None,
        };
        Part { device, disk: number(disk), held: false }
    }

    fn contents(parts: &[Part]) -> Vec<String> {
        unknown(parts, &BTreeSet::new()).into_iter().map(|drive| drive.contents).collect()
    }

    #[test]
    fn each_kind_of_drive_is_said() {
        assert_eq!(contents(&[part("sdb", 16, 16, None)]), ["blank, or nothing that is known here"]);
        let luks = [part("sdb", 16, 16, Some("crypto_LUKS"))];
        assert_eq!(contents(&luks), ["a LUKS container that is not enrolled here"]);
        let mut stick = [part("sdc", 32, 32, None), part("sdc1", 33, 32, Some("vfat"))];
        stick[1].device.label = Some("KEYS".to_owned());
        assert_eq!(contents(&stick), ["vfat \"KEYS\""]);
        let inside = [part("sdc", 32, 32, None), part("sdc1", 33, 32, Some("crypto_LUKS"))];
        let told = unknown(&inside, &BTreeSet::new());
        assert!(told[0].remedy.starts_with("`offsite adopt /dev/sdc1`"), "{told:?}");
        assert_eq!(told[0].device, Path::new("/dev/sdc"), "the drive, not its partition");
    }

    #[test]
    fn a_drive_with_an_enrolled_serial_number_is_not_to_be_erased() {
        let mut drive = unknown(&[part("sdb", 16, 16, None)], &BTreeSet::new()).remove(0);
        drive.spare(&[]);
        assert!(drive.remedy.contains("`offsite prepare /dev/sdb` erases it"), "{drive:?}");
        drive.spare(&["A"]);
        assert!(drive.contents.ends_with(", but the serial number is that of A"), "{drive:?}");
        assert!(drive.remedy.contains("offsite doctor") && !drive.remedy.contains("prepare"), "{drive:?}");
    }

    #[test]
    fn what_this_server_uses_is_no_unknown_drive() {
        let tag = BTreeSet::from([Tag::Luks(LUKS.parse().unwrap())]);
        let ours = [part("sdb", 16, 16, None), part("sdb1", 17, 16, Some("crypto_LUKS"))];
        assert!(unknown(&ours, &tag).is_empty());
        let mut system =
            [part("sda", 0, 0, None), part("sda1", 1, 0, Some("ext4")), part("sda2", 2, 0, None)];
        system[1].held = true;
        assert!(contents(&system).is_empty());
        for kind in ["LVM2_member", "linux_raid_member", "zfs_member", "swap"] {
            assert!(contents(&[part("sdb", 16, 16, Some(kind))]).is_empty(), "{kind}");
        }
        for name in ["dm-0", "md127", "sr0", "zram0", "mmcblk0boot0", "nbd0"] {
            assert!(contents(&[part(name, 16, 16, None)]).is_empty(), "{name}");
        }
        assert_eq!(contents(&[part("mmcblk0", 16, 16, None)]).len(), 1);
    }
}
