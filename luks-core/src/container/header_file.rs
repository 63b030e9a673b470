//! A header in memory, with a path by which libcryptsetup reads it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::header::disk_header;

/// A file without a name that no other process has; its parts that nobody filled are zeros and take no memory.
///
/// Nothing in it is secret: key material is encrypted, here as on the disk.
pub(crate) struct HeaderFile {
    memory: File,
    path: PathBuf,
}

impl HeaderFile {
    /// A file of `len` bytes that begins with `start`.
    pub(crate) fn new(start: &[u8], len: u64) -> io::Result<Self> {
        let memory = File::from(memfd_create("luks-header", MFdFlags::MFD_CLOEXEC)?);
        memory.set_len(len)?;
        memory.write_all_at(start, 0)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        Ok(Self { memory, path })
    }

    /// The path, valid in this process for as long as this value lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies `len` bytes from a device to the same place here; what lies beyond the device's end stays zeros.
    pub(crate) fn copy(&self, from: &File, start: u64, len: u64) -> io::Result<()> {
        const BLOCK: u64 = 1 << 20;
        let mut done = 0;
        while done < len {
            let block = usize::try_from(BLOCK.min(len - done)).map_err(io::Error::other)?;
            let bytes = disk_header::read_at(from, start + done, block)?;
            self.memory.write_all_at(&bytes, start + done)?;
            if bytes.len() < block {
                break;
            }
            done += block as u64;
        }
        Ok(())
    }
}
