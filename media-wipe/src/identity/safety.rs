//! What speaks against overwriting: mounts, swap, holders, the system's own disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::unistd::{AccessFlags, access};

use super::refusal::Refusal;
use super::serial;
use crate::system::loops::Loops;
use crate::system::mount_table::{Mount, parse_mountinfo, parse_swaps};
use crate::system::node::{DeviceNumber, Node};
use crate::system::root::System;
use crate::system::sysfs::BlockDevice;

/// Mount points without which the running system doesn't start or run.
const SYSTEM_MOUNTS: [&str; 6] = ["/", "/boot", "/boot/efi", "/efi", "/usr", "/var"];

pub(crate) fn block_refusals(system: &System, device: &BlockDevice, id: &str) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    match Loops::read(system) {
        Ok(loops) => {
            collect(&mut refusals, "what is built on it", holders(system, device, &loops));
            collect(&mut refusals, "whether it is mounted", mounts(system, device, &loops));
            collect(&mut refusals, "whether it is used as swap space", swaps(system, device, &loops));
            collect(&mut refusals, "what it shows", shown(system, device, &loops));
        }
        Err(error) => collect(&mut refusals, "whether loop devices are built on it", Err(error)),
    }
    collect(&mut refusals, "whether it is read-only", read_only(device));
    collect(&mut refusals, "whether it is a partition", partition(system, device));
    if id.is_empty() {
        refusals.push(Refusal::NoStableId);
    } else {
        collect(&mut refusals, "whether its serial number is unique", twins(system, device, id));
    }
    refusals
}

pub(crate) fn file_refusals(system: &System, path: &Path, node: Node) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if access(path, AccessFlags::W_OK).is_err() {
        refusals.push(Refusal::ReadOnly);
    }
    let loops = Loops::read(system).map(|loops| {
        loops.over(node).map(|device| Refusal::LoopFile { loop_device: node_path(system, device) }).collect()
    });
    collect(&mut refusals, "whether a loop device shows it", loops);
    let swap = read_swaps(system).map(|swaps| {
        let same = |swap: &PathBuf| fs::metadata(swap).is_ok_and(|meta| Node::of(&meta) == Some(node));
        swaps.into_iter().filter(same).map(|device| Refusal::Swap { device }).collect()
    });
    collect(&mut refusals, "whether it is used as swap space", swap);
    refusals
}

/// What can't be found out is a refusal too.
fn collect(refusals: &mut Vec<Refusal>, what: &str, found: io::Result<Vec<Refusal>>) {
    match found {
        Ok(found) => refusals.extend(found),
        Err(error) => {
            refusals.push(Refusal::Unexplained { what: what.into(), reason: error.to_string() });
        }
    }
}

fn node_path(system: &System, device: &BlockDevice) -> PathBuf {
    system.path("/dev").join(&device.name)
}

fn holders(system: &System, device: &BlockDevice, loops: &Loops) -> io::Result<Vec<Refusal>> {
    let mut refusals = Vec::new();
    for held in std::iter::once(device.clone()).chain(device.partitions()?) {
        for holder in held.holders(loops)? {
            refusals.push(Refusal::Held {
                device: node_path(system, &held),
                name: holder.attribute("dm/name")?,
                holder: node_path(system, &holder),
            });
        }
    }
    Ok(refusals)
}

/// A mount with the block device behind it, which a filesystem over several devices (btrfs) names by its source only.
fn mounted_devices(system: &System) -> io::Result<Vec<(Mount, DeviceNumber)>> {
    let text = fs::read_to_string(system.path("/proc/self/mountinfo"))?;
    let mounts = parse_mountinfo(&text)
        .map_err(|line| io::Error::new(io::ErrorKind::InvalidData, format!("mountinfo says \"{line}\"")))?;
    let resolve = |mount: Mount| {
        let number = match mount.source.strip_prefix('/') {
            Some(_) if mount.number.major == 0 => {
                let meta = fs::metadata(system.path(&mount.source)).ok()?;
                let Some(Node::Block(number)) = Node::of(&meta) else { return None };
                number
            }
            _ => mount.number,
        };
        Some((mount, number))
    };
    Ok(mounts.into_iter().filter_map(resolve).collect())
}

