//! What /sys tells of block devices.

use std::path::{Path, PathBuf};

use super::block::{Activity, BlockDevice, DevNum};
use super::system::System;

/// Bytes to a sector in /sys, whatever the device's own sector size (`Documentation/ABI/stable/sysfs-block`).
const SECTOR: u64 = 512;

/// What /sys knows of the device with this number; everything unknown is left empty.
pub(crate) fn of(system: &System, devnum: DevNum) -> Option<BlockDevice> {
    describe(system, &directory(system, devnum))
}

fn directory(system: &System, devnum: DevNum) -> PathBuf {
    system.below(&format!("sys/dev/block/{devnum}"))
}

pub(crate) fn describe(system: &System, directory: &Path) -> Option<BlockDevice> {
    let devnum = read(&directory.join("dev"))?.parse().ok()?;
    let uevent = read(&directory.join("uevent"))?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let sectors: u64 = read(&directory.join("size"))?.parse().ok()?;
    Some(BlockDevice {
        path: system.below("dev").join(name),
        devnum,
        tag: None,
        fs_type: None,
        label: None,
        serial: on_disk(directory, serial),
        size_bytes: sectors.saturating_mul(SECTOR),
        diskseq: on_disk(directory, |disk| read(&disk.join("diskseq"))?.parse().ok()),
    })
}

/// Asks the device's directory and, for a partition, that of its disk.
fn on_disk<T>(directory: &Path, ask: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let partition = directory.join("partition").exists();
    ask(directory).or_else(|| if partition { ask(&directory.canonicalize().ok()?.join("..")) } else { None })
}

/// The serial number, from where the drivers put it: virtio beside the size, NVMe and MMC below the device, SCSI in the
/// vital product data (page 0x80: 4 bytes of header, then text).
fn serial(disk: &Path) -> Option<String> {
    let text = ["serial", "device/serial"].iter().find_map(|file| read(&disk.join(file)));
    let page = || {
        let page = std::fs::read(disk.join("device/vpd_pg80")).ok()?;
        Some(String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned())
    };
    text.or_else(page).filter(|serial| !serial.is_empty())
}

/// The numbers of the devices that are built on this one (device-mapper, md).
pub(crate) fn holders(system: &System, devnum: DevNum) -> Vec<DevNum> {
    let holders = std::fs::read_dir(directory(system, devnum).join("holders"));
    holders
        .into_iter()
        .flatten()
        .filter_map(|holder| read(&holder.ok()?.path().join("dev"))?.parse().ok())
        .collect()
}

/// Whether a device, or the disk that a partition is on, takes no writes.
pub(crate) fn is_read_only(system: &System, devnum: DevNum) -> bool {
    read(&directory(system, devnum).join("ro")).is_some_and(|text| text != "0")
}

/// What a device has done so far, from the counters that `Documentation/block/stat.rst` numbers.
pub(crate) fn activity(system: &System, devnum: DevNum) -> Option<Activity> {
    const COMPLETED: [usize; 4] = [0, 4, 11, 15]; // reads, writes, discards (Linux 4.18), flushes (5.5)
    const WRITTEN_SECTORS: usize = 6;
    const IN_FLIGHT: usize = 8;
    let counters = read(&directory(system, devnum).join("stat"))?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
    Some(Activity {
        completed: COMPLETED.iter().filter_map(|at| counters.get(*at)).fold(0, |sum, n| sum.wrapping_add(*n)),
        written_bytes: counters.get(WRITTEN_SECTORS)?.saturating_mul(SECTOR),
        in_flight: *counters.get(IN_FLIGHT)?,
    })
}

/// The name of the device-mapper device with this number.
pub(crate) fn mapping_name(system: &System, devnum: DevNum) -> Option<String> {
    read(&directory(system, devnum).join("dm/name"))
}

/// The device-mapper device of this name.
pub(crate) fn mapping(system: &System, name: &str) -> Option<BlockDevice> {
    let devices = std::fs::read_dir(system.below("sys/class/block")).ok()?.flatten();
    let mut devices = devices.map(|entry| entry.path());
    describe(system, &devices.find(|device| read(&device.join("dm/name")).as_deref() == Some(name))?)
}

