//! What the kernel calls a device or a file.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::str::FromStr;
use std::{fmt, fs, io};

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

/// What the kernel calls the thing behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Block(DeviceNumber),
    File { filesystem: u64, inode: u64 },
}

impl Node {
    pub(crate) fn of(meta: &fs::Metadata) -> Option<Self> {
        if meta.file_type().is_block_device() {
            Some(Self::Block(DeviceNumber::from_rdev(meta.rdev())))
        } else if meta.is_file() {
            Some(Self::File { filesystem: meta.dev(), inode: meta.ino() })
        } else {
            None
        }
    }
}
