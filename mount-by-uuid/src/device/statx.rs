//! What a file lies on, without asking its filesystem for anything (`statx(2)`).
#![expect(unsafe_code, reason = "statx(2) has no safe form in nix")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::block::DevNum;

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its filesystem's device.
    pub(crate) devnum: DevNum,
    /// The number of the mount through which it was reached (Linux 5.8).
    pub(crate) mount: Option<u64>,
    /// The number of the block device that it is, for a block device.
    pub(crate) block_device: Option<DevNum>,
}

/// Looks where a file lies. What a filesystem has in memory is enough (`AT_STATX_DONT_SYNC`), so a dead network
/// filesystem or a drive that was pulled doesn't hold this up.
pub(crate) fn place(path: &Path) -> io::Result<Place> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends with a NUL, and the kernel writes one whole `struct statx` into the buffer; both outlive the
    // call.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            libc::STATX_TYPE | libc::STATX_MNT_ID,
            found.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    // SAFETY: all fields are plain numbers, for which zero and whatever the kernel wrote are valid.
    let found = unsafe { found.assume_init() };
    let is_block_device = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
    Ok(Place {
        devnum: DevNum { major: found.stx_dev_major, minor: found.stx_dev_minor },
        mount: (found.stx_mask & libc::STATX_MNT_ID != 0).then_some(found.stx_mnt_id),
        block_device: is_block_device
            .then_some(DevNum { major: found.stx_rdev_major, minor: found.stx_rdev_minor }),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_lies_where_stat_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = place(file.path()).unwrap();
        assert_eq!(found.devnum, DevNum::from_dev(file.as_file().metadata().unwrap().dev()));
        assert_eq!(found.block_device, None);
        assert_eq!(place(Path::new("/no/such")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
