//! Which device this is, what is on it, and whether it may be overwritten.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::contents::{self, Contents};
use super::refusal::Refusal;
use super::{safety, serial};
use crate::system::node::{DeviceNumber, Node};
use crate::system::root::System;
use crate::system::sysfs::BlockDevice;

/// What is known about a device or file before it is overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Identity {
    /// The device node or file, links resolved.
    pub device: PathBuf,
    /// What has to be confirmed: the serial number of a drive, the backing file's path of a loop device, the path
    /// of a regular file; empty where there is none, which is a refusal.
    pub id: String,
    /// The link in `/dev/disk/by-id` that names the drive.
    pub by_id: Option<PathBuf>,
    /// Maker and model.
    pub model: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What lies on it now, in words: `blank`, `ext4 filesystem "label"`, `LUKS2 container UUID`,
    /// `gpt partition table with 2 partitions`.
    pub contents: String,
    /// The UUID of the filesystem or container on it, when there is just one on the whole device.
    pub contents_uuid: Option<String>,
    /// Bytes of a logical sector: 512 or 4096; 1 for a regular file.
    pub logical_sector: u32,
    /// The size in bytes of requests that the drive likes best, where it says so.
    pub optimal_io: Option<u64>,
    /// Whether the kernel calls the medium removable; drives in USB docks often are not.
    pub removable: Option<bool>,
    /// Why it must not be overwritten; empty if it may be.
    pub refusals: Vec<Refusal>,
    /// Tells one node or file from another while this system runs.
    #[serde(skip)]
    pub(crate) node: Node,
}

/// Why a device could not be identified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifyError {
    /// There is nothing at the path.
    #[error("{} isn't there; is the drive plugged in?", device.display())]
    Absent {
        /// The path.
        device: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The path leads to something that can't be filled.
    #[error("{} is neither a block device nor a regular file; name a whole drive", device.display())]
    NotStorage {
        /// The path.
        device: PathBuf,
    },
}

/// Whether the exclusive use of the device is still to be tried, or held by ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Try,
    Held,
}

/// Finds out which device this is, what is on it, and what speaks against overwriting it.
///
/// Nothing is written, and a device that is in use isn't disturbed. What could not be found out is a refusal.
pub fn identify(system: &System, device: &Path) -> Result<Identity, IdentifyError> {
    examine(system, device, Claim::Try)
}

pub(crate) fn examine(system: &System, device: &Path, claim: Claim) -> Result<Identity, IdentifyError> {
    let absent = |source| IdentifyError::Absent { device: device.to_path_buf(), source };
    let path = fs::canonicalize(device).map_err(absent)?;
    let meta = fs::metadata(&path).map_err(absent)?;
    let Some(node) = Node::of(&meta) else {
        return Err(IdentifyError::NotStorage { device: path });
    };
    Ok(match node {
        Node::Block(number) => examine_block(system, path, number, claim),
        Node::File { .. } => examine_file(system, path, node),
    })
}

fn examine_block(system: &System, path: PathBuf, number: DeviceNumber, claim: Claim) -> Identity {
    let mut refusals = Vec::new();
    let (size_bytes, contents) = look_inside(&path, &mut refusals);
    let mut identity = Identity {
        id: String::new(),
        by_id: serial::by_id_link(system, number),
        model: None,
        size_bytes,
        contents: contents.text,
        contents_uuid: contents.uuid,
        logical_sector: 512,
        optimal_io: None,
        removable: None,
        refusals: Vec::new(),
        node: Node::Block(number),
        device: path,
    };
    match BlockDevice::by_number(system, number) {
        Ok(device) => {
            // Where the node can't be opened, sysfs still knows the size, in sectors of 512 bytes always.
            if identity.size_bytes == 0
                && let Ok(Some(sectors)) = device.number_attribute("size")
            {
                identity.size_bytes = sectors.saturating_mul(512);
            }
            identity.id = serial::stable_id(system, &device).unwrap_or_default();
            identity.model = serial::model(system, &device);
            identity.removable = device.number_attribute("removable").ok().flatten().map(|flag| flag == 1);
            match device.number_attribute("queue/logical_block_size").map(|size| size.map(u32::try_from)) {
                Ok(Some(Ok(size))) if size.is_power_of_two() => identity.logical_sector = size,
                // A partition has no queue of its own, and is refused in any case.
                Ok(None) if matches!(device.disk(), Ok(Some(_))) => {}
                other => refusals.push(Refusal::Unexplained {
                    what: "the size of its sectors".into(),
                    reason: format!("sysfs shows {other:?}"),
                }),
            }
            identity.optimal_io =
                device.number_attribute("queue/optimal_io_size").ok().flatten().filter(|size| *size > 0);
            refusals.extend(safety::block_refusals(system, &device, &identity.id));
        }
        Err(error) => refusals
            .push(Refusal::Unexplained { what: "what it is in sysfs".into(), reason: error.to_string() }),
    }
    // What is known to be in use needn't be tried, and what can't be opened was said already.
    let settled = |refusal: &Refusal| {
        matches!(
            refusal,
            Refusal::Mounted { .. }
                | Refusal::Swap { .. }
                | Refusal::Held { .. }
                | Refusal::Empty
                | Refusal::Unexplained { .. }
        )
    };
    if claim == Claim::Try && !refusals.iter().any(settled) {
        refusals.extend(exclusive_refusal(&identity.device));
    }
    identity.refusals = refusals;
    identity
}

fn examine_file(system: &System, path: PathBuf, node: Node) -> Identity {
    let mut refusals = Vec::new();
    let (size_bytes, contents) = look_inside(&path, &mut refusals);
    refusals.extend(safety::file_refusals(system, &path, node));
    Identity {
        id: path.to_string_lossy().into_owned(),
        by_id: None,
        model: None,
        size_bytes,
        contents: contents.text,
        contents_uuid: contents.uuid,
        logical_sector: 1,
        optimal_io: None,
        removable: None,
        refusals,
        node,
        device: path,
    }
}

/// The size and the contents, as far as they can be read; what can't be is a refusal.
fn look_inside(path: &Path, refusals: &mut Vec<Refusal>) -> (u64, Contents) {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let sized = opened.and_then(|mut file| Ok((file.seek(SeekFrom::End(0))?, file)));
    let (size, file) = match sized {
        Ok(sized) => sized,
        Err(error) if error.raw_os_error() == Some(libc::ENOMEDIUM) => {
            refusals.push(Refusal::Empty);
            return (0, "no medium".into());
        }
        Err(error) => {
            refusals.push(Refusal::Unexplained { what: "its contents".into(), reason: error.to_string() });
            return (0, "unreadable".into());
        }
    };
    if size == 0 {
        refusals.push(Refusal::Empty);
    }
    // A drive with an unreadable start is no drive to refuse: to overwrite it is what may heal it.
    let contents = contents::describe(&file, size)
        .unwrap_or_else(|error| Contents { text: format!("unreadable: {error}"), uuid: None });
    (size, contents)
}

fn exclusive_refusal(path: &Path) -> Option<Refusal> {
    let error = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path).err()?;
    Some(match error.raw_os_error() {
        Some(libc::EBUSY) => Refusal::Busy,
        _ => Refusal::Unexplained {
            what: "whether it is free, by opening it exclusively".into(),
            reason: error.to_string(),
        },
    })
}