fn mounts(system: &System, device: &BlockDevice, loops: &Loops) -> io::Result<Vec<Refusal>> {
    let users = device.with_users(loops)?;
    let mut refusals = Vec::new();
    for (mount, number) in mounted_devices(system)? {
        if let Some(user) = users.iter().find(|user| user.number == number) {
            refusals.push(Refusal::Mounted {
                device: node_path(system, user),
                mount_point: PathBuf::from(&mount.place),
            });
        }
        // A partition named in place of its disk shares the disk with the system, so look from below as well.
        if SYSTEM_MOUNTS.contains(&mount.place.as_str()) && stands_on(system, number, device, loops)? {
            refusals.push(Refusal::SystemDisk { mount_point: PathBuf::from(&mount.place) });
        }
    }
    let mut seen = BTreeSet::new();
    refusals.retain(|refusal| seen.insert(refusal.message()));
    Ok(refusals)
}

/// Whether the device `number` is, or stands on, the disk that `device` is or belongs to.
fn stands_on(system: &System, number: DeviceNumber, device: &BlockDevice, loops: &Loops) -> io::Result<bool> {
    if number.major == 0 {
        return Ok(false);
    }
    let disk = device.disk()?.map_or(device.number, |disk| disk.number);
    let below = BlockDevice::by_number(system, number)?.with_foundations(system, loops)?;
    Ok(below.iter().any(|device| device.number == disk))
}

fn read_swaps(system: &System) -> io::Result<Vec<PathBuf>> {
    match fs::read_to_string(system.path("/proc/swaps")) {
        Ok(text) => Ok(parse_swaps(&text)),
        // A kernel without swap support has no such file; one that can't be asked has no /proc at all.
        Err(error) if error.kind() == io::ErrorKind::NotFound && system.path("/proc/self").exists() => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Whether any swap space is in use, so that memory may reach a disk.
pub(crate) fn swaps_at_all(system: &System) -> io::Result<bool> {
    Ok(!read_swaps(system)?.is_empty())
}

fn swaps(system: &System, device: &BlockDevice, loops: &Loops) -> io::Result<Vec<Refusal>> {
    let users = device.with_users(loops)?;
    let mut refusals = Vec::new();
    for swap in read_swaps(system)? {
        let Ok(meta) = fs::metadata(system.path(&swap.to_string_lossy())) else { continue };
        if let Some(Node::Block(number)) = Node::of(&meta)
            && users.iter().any(|user| user.number == number)
        {
            refusals.push(Refusal::Swap { device: swap });
        }
    }
    Ok(refusals)
}

fn read_only(device: &BlockDevice) -> io::Result<Vec<Refusal>> {
    match device.number_attribute("ro")? {
        Some(0) => Ok(Vec::new()),
        Some(_) => Ok(vec![Refusal::ReadOnly]),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "sysfs has no attribute ro")),
    }
}

fn partition(system: &System, device: &BlockDevice) -> io::Result<Vec<Refusal>> {
    let disk = device.disk()?;
    Ok(disk.map(|disk| Refusal::Partition { disk: node_path(system, &disk) }).into_iter().collect())
}

/// Other drives with the same serial number: some docks show one number for every bay.
fn twins(system: &System, device: &BlockDevice, id: &str) -> io::Result<Vec<Refusal>> {
    let own = device.disk()?.map_or(device.number, |disk| disk.number);
    let twin = |other: &BlockDevice| {
        other.number != own && serial::stable_id(system, other).is_some_and(|other| other == id)
    };
    Ok(system
        .all_block_devices()?
        .into_iter()
        .filter(twin)
        .map(|other| Refusal::SharedId { id: id.into(), other: node_path(system, &other) })
        .collect())
}

