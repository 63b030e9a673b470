//! Reading and writing at offsets: the real device, past the page cache where that is possible.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::identity::examine::Identity;
use crate::system::ioctl;
use crate::system::node::Node;
use crate::system::root::System;
use crate::system::sysfs::BlockDevice;

/// Where the bytes go; the tests have one that fails in every way a drive can.
pub(crate) trait Medium: Sync {
    /// Reads the whole buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes the whole buffer.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written so far survive a power cut.
    fn flush(&self) -> io::Result<()>;
    /// Drops what the page cache holds, so that the next read asks the device.
    fn forget_cached(&self) -> io::Result<()>;
    /// The size of the smallest request that can fail alone, in bytes.
    fn block(&self) -> usize;
    /// Whether requests go past the page cache.
    fn is_direct(&self) -> bool;
    /// Has the kernel forget the partitions of a table that is overwritten.
    fn forget_partitions(&self) -> io::Result<()>;
    /// Whether the kernel still knows the device.
    fn is_there(&self) -> bool;

    /// Whether the device is gone or just going: requests fail before the kernel forgets it.
    fn went_away(&self) -> bool {
        let end = Instant::now() + FAREWELL;
        while self.is_there() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(FAREWELL / 20);
        }
        true
    }
}

/// How long the kernel may take to forget a device that was pulled.
const FAREWELL: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(2) };

/// How long who looks at a partition, as udev does, may keep it.
const LOOKING: Duration = Duration::from_secs(3);

/// A power of two that suits the memory alignment and the sectors of every device in use.
pub(crate) const ALIGNMENT: usize = 4096;

/// An open device or file.
#[derive(Debug)]
pub(crate) struct DeviceIo {
    file: File,
    /// Takes what isn't a multiple of a block, at the end of a file; `None` if there is no such rest.
    tail: Option<File>,
    direct: bool,
    block: usize,
    /// Where sysfs shows a block device as long as it is there.
    shown: Option<PathBuf>,
}

impl DeviceIo {
    pub(crate) fn new(file: File, direct: bool, system: &System, identity: &Identity) -> io::Result<Self> {
        let (block, shown) = match identity.node {
            Node::Block(number) => (
                usize::try_from(identity.logical_sector).map_err(io::Error::other)?,
                Some(system.path(&format!("/sys/dev/block/{number}"))),
            ),
            Node::File { .. } => (ALIGNMENT, None),
        };
        let odd = !identity.size_bytes.is_multiple_of(block as u64);
        let tail = if direct && odd { Some(reopen_buffered(identity)?) } else { None };
        Ok(Self { file, tail, direct, block, shown })
    }

    /// Splits a length into what can go past the page cache and the odd rest.
    fn split(&self, length: usize) -> usize {
        if self.tail.is_some() { length - length % self.block } else { length }
    }
}

fn reopen_buffered(identity: &Identity) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(&identity.device)?;
    if Node::of(&file.metadata()?) == Some(identity.node) {
        Ok(file)
    } else {
        Err(io::Error::other("another file took its path"))
    }
}

impl Medium for DeviceIo {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (aligned, rest) = buffer.split_at_mut(self.split(buffer.len()));
        self.file.read_exact_at(aligned, offset)?;
        match &self.tail {
            Some(tail) if !rest.is_empty() => tail.read_exact_at(rest, offset + aligned.len() as u64),
            _ => Ok(()),
        }
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let (aligned, rest) = buffer.split_at(self.split(buffer.len()));
        self.file.write_all_at(aligned, offset)?;
        match &self.tail {
            Some(tail) if !rest.is_empty() => tail.write_all_at(rest, offset + aligned.len() as u64),
            _ => Ok(()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        if let Some(tail) = &self.tail {
            tail.sync_all()?;
        }
        self.file.sync_all()
    }

    fn forget_cached(&self) -> io::Result<()> {
        for file in [Some(&self.file), self.tail.as_ref()].into_iter().flatten() {
            posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        Ok(())
    }

    fn block(&self) -> usize {
        self.block
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn forget_partitions(&self) -> io::Result<()> {
        let Some(shown) = &self.shown else { return Ok(()) };
        let end = Instant::now() + LOOKING;
        for partition in BlockDevice::at(shown)?.partitions()? {
            let Some(number) = partition.number_attribute("partition")? else { continue };
            let number = i32::try_from(number).map_err(io::Error::other)?;
            loop {
                match ioctl::delete_partition(&self.file, number) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                        std::thread::sleep(LOOKING / 30);
                    }
                    // Its own program, or udev, took it away.
                    Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.exists())
    }
}

/// A buffer whose bytes start at an address that direct requests accept.
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(crate) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        // Zeroed memory on the heap never moves; the address is asked for once.
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, length }
    }

    /// The first `length` bytes, or all of them if there are fewer.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.length);
        self.memory.get_mut(self.start..self.start + length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::examine::identify;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    #[test]
    fn odd_files_are_reached_to_the_last_byte_with_and_without_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("disk");
        let size = 3 * ALIGNMENT + 77;
        std::fs::write(&path, vec![0; size]).unwrap();
        let system = System::new(Path::new("/"));
        let identity = identify(&system, &path).unwrap();
        for flags in [0, libc::O_DIRECT] {
            let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).unwrap();
            let medium = DeviceIo::new(file, flags != 0, &system, &identity).unwrap();
            let mut buffer = AlignedBuffer::new(size);
            buffer.first(size).fill(u8::from(flags == 0) + 1);
            medium.write_at(buffer.first(size), 0).unwrap();
            medium.flush().unwrap();
            medium.forget_cached().unwrap();
            let written = std::fs::read(&path).unwrap();
            assert!(written.len() == size && written == buffer.first(size));
            let mut back = AlignedBuffer::new(size);
            medium.read_at(back.first(size), 0).unwrap();
            assert!(back.first(size) == buffer.first(size));
        }
    }

    #[test]
    fn buffers_are_aligned() {
        for length in [1, 512, 4096, 4 << 20] {
            let mut buffer = AlignedBuffer::new(length);
            let bytes = buffer.first(length + 1);
            assert_eq!((bytes.as_ptr().addr() % ALIGNMENT, bytes.len()), (0, length));
        }
    }
}
