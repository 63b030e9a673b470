//! Block devices as sysfs shows them: numbers, attributes, partitions, holders and what they stand on.
//!
//! The files are described in the kernel's Documentation/ABI/stable/sysfs-block.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::identity::Node;
use crate::loops::Loops;
use crate::system::System;

/// The kernel's number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

impl DeviceNumber {
    /// Takes a `st_rdev` or `st_dev` apart.
    pub(crate) fn from_rdev(rdev: u64) -> Self {
        Self { major: nix::sys::stat::major(rdev), minor: nix::sys::stat::minor(rdev) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidData, format!("\"{text}\" is not a device number"));
        let (major, minor) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Self {
            major: major.parse().map_err(|_| invalid())?,
            minor: minor.parse().map_err(|_| invalid())?,
        })
    }
}

/// One block device: a directory in sysfs.
#[derive(Debug, Clone)]
pub(crate) struct BlockDevice {
    dir: PathBuf,
    pub(crate) name: String,
    pub(crate) number: DeviceNumber,
}

impl BlockDevice {
    /// Reads the device whose sysfs directory, or a link to it, is `path`.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let dir = fs::canonicalize(path)?;
        let number = fs::read_to_string(dir.join("dev"))?.trim().parse()?;
        let name = dir.file_name().map(|name| name.to_string_lossy().replace('!', "/")).unwrap_or_default();
        Ok(Self { dir, name, number })
    }

    pub(crate) fn by_number(system: &System, number: DeviceNumber) -> io::Result<Self> {
        Self::at(&system.path(&format!("/sys/dev/block/{number}")))
    }

    /// The text of an attribute, trimmed; `None` where the file isn't there or is empty.
    pub(crate) fn attribute(&self, file: &str) -> io::Result<Option<String>> {
        read_trimmed(&self.dir.join(file))
    }

    pub(crate) fn number_attribute(&self, file: &str) -> io::Result<Option<u64>> {
        let Some(text) = self.attribute(file)? else { return Ok(None) };
        let value = text.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{file} holds \"{text}\", not a number"))
        })?;
        Ok(Some(value))
    }

    pub(crate) fn bytes_attribute(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join(file)).ok()
    }

    /// The disk that this device is a partition of; `None` for a whole device.
    pub(crate) fn disk(&self) -> io::Result<Option<Self>> {
        if !self.dir.join("partition").exists() {
            return Ok(None);
        }
        self.dir.parent().map(Self::at).transpose()
    }

    pub(crate) fn partitions(&self) -> io::Result<Vec<Self>> {
        let mut partitions = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.join("partition").exists() {
                partitions.push(Self::at(&path)?);
            }
        }
        partitions.sort_by_key(|partition| partition.number);
        Ok(partitions)
    }

    /// Devices that are built on this one (device-mapper, md, bcache, loop).
    pub(crate) fn holders(&self, loops: &Loops) -> io::Result<Vec<Self>> {
        let mut devices = self.links("holders")?;
        devices.extend(loops.over(Node::Block(self.number)).cloned());
        Ok(devices)
    }

    fn links(&self, directory: &str) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(self.dir.join(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut devices = entries.map(|entry| Self::at(&entry?.path())).collect::<io::Result<Vec<_>>>()?;
        devices.sort_by_key(|device| device.number);
        Ok(devices)
    }

    /// This device, its partitions, and everything built on any of them, each once.
    pub(crate) fn with_users(&self, loops: &Loops) -> io::Result<Vec<Self>> {
        walk(self, |device| Ok([device.partitions()?, device.holders(loops)?].concat()))
    }

    /// This device and everything that it stands on: disks of partitions, members of dm or md devices, and what a loop
    /// device shows.
    pub(crate) fn with_foundations(&self, system: &System, loops: &Loops) -> io::Result<Vec<Self>> {
        walk(self, |device| {
            let mut below = device.links("slaves")?;
            below.extend(device.disk()?);
            let shown = loops.below(device.number);
            below.extend(shown.map(|number| Self::by_number(system, number)).transpose()?);
            Ok(below)
        })
    }
}

fn walk(
    start: &BlockDevice,
    next: impl Fn(&BlockDevice) -> io::Result<Vec<BlockDevice>>,
) -> io::Result<Vec<BlockDevice>> {
    let mut seen = BTreeSet::from([start.number]);
    let mut found = vec![start.clone()];
    let mut at = 0;
    while let Some(device) = found.get(at) {
        let fresh: Vec<_> = next(device)?.into_iter().filter(|device| seen.insert(device.number)).collect();
        found.extend(fresh);
        at += 1;
    }
    Ok(found)
}

/// Reads a small text file; `None` where it isn't there or holds only blanks.
pub(crate) fn read_trimmed(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            Ok((!text.is_empty()).then(|| text.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
