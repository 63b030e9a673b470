//! What keeps a block device in use: mounts in any namespace, processes with files on it, devices built on it.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::table::{MountEntry, MountTable};
use crate::device::block::DevNum;
use crate::device::statx::{Place, place};
use crate::device::sysfs;
use crate::device::system::System;

/// Something that uses a block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceUser {
    /// Its filesystem is mounted.
    Mount {
        /// Where.
        at: PathBuf,
        /// A process that sees this mount, if it isn't one of the caller's own mount namespace.
        seen_by: Option<Process>,
    },
    /// A process uses a file on it, or the device itself.
    Process {
        /// The process.
        process: Process,
        /// How it uses it.
        usage: Usage,
    },
    /// Another device is built on it (device-mapper, md).
    Device {
        /// That device's node.
        path: PathBuf,
    },
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The program's name, 15 bytes at most (`/proc/PID/comm`).
    pub name: String,
}

/// How a process uses a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// It stands in a directory there.
    Directory(PathBuf),
    /// It has a file there open or mapped, or runs a program from there.
    File(PathBuf),
    /// It has the device itself open.
    Device(PathBuf),
}

impl fmt::Display for DeviceUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceUser::Mount { at, seen_by: None } => write!(f, "it is mounted at {}", at.display()),
            DeviceUser::Mount { at, seen_by: Some(process) } => {
                write!(f, "it is mounted at {} for {process}", at.display())
            }
            DeviceUser::Process { process, usage: Usage::Directory(at) } => {
                write!(f, "{process} stands in {}", at.display())
            }
            DeviceUser::Process { process, usage: Usage::File(path) } => {
                write!(f, "{process} uses {}", path.display())
            }
            DeviceUser::Process { process, usage: Usage::Device(path) } => {
                write!(f, "{process} has {} open", path.display())
            }
            DeviceUser::Device { path } => write!(f, "{} is built on it", path.display()),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Lists what uses the block device with this number, or a device built on it: mounts first, then processes in the order of their numbers, each
/// with one of its uses, then devices. Mounts at `except` are left out, but not who uses files there.
///
/// Nothing is opened or read on the device or its filesystem, so it doesn't hang when the drive is gone. Missing are
/// processes that may not be looked at, mounts of a namespace in which no process lives, what the kernel itself keeps
/// (a loop device's or a swap file, a frozen filesystem), and of Btrfs files whose mount was unmounted lazily.
pub fn device_users(system: &System, devnum: DevNum, except: Option<&Path>) -> Vec<DeviceUser> {
    let processes = processes(system);
    let devices = stack(system, devnum);
    let sources: Vec<_> = devices.iter().flat_map(|device| names(system, *device)).collect();
    let mut namespaces = Namespaces::default();
    // The caller may have a namespace of its own beside the one whose mounts count.
    let own = System::new(system.root());
    for system in [system, &own] {
        if let (Ok(namespace), Ok(table)) =
            (fs::read_link(system.mounts_below("ns/mnt")), MountTable::read(system))
        {
            namespaces.add(namespace.as_os_str(), &table, &devices, &sources, None);
        }
    }
    for (pid, directory) in &processes {
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { continue };
        if !namespaces.known.contains(namespace.as_os_str())
            && let Ok(table) = MountTable::read_of(system, *pid)
        {
            namespaces.add(
                namespace.as_os_str(),
                &table,
                &devices,
                &sources,
                Some(&process(*pid, directory)),
            );
        }
    }
    let there = |found: &Place| {
        devices.contains(&found.devnum) || found.mount.is_some_and(|mount| namespaces.ids.contains(&mount))
    };
    let using = processes.iter().filter_map(|(pid, directory)| {
        let usage = usage(directory, &devices, there)?;
        Some(DeviceUser::Process { process: process(*pid, directory), usage })
    });
    let built = devices.iter().skip(1).filter_map(|device| names(system, *device).pop());
    let built = built.map(|path| DeviceUser::Device { path });
    let mounts = namespaces.mounts.into_iter().filter(|(at, _)| Some(at.as_path()) != except);
    let mounts = mounts.map(|(at, seen_by)| DeviceUser::Mount { at, seen_by });
    mounts.chain(using).chain(built).collect()
}

/// Whether a block device is claimed: by a filesystem that is mounted anywhere, in whichever namespace, or lives on after
/// a lazy unmount, or by a device on top of it. A device that can't be opened is not.
pub fn is_in_use(device: &Path) -> bool {
    // Without O_CREAT it asks for a block device that nobody else claims (open(2)).
    let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(device, flags, Mode::empty()).err() == Some(Errno::EBUSY)
}

/// Whether a block device is seen to be in use without opening it: by a device on top of it, a mount in the caller's
/// namespace, or a living filesystem of a kind that shows itself in /sys (ext2 to ext4, XFS, Btrfs, F2FS).
pub fn is_held(system: &System, devnum: DevNum) -> bool {
    !sysfs::holders(system, devnum).is_empty()
        || sysfs::has_filesystem(system, devnum)
        || MountTable::read(system).is_ok_and(|table| table.mounts_of(devnum).next().is_some())
}

