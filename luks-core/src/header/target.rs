//! What will be formatted: its size, its sectors, and whether somebody uses it.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::{major, minor};

use super::disk_header;

const DEFAULT_LOGICAL_BLOCK: u32 = 512;

/// Facts about a block device or file.
pub(crate) struct Target {
    pub(crate) size: u64,
    /// Smallest unit that the device can address, in bytes.
    pub(crate) logical_block: u32,
    /// What uses it, if anything does.
    pub(crate) used_by: Option<String>,
}

impl Target {
    /// Examines `device`; `root` is where `sys` and `dev` are looked up.
    pub(crate) fn examine(root: &Path, device: &Path) -> io::Result<Self> {
        let mut file = disk_header::open(device)?;
        let size = file.seek(SeekFrom::End(0))?;
        let metadata = file.metadata()?;
        drop(file);
        if metadata.file_type().is_block_device() {
            Ok(Self {
                size,
                logical_block: logical_block(root, metadata.rdev()).unwrap_or(DEFAULT_LOGICAL_BLOCK),
                used_by: is_claimed(device)?
                    .then(|| "it is mounted, or part of an active mapping".to_owned()),
            })
        } else {
            Ok(Self { size, logical_block: DEFAULT_LOGICAL_BLOCK, used_by: loop_user(root, device)? })
        }
    }
}

/// Whether the kernel refuses an exclusive open: mounted, swapped on, or below device-mapper or md.
fn is_claimed(device: &Path) -> io::Result<bool> {
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(device) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The loop device through which a file is in use.
fn loop_user(root: &Path, file: &Path) -> io::Result<Option<String>> {
    let file = fs::canonicalize(file)?;
    let Ok(blocks) = fs::read_dir(root.join("sys/block")) else {
        return Ok(None); // no sysfs: no loop devices to be seen
    };
    for block in blocks {
        let block = block?;
        let Ok(backing) = fs::read_to_string(block.path().join("loop/backing_file")) else { continue };
        let node = root.join("dev").join(block.file_name());
        if Path::new(backing.trim_end_matches('\n')) == file && is_claimed(&node)? {
            return Ok(Some(format!("it is in use through {}", node.display())));
        }
    }
    Ok(None)
}

fn logical_block(root: &Path, device: libc::dev_t) -> Option<u32> {
    let block = root.join(format!("sys/dev/block/{}:{}", major(device), minor(device)));
    // A partition's queue is its parent's; the link leads into the parent's directory.
    let queue = ["queue", "../queue"].iter().map(|queue| block.join(queue).join("logical_block_size"));
    queue.filter_map(|path| fs::read_to_string(path).ok()).find_map(|text| text.trim().parse().ok())
}
