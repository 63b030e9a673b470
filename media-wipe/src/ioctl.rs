//! The one request to the kernel for which no safe wrapper exists.
#![expect(unsafe_code, reason = "ioctls have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod raw {
    // linux/fs.h: #define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
    nix::ioctl_read!(disk_sequence, 0x12, 128, u64);
}

/// The sequence number that the kernel gives every medium it meets, never twice until the next start (Linux 5.15).
///
/// # Errors
/// `ENOTTY` on older kernels and for what is no block device.
pub(crate) fn disk_sequence(device: &File) -> io::Result<u64> {
    let mut sequence = 0;
    // SAFETY: the descriptor is open for the whole call, and the kernel writes one u64 to the reference.
    unsafe { raw::disk_sequence(device.as_raw_fd(), &raw mut sequence) }?;
    Ok(sequence)
}