/// The mounts of a device, of all namespaces that were looked at.
#[derive(Default)]
struct Namespaces {
    known: HashSet<OsString>,
    ids: HashSet<u64>,
    mounts: BTreeSet<(PathBuf, Option<Process>)>,
}

impl Namespaces {
    fn add(
        &mut self,
        namespace: &std::ffi::OsStr,
        table: &MountTable,
        devices: &[DevNum],
        sources: &[PathBuf],
        seen_by: Option<&Process>,
    ) {
        self.known.insert(namespace.to_owned());
        for entry in table.entries().iter().filter(|entry| is_of(entry, devices, sources)) {
            self.ids.insert(u64::from(entry.id));
            self.mounts.insert((entry.mount_point.clone(), seen_by.cloned()));
        }
    }
}

/// A device and all that is built on it, and on those.
fn stack(system: &System, devnum: DevNum) -> Vec<DevNum> {
    let mut devices = vec![devnum];
    let mut next = 0;
    while let Some(device) = devices.get(next) {
        let holders = sysfs::holders(system, *device);
        devices.extend(holders.into_iter().filter(|holder| !devices.contains(holder)).collect::<Vec<_>>());
        next += 1;
    }
    devices
}

/// Whether a mount is one of these devices. That of a Btrfs shows no device's number, but a source.
fn is_of(entry: &MountEntry, devices: &[DevNum], sources: &[PathBuf]) -> bool {
    let named = || entry.devnum.major == 0 && sources.iter().any(|source| source.as_os_str() == entry.source);
    devices.contains(&entry.devnum) || named()
}

/// The names under which a device may have been mounted, the one that tells most last.
fn names(system: &System, devnum: DevNum) -> Vec<PathBuf> {
    let node = system.device(devnum).map(|device| device.path);
    let mapping = sysfs::mapping_name(system, devnum).map(|name| system.below("dev/mapper").join(name));
    node.into_iter().chain(mapping).collect()
}

fn processes(system: &System) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(system.below("proc")).into_iter().flatten().flatten();
    let numbered =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let mut processes: Vec<_> = numbered.collect();
    processes.sort_unstable();
    processes
}

fn process(pid: u32, directory: &Path) -> Process {
    let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
    Process { pid, name: name.trim_end().to_owned() }
}

fn usage(process: &Path, devices: &[DevNum], there: impl Fn(&Place) -> bool) -> Option<Usage> {
    let target = |link: &Path| fs::read_link(link).unwrap_or_default();
    let is_there = |link: &PathBuf| place(link).is_ok_and(|found| there(&found));
    if let Some(link) = ["cwd", "root"].map(|link| process.join(link)).into_iter().find(is_there) {
        return Some(Usage::Directory(target(&link)));
    }
    let listed = ["fd", "map_files"].into_iter().flat_map(|list| fs::read_dir(process.join(list)));
    let mut links = listed.flatten().flatten().map(|entry| entry.path()).chain([process.join("exe")]);
    links.find_map(|link| match place(&link) {
        Ok(found) if there(&found) => Some(Usage::File(target(&link))),
        Ok(found) if found.block_device.is_some_and(|device| devices.contains(&device)) => {
            Some(Usage::Device(target(&link)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn open_files_and_working_directories_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().canonicalize().unwrap();
        let devnum = DevNum::from_dev(fs::metadata(&at).unwrap().dev());
        let system = System::new(Path::new("/"));
        let _held = fs::File::create(at.join("volume")).unwrap();
        let mut shell =
            Command::new("sleep").arg("60").current_dir(&at).stdout(Stdio::null()).spawn().unwrap();
        let found = device_users(&system, devnum, None);
        shell.kill().unwrap();
        shell.wait().unwrap();
        let uses = |pid: u32| {
            found.iter().find_map(|user| match user {
                DeviceUser::Process { process, usage } if process.pid == pid => Some(usage.clone()),
                _ => None,
            })
        };
        // This process may have other files there too.
        assert!(uses(std::process::id()).is_some(), "{found:?}");
        assert_eq!(uses(shell.id()), Some(Usage::Directory(at)));
        assert!(found.iter().any(|user| user.to_string().starts_with("sleep (process ")), "{found:?}");
        assert_eq!(device_users(&system, DevNum { major: 4095, minor: 4095 }, None), []);
    }

    #[test]
    fn a_mount_of_btrfs_is_known_by_its_source() {
        let table = "\
30 22 8:1 / /a rw - ext4 /dev/sdx1 rw
31 22 0:40 / /b rw - btrfs /dev/mapper/blue rw
32 22 0:41 / /c rw - btrfs /dev/sdy rw
33 22 253:0 / /d rw - ext4 /dev/dm-0 rw
";
        let table = MountTable::parse(table).unwrap();
        let sources = ["/dev/dm-0".into(), "/dev/mapper/blue".into()];
        let devices = [DevNum { major: 253, minor: 0 }];
        let own = table.entries().iter().filter(|entry| is_of(entry, &devices, &sources));
        let points: Vec<_> = own.map(|entry| entry.mount_point.clone()).collect();
        assert_eq!(points, [Path::new("/b"), Path::new("/d")]);
    }
}