/// A loop device over another block device is a second name for it, under which none of its users would be seen.
fn shown(system: &System, device: &BlockDevice, loops: &Loops) -> io::Result<Vec<Refusal>> {
    let Some(number) = loops.below(device.number) else { return Ok(Vec::new()) };
    let shown = node_path(system, &BlockDevice::by_number(system, number)?);
    Ok(vec![Refusal::LoopOver { device: shown }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A tree with the disk sda (8:0) of two partitions, dm-0 (253:0) on sda2, and the disk sdb (8:16).
    struct Tree {
        root: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Self {
            let tree = Self { root: tempfile::tempdir().unwrap() };
            for (dir, number) in [
                ("pci/sda", "8:0"),
                ("pci/sda/sda1", "8:1"),
                ("pci/sda/sda2", "8:2"),
                ("pci/sdb", "8:16"),
                ("virtual/dm-0", "253:0"),
            ] {
                let path = tree.root.path().join("sys/devices").join(dir);
                for inner in ["holders", "slaves", "dm", "device"] {
                    fs::create_dir_all(path.join(inner)).unwrap();
                }
                fs::write(path.join("dev"), number).unwrap();
                fs::write(path.join("ro"), "0\n").unwrap();
                if dir.contains("sda/") {
                    fs::write(path.join("partition"), "1").unwrap();
                } else {
                    fs::create_dir_all(tree.root.path().join("sys/block")).unwrap();
                    symlink(&path, tree.root.path().join("sys/block").join(path.file_name().unwrap()))
                        .unwrap();
                }
                fs::create_dir_all(tree.root.path().join("sys/dev/block")).unwrap();
                symlink(&path, tree.root.path().join("sys/dev/block").join(number)).unwrap();
            }
            let devices = tree.root.path().join("sys/devices");
            symlink(devices.join("virtual/dm-0"), devices.join("pci/sda/sda2/holders/dm-0")).unwrap();
            symlink(devices.join("pci/sda/sda2"), devices.join("virtual/dm-0/slaves/sda2")).unwrap();
            tree.write("sys/devices/virtual/dm-0/dm/name", "vg-root\n");
            tree.write("proc/self/mountinfo", "");
            tree.write("proc/swaps", "Filename Type Size\n");
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn kinds(&self, number: &str, id: &str) -> Vec<String> {
            let system = System::new(self.root.path());
            let device = BlockDevice::by_number(&system, number.parse().unwrap()).unwrap();
            block_refusals(&system, &device, id).iter().map(|refusal| refusal.kind().to_owned()).collect()
        }
    }

    #[test]
    fn a_free_disk_is_accepted() {
        assert_eq!(Tree::new().kinds("8:16", "WX1"), [""; 0]);
    }

    #[test]
    fn the_system_disk_is_found_through_device_mapper() {
        let tree = Tree::new();
        tree.write("proc/self/mountinfo", "27 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n");
        assert_eq!(tree.kinds("8:0", "S1"), ["held", "mounted", "system-disk"]);
        // The unmounted partition beside it is on the same disk.
        assert_eq!(tree.kinds("8:1", "S1"), ["system-disk", "partition"]);
        assert_eq!(tree.kinds("8:16", "WX1"), [""; 0]);
    }

    #[test]
    fn a_mounted_partition_is_named() {
        let tree = Tree::new();
        tree.write("proc/self/mountinfo", "27 1 8:1 / /mnt/a\\040b rw - ext4 /dev/sda1 rw\n");
        let system = System::new(tree.root.path());
        let device = BlockDevice::by_number(&system, "8:0".parse().unwrap()).unwrap();
        let refusals = block_refusals(&system, &device, "S1");
        assert!(refusals.contains(&Refusal::Mounted {
            device: tree.root.path().join("dev/sda1"),
            mount_point: "/mnt/a b".into()
        }));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let tree = Tree::new();
        tree.write("proc/self/mountinfo", "garbage\n");
        assert_eq!(tree.kinds("8:16", "WX1"), ["unexplained"]);
        fs::remove_dir_all(tree.root.path().join("proc")).unwrap();
        assert_eq!(tree.kinds("8:16", "WX1"), ["unexplained", "unexplained"]);
    }

    #[test]
    fn serial_numbers_must_be_there_and_unique() {
        let tree = Tree::new();
        tree.write("sys/devices/pci/sda/device/serial", "0123\n");
        assert_eq!(tree.kinds("8:16", ""), ["no-stable-id"]);
        assert_eq!(tree.kinds("8:16", "0123"), ["shared-id"]);
        tree.write("run/udev/data/b8:0", "S:disk/by-id/ata-X\nE:ID_SERIAL_SHORT=WX9\n");
        assert_eq!(tree.kinds("8:16", "0123"), [""; 0]);
        assert_eq!(tree.kinds("8:16", "WX9"), ["shared-id"]);
    }

    #[test]
    fn a_write_protected_disk_is_refused() {
        let tree = Tree::new();
        tree.write("sys/devices/pci/sdb/ro", "1\n");
        assert_eq!(tree.kinds("8:16", "WX1"), ["read-only"]);
    }
}
