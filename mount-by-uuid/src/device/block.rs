//! Block devices and what they carry.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fs_uuid::FsUuid;

/// The number by which the kernel knows a device, written `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevNum {
    /// The driver's number.
    pub major: u32,
    /// The device's number within its driver.
    pub minor: u32,
}

impl DevNum {
    /// Splits a `dev_t` as `stat(2)` returns it.
    pub fn from_dev(dev: u64) -> DevNum {
        // major(3) and minor(3) are 32 bits wide in Linux' 64-bit encoding, so neither conversion can fail.
        let half = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        DevNum { major: half(nix::sys::stat::major(dev)), minor: half(nix::sys::stat::minor(dev)) }
    }

    /// The kernel's 32-bit encoding (`new_encode_dev` in `include/linux/kdev_t.h`), which /dev/autofs expects.
    pub(crate) fn encode_u32(self) -> u32 {
        (self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)
    }
}

impl fmt::Display for DevNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A text is not a device number of the form `major:minor`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a device number like 8:1")]
pub struct DevNumError {
    /// The text.
    pub text: String,
}

impl FromStr for DevNum {
    type Err = DevNumError;

    fn from_str(text: &str) -> Result<DevNum, DevNumError> {
        let parsed = text.trim_end().split_once(':').and_then(|(major, minor)| {
            Some(DevNum { major: major.parse().ok()?, minor: minor.parse().ok()? })
        });
        parsed.ok_or_else(|| DevNumError { text: text.to_owned() })
    }
}

/// The identifier by which the content of a block device is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// A LUKS container, of either version, by the UUID in its header.
    Luks(Uuid),
    /// A filesystem by the UUID in its superblock.
    Filesystem(FsUuid),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tag::Luks(uuid) => write!(f, "LUKS container {uuid}"),
            Tag::Filesystem(uuid) => write!(f, "filesystem {uuid}"),
        }
    }
}

/// The name that udev and libblkid give to a LUKS container in place of a filesystem type.
const LUKS_TYPE: &str = "crypto_LUKS";

impl Tag {
    /// Combines a type and a UUID as udev and libblkid report them; a UUID of an unknown form gives no tag.
    pub(crate) fn from_blkid(fs_type: &str, uuid: &str) -> Option<Tag> {
        if fs_type == LUKS_TYPE {
            Uuid::parse_str(uuid).ok().map(Tag::Luks)
        } else {
            uuid.parse().ok().map(Tag::Filesystem)
        }
    }
}

/// A block device and what it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The device node, for example `/dev/sdb1`; below the root of the [`System`](crate::System) that found it.
    pub path: PathBuf,
    /// The kernel's number of the device.
    pub devnum: DevNum,
    /// The UUID of the LUKS container or filesystem on the device; none where there is no recognised content.
    pub tag: Option<Tag>,
    /// The content's type as libblkid names it, for example `ext4` or `crypto_LUKS`.
    pub fs_type: Option<String>,
    /// The content's label.
    pub label: Option<String>,
    /// The serial number that the hardware reports; a partition has its disk's.
    pub serial: Option<String>,
    /// The device's size in bytes; 0 where it isn't known, and for a drive without a medium.
    pub size_bytes: u64,
    /// The kernel's serial number of this appearance of the disk, which is never used again until the next boot
    /// (Linux 5.15): it tells a drive that came back under an old name from the one that left.
    pub diskseq: Option<u64>,
}

/// What a block device has done since it appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Number of requests that have ended, well or not.
    pub completed: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Number of requests that are under way.
    pub in_flight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_parse_print_and_split() {
        let number: DevNum = "259:17\n".parse().unwrap();
        assert_eq!(number, DevNum { major: 259, minor: 17 });
        assert_eq!(number.to_string(), "259:17");
        assert_eq!(DevNum::from_dev(nix::sys::stat::makedev(259, 17)), number);
        for text in ["", "8", "8:", ":1", "8:1:2", "-8:1"] {
            assert!(text.parse::<DevNum>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn large_minors_go_above_the_major_in_the_short_encoding() {
        assert_eq!(DevNum { major: 0, minor: 45 }.encode_u32(), 45);
        assert_eq!(DevNum { major: 8, minor: 0x123 }.encode_u32(), 0x0010_0823);
    }

    #[test]
    fn a_luks_type_needs_a_real_uuid() {
        let text = "3f1e2a60-6f5c-4b0e-9a52-8d3c1b7f0e11";
        assert_eq!(Tag::from_blkid("crypto_LUKS", text), Some(Tag::Luks(Uuid::parse_str(text).unwrap())));
        assert_eq!(Tag::from_blkid("crypto_LUKS", "7A1B-03C4"), None);
        assert_eq!(Tag::from_blkid("vfat", "7A1B-03C4"), Some(Tag::Filesystem("7A1B-03C4".parse().unwrap())));
    }
}