/// Whether a filesystem that shows itself in /sys lives on this device.
pub(crate) fn has_filesystem(system: &System, devnum: DevNum) -> bool {
    let Some(device) = describe(system, &directory(system, devnum)) else { return false };
    let Some(name) = device.path.file_name() else { return false };
    let by_device =
        ["ext4", "xfs", "f2fs"].iter().any(|kind| system.below("sys/fs").join(kind).join(name).exists());
    let pools = std::fs::read_dir(system.below("sys/fs/btrfs")).into_iter().flatten().flatten();
    by_device || pools.map(|pool| pool.path().join("devices").join(name)).any(|device| device.exists())
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A disk `sdx` (8:16) with one partition `sdx1` (8:17), held by `dm-0` (253:0), laid out as the kernel does.
    fn system(root: &Path) -> System {
        let write = |path: &str, text: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/devices/h0/sdx/dev", b"8:16\n");
        write("sys/devices/h0/sdx/size", b"2048\n");
        write("sys/devices/h0/sdx/diskseq", b"9\n");
        write("sys/devices/h0/sdx/uevent", b"MAJOR=8\nMINOR=16\nDEVNAME=sdx\nDEVTYPE=disk\n");
        write("sys/devices/h0/sdx/device/vpd_pg80", b"\0\x80\0\x08 WD-12  ");
        write("sys/devices/h0/sdx/sdx1/dev", b"8:17\n");
        write("sys/devices/h0/sdx/sdx1/size", b"2000\n");
        write("sys/devices/h0/sdx/sdx1/partition", b"1\n");
        write("sys/devices/h0/sdx/sdx1/uevent", b"DEVNAME=sdx1\nDEVTYPE=partition\n");
        write("sys/devices/h0/sdx/sdx1/holders/dm-0/dev", b"253:0\n");
        write("sys/devices/empty/dev", b"7:0\n");
        write("sys/devices/empty/size", b"0\n");
        write("sys/devices/empty/uevent", b"DEVNAME=loop0\n");
        fs::create_dir_all(root.join("sys/class/block")).unwrap();
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        for (target, name, number) in
            [("h0/sdx", "sdx", "8:16"), ("h0/sdx/sdx1", "sdx1", "8:17"), ("empty", "loop0", "7:0")]
        {
            symlink(format!("../../devices/{target}"), root.join("sys/class/block").join(name)).unwrap();
            symlink(format!("../../devices/{target}"), root.join("sys/dev/block").join(number)).unwrap();
        }
        System::new(root)
    }

    #[test]
    fn what_a_device_has_done_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let system = system(root.path());
        let disk = DevNum { major: 8, minor: 16 };
        assert_eq!(activity(&system, disk), None);
        let stat = root.path().join("sys/devices/h0/sdx/stat");
        fs::write(&stat, "  10 1 80 5  20 2 400 9  3 12 14  4 0 64 1  5 7\n").unwrap();
        let done = activity(&system, disk).unwrap();
        assert_eq!(done, Activity { completed: 39, written_bytes: 400 * 512, in_flight: 3 });
        // Kernels before 4.18 end here.
        fs::write(&stat, "10 1 80 5 20 2 400 9 0 12 14\n").unwrap();
        assert_eq!(activity(&system, disk).unwrap().completed, 30);
    }

    #[test]
    fn a_partition_has_its_disks_serial_and_sequence_number() {
        let root = tempfile::tempdir().unwrap();
        let system = system(root.path());
        let devices = system.scan().unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.path.clone()).collect();
        assert_eq!(names, [root.path().join("dev/sdx"), root.path().join("dev/sdx1")]);
        for device in &devices {
            assert_eq!(device.serial.as_deref(), Some("WD-12"));
            assert_eq!(device.diskseq, Some(9));
        }
        assert_eq!(devices[1].size_bytes, 2000 * 512);
    }

    #[test]
    fn a_mapping_is_known_by_its_name_and_a_filesystem_by_its_device() {
        let root = tempfile::tempdir().unwrap();
        let system = system(root.path());
        let disk = root.path().join("sys/devices/h0/sdx");
        fs::create_dir_all(disk.join("dm")).unwrap();
        fs::write(disk.join("dm/name"), "blue\n").unwrap();
        let number = DevNum { major: 8, minor: 16 };
        assert_eq!(mapping_name(&system, number).as_deref(), Some("blue"));
        assert_eq!(mapping(&system, "blue").unwrap().devnum, number);
        assert_eq!(mapping(&system, "blu"), None);
        for living in ["ext4/sdx", "btrfs/some-uuid/devices/sdx"] {
            assert!(!has_filesystem(&system, number));
            let at = root.path().join("sys/fs").join(living);
            fs::create_dir_all(&at).unwrap();
            assert!(has_filesystem(&system, number), "{living}");
            assert!(!has_filesystem(&system, DevNum { major: 8, minor: 17 }));
            fs::remove_dir(&at).unwrap();
        }
    }

    #[test]
    fn holders_are_named_by_their_number() {
        let root = tempfile::tempdir().unwrap();
        let system = system(root.path());
        assert_eq!(holders(&system, DevNum { major: 8, minor: 17 }), [DevNum { major: 253, minor: 0 }]);
        assert_eq!(holders(&system, DevNum { major: 8, minor: 16 }), []);
    }
}
