//! Block devices as sysfs shows them: numbers, attributes, partitions, holders and what they stand on.
//!
//! The files are described in the kernel's Documentation/ABI/stable/sysfs-block.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::attribute::read_trimmed;
use super::node::DeviceNumber;
use super::root::System;

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

    pub(crate) fn links(&self, directory: &str) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(self.dir.join(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut devices = entries.map(|entry| Self::at(&entry?.path())).collect::<io::Result<Vec<_>>>()?;
        devices.sort_by_key(|device| device.number);
        Ok(devices)
    }
}

impl System {
    /// Every block device that sysfs lists as a disk, virtual ones included.
    pub(crate) fn all_block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        let mut devices = Vec::new();
        for entry in fs::read_dir(self.path("/sys/block"))? {
            match BlockDevice::at(&entry?.path()) {
                Ok(device) => devices.push(device),
                // Drives come and go while the directory is read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }
}
