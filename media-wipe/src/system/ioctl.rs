//! The requests to the kernel for which no safe wrapper exists.
#![expect(unsafe_code, reason = "ioctls have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod raw {
    use std::ffi::{c_char, c_int, c_longlong, c_void};

    /// `struct blkpg_partition` of linux/blkpg.h.
    #[repr(C)]
    pub(crate) struct Partition {
        pub(crate) start: c_longlong,
        pub(crate) length: c_longlong,
        pub(crate) number: c_int,
        pub(crate) names: [[c_char; 64]; 2],
    }

    /// `struct blkpg_ioctl_arg` of linux/blkpg.h.
    #[repr(C)]
    pub(crate) struct Request {
        pub(crate) operation: c_int,
        pub(crate) flags: c_int,
        pub(crate) length: c_int,
        pub(crate) data: *mut c_void,
    }

    /// `BLKPG_DEL_PARTITION`
    pub(crate) const DELETE: c_int = 2;

    // linux/blkpg.h: #define BLKPG _IO(0x12, 105)
    nix::ioctl_write_ptr_bad!(partition, nix::request_code_none!(0x12, 105), Request);
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

/// Has the kernel forget the partition `number` of a disk; what is on the medium stays as it is.
///
/// # Errors
/// `EBUSY` while somebody has the partition open, `ENXIO` where there is none of that number.
pub(crate) fn delete_partition(disk: &File, number: i32) -> io::Result<()> {
    let mut partition = raw::Partition { start: 0, length: 0, number, names: [[0; 64]; 2] };
    let request = raw::Request {
        operation: raw::DELETE,
        flags: 0,
        length: i32::try_from(size_of::<raw::Partition>()).map_err(io::Error::other)?,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: the descriptor is open for the whole call; the kernel reads both structures, which outlive it.
    unsafe { raw::partition(disk.as_raw_fd(), &raw const request) }?;
    Ok(())
}
