//! Reading from a device what it carries, with libblkid.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use libblkid_rs::{BlkidErr, BlkidProbe, BlkidSafeprobeRet, BlkidSublks, BlkidSublksFlags};

use super::block::{BlockDevice, DevNum, Tag};
use super::sysfs;
use super::system::System;

/// Why a device can't be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The device node isn't there.
    #[error("{} is not there; was the drive unplugged?", device.display())]
    NotThere {
        /// The path that was asked for.
        device: PathBuf,
    },
    /// The path can't be looked at.
    #[error("can't look at {}", device.display())]
    Stat {
        /// The path that was asked for.
        device: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The path leads to something else.
    #[error("{} is not a block device; name one like /dev/sdb", device.display())]
    NotABlockDevice {
        /// The path that was asked for.
        device: PathBuf,
    },
    /// /sys doesn't know the device.
    #[error("the kernel has no device {devnum} behind {}; was the drive unplugged?", device.display())]
    Unknown {
        /// The path that was asked for.
        device: PathBuf,
        /// The number of its device node.
        devnum: DevNum,
    },
    /// The device carries the signatures of several filesystems, so its content is in doubt.
    #[error("{} carries contradictory signatures; `wipefs {}` lists them", device.display(), device.display())]
    Contradictory {
        /// The path that was asked for.
        device: PathBuf,
    },
    /// libblkid can't read the device.
    #[error("can't read {}: {message}", device.display())]
    Read {
        /// The path that was asked for.
        device: PathBuf,
        /// What libblkid said; its errors carry no more than this text.
        message: String,
    },
}

pub(crate) fn probe(system: &System, device: &Path) -> Result<BlockDevice, ProbeError> {
    let at = || device.to_owned();
    let metadata = std::fs::metadata(device).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProbeError::NotThere { device: at() },
        _ => ProbeError::Stat { device: at(), source },
    })?;
    if !metadata.file_type().is_block_device() {
        return Err(ProbeError::NotABlockDevice { device: at() });
    }
    let devnum = DevNum::from_dev(metadata.rdev());
    let mut found = sysfs::of(system, devnum).ok_or_else(|| ProbeError::Unknown { device: at(), devnum })?;
    let content = superblock(device)
        .map_err(|error| ProbeError::Read { device: at(), message: error.to_string() })?
        .ok_or_else(|| ProbeError::Contradictory { device: at() })?;
    found.path = at();
    found.tag = content.tag();
    found.fs_type = content.fs_type;
    found.label = content.label;
    Ok(found)
}

#[derive(Default)]
struct Content {
    fs_type: Option<String>,
    uuid: Option<String>,
    label: Option<String>,
}

impl Content {
    fn tag(&self) -> Option<Tag> {
        Tag::from_blkid(self.fs_type.as_deref()?, self.uuid.as_deref()?)
    }
}

/// Reads the superblock; none when signatures contradict each other.
fn superblock(device: &Path) -> Result<Option<Content>, BlkidErr> {
    let mut probe = BlkidProbe::new_from_filename(device)?;
    probe.enable_superblocks(true)?;
    probe.set_superblock_flags(BlkidSublksFlags::new(vec![
        BlkidSublks::Type,
        BlkidSublks::Uuid,
        BlkidSublks::Label,
    ]))?;
    match probe.do_safeprobe()? {
        BlkidSafeprobeRet::Ambiguous => Ok(None),
        BlkidSafeprobeRet::None => Ok(Some(Content::default())),
        BlkidSafeprobeRet::Success => {
            let value = |name| probe.lookup_value(name).ok().filter(|value| !value.is_empty());
            Ok(Some(Content { fs_type: value("TYPE"), uuid: value("UUID"), label: value("LABEL") }))
        }
    }
}
