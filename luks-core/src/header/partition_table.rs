//! A drive with one partition, for systems that offer to initialise a disk without a partition table.
#![expect(unsafe_code, reason = "the kernel reads a partition table again only by ioctl(2)")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::LINUX_LUKS;
use nix::sys::stat::{major, minor};

use super::ends;
use super::target::Target;

/// Before and behind the partition: what partitioning programs leave free, so that nothing straddles two of the
/// drive's own blocks.
const ALIGNMENT: u64 = 1 << 20;
/// A partition's name in a GPT: 36 UTF-16 units (UEFI 2.10, 5.3.3).
const NAME_MAX: usize = 36;
const NODE_DEADLINE: Duration = Duration::from_secs(20);
const NODE_POLL: Duration = Duration::from_millis(20);

// BLKRRPART of linux/fs.h.
nix::ioctl_none!(reread_partitions, 0x12, 95);

/// Why a drive was not partitioned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The drive can't be examined, read or written.
    #[error("cannot {action} {}: {source}", device.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The drive.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is a regular file, whose partition has no device.
    #[error("{} is no block device, so that its partition could not be used; attach it first: losetup --find --show {}", device.display(), device.display())]
    NotABlockDevice {
        /// The file.
        device: PathBuf,
    },
    /// Somebody uses it.
    #[error("{} is in use: {reason}; unmount and close it first", device.display())]
    InUse {
        /// The drive.
        device: PathBuf,
        /// By whom.
        reason: String,
    },
    /// There is no room for a table and a partition.
    #[error("{} has {size} bytes, too few for a partition table and a container", device.display())]
    TooSmall {
        /// The drive.
        device: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The table could not be made.
    #[error("cannot make a partition table on {}: {reason}", device.display())]
    Table {
        /// The drive.
        device: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The kernel shows no partition.
    #[error("the kernel doesn't show the partition of {}; unplug the drive and plug it again", device.display())]
    NoPartition {
        /// The drive.
        device: PathBuf,
    },
}

/// Writes a GPT with one partition of type LUKS over the whole drive, and returns the partition's device.
///
/// What was on the drive is lost, and both its ends are overwritten: no signature of an earlier use stays outside of the
/// partition. `root` (usually `/`) is where `sys` and `dev` are looked up.
///
/// # Errors
/// [`PartitionError::NotABlockDevice`], [`PartitionError::InUse`] and [`PartitionError::TooSmall`] before anything is written.
pub fn make_partition(root: &Path, device: &Path, name: &str) -> Result<PathBuf, PartitionError> {
    let io = |action| move |source| PartitionError::Io { action, device: device.to_owned(), source };
    if !fs::metadata(device).map_err(io("examine"))?.file_type().is_block_device() {
        return Err(PartitionError::NotABlockDevice { device: device.to_owned() });
    }
    let target = Target::examine(root, device).map_err(io("examine"))?;
    if let Some(reason) = target.used_by {
        return Err(PartitionError::InUse { device: device.to_owned(), reason });
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(device)
        .map_err(io("open"))?;
    write_table(&file, device, &target, name)?;
    file.sync_all().map_err(io("flush"))?;
    // SAFETY: the ioctl takes no argument; the descriptor is open.
    unsafe { reread_partitions(file.as_raw_fd()) }
        .map_err(|errno| io("read the partition table of")(errno.into()))?;
    drop(file);
    wait_for_partition(root, device).ok_or_else(|| PartitionError::NoPartition { device: device.to_owned() })
}

fn write_table(file: &File, device: &Path, target: &Target, name: &str) -> Result<(), PartitionError> {
    let failed = |reason: String| PartitionError::Table { device: device.to_owned(), reason };
    let sector = u64::from(target.logical_block);
    let block = LogicalBlockSize::try_from(sector).map_err(|error| failed(error.to_string()))?;
    let length = (target.size / ALIGNMENT).saturating_sub(2) * ALIGNMENT;
    if length == 0 {
        return Err(PartitionError::TooSmall { device: device.to_owned(), size: target.size });
    }
    ends::overwrite_in(file, target.size).map_err(|error| failed(error.to_string()))?;
    let name: String = name.chars().filter(char::is_ascii).take(NAME_MAX).collect();
    let mut disk = file;
    let last_sector = u32::try_from(target.size / sector - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(last_sector)
        .overwrite_lba0(&mut disk)
        .map_err(|error| failed(error.to_string()))?;
    disk.seek(SeekFrom::Start(0)).map_err(|error| failed(error.to_string()))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(block)
        .create_from_device(disk, None)
        .map_err(|error| failed(error.to_string()))?;
    table
        .add_partition_at(&name, 1, ALIGNMENT / sector, length / sector, LINUX_LUKS, 0)
        .map_err(|error| failed(error.to_string()))?;
    table.write().map(drop).map_err(|error| failed(error.to_string()))
}

/// The partitions that the kernel shows on a drive, in the order of their numbers; none for a partition or a file.
///
/// # Errors
/// When sysfs can't be read.
pub fn partitions(root: &Path, device: &Path) -> io::Result<Vec<PathBuf>> {
    let metadata = fs::metadata(device)?;
    if !metadata.file_type().is_block_device() {
        return Ok(Vec::new());
    }
    let number = metadata.rdev();
    let block = root.join(format!("sys/dev/block/{}:{}", major(number), minor(number)));
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(block)? {
        let entry = entry?;
        let Ok(text) = fs::read_to_string(entry.path().join("partition")) else { continue };
        let number = text.trim().parse().map_err(io::Error::other)?;
        found.push((number, root.join("dev").join(entry.file_name())));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Where a partition begins on its drive, in bytes; 0 for a whole drive or a regular file.
///
/// # Errors
/// When sysfs can't be read.
pub fn partition_start(root: &Path, device: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(device)?;
    if !metadata.file_type().is_block_device() {
        return Ok(0);
    }
    let number = metadata.rdev();
    let start = root.join(format!("sys/dev/block/{}:{}/start", major(number), minor(number)));
    match fs::read_to_string(start) {
        // In sectors of 512 bytes, whatever the drive's own.
        Ok(text) => text.trim().parse::<u64>().map(|start| start * 512).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// The node appears some time after the kernel has read the table.
fn wait_for_partition(root: &Path, device: &Path) -> Option<PathBuf> {
    let deadline = Instant::now() + NODE_DEADLINE;
    loop {
        if let Ok(found) = partitions(root, device)
            && let [only] = found.as_slice()
            && fs::metadata(only).is_ok_and(|metadata| metadata.file_type().is_block_device())
        {
            return Some(only.clone());
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(NODE_POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(mib: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib * MIB).unwrap();
        file
    }

    fn table(file: &tempfile::NamedTempFile, name: &str) -> Result<(), PartitionError> {
        let target = Target::examine(Path::new("/"), file.path()).unwrap();
        write_table(file.as_file(), file.path(), &target, name)
    }

    #[test]
    fn a_regular_file_is_refused_since_its_partition_has_no_device() {
        let file = file(64);
        let result = make_partition(Path::new("/"), file.path(), "A");
        assert!(matches!(result, Err(PartitionError::NotABlockDevice { .. })), "{result:?}");
        assert!(fs::read(file.path()).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn no_signature_of_an_earlier_use_stays_outside_of_the_partition() {
        let file = file(64);
        let old = vec![0xa5; 1 << 20];
        file.as_file().write_all_at(&old, 0).unwrap();
        file.as_file().write_all_at(&old, 63 * MIB).unwrap();
        table(&file, "A").unwrap();
        let bytes = fs::read(file.path()).unwrap();
        let margins = bytes.chunks(512).take(2048).chain(bytes.chunks(512).skip(63 * 2048));
        assert!(margins.into_iter().all(|sector| sector != &old[..512]));
    }

    #[test]
    fn one_aligned_partition_of_the_right_type_fills_the_drive() {
        let file = file(64);
        table(&file, "A").unwrap();
        let disk = GptConfig::new().open(file.path()).unwrap();
        let found: Vec<_> = disk.partitions().values().collect();
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(only.part_type_guid, LINUX_LUKS);
        assert_eq!(only.name, "A");
        assert_eq!((only.first_lba, only.last_lba + 1), (2048, 63 * 2048));
        assert_eq!(file.as_file().metadata().unwrap().len(), 64 * MIB, "the file's size changed");
    }

    #[test]
    fn a_drive_without_room_is_left_alone() {
        let file = file(1);
        let result = table(&file, "A");
        assert!(matches!(result, Err(PartitionError::TooSmall { .. })), "{result:?}");
        assert!(fs::read(file.path()).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_file_has_no_partitions() {
        assert!(partitions(Path::new("/"), file(1).path()).unwrap().is_empty());
    }
}
