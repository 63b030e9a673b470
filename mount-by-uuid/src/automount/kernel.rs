//! The kernel's side of an automount: the ioctls of `include/uapi/linux/auto_fs.h` and `auto_dev-ioctl.h`.
#![expect(
    unsafe_code,
    reason = "ioctl(2) has no safe form; each call here passes what its header prescribes"
)]

use std::ffi::{CString, OsStr, OsString};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc::{c_int, c_ulong};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::packet::Token;
use super::settings::Access;
use crate::device::block::DevNum;

/// `struct autofs_dev_ioctl`: 16 bytes of header and a union of 8, which a path may follow.
#[repr(C, align(8))]
struct Request {
    version: [u32; 2],
    size: u32,
    ioctl_fd: i32,
    arguments: [u32; 2],
}

/// A request with a path, of the greatest size that the kernel takes.
#[repr(C)]
struct PathRequest {
    request: Request,
    path: [u8; PATH_MAX],
}

const PATH_MAX: usize = 4096;

const REQUEST_SIZE: u32 = 24;
const _: () =
    assert!(size_of::<Request>() == REQUEST_SIZE as usize, "the size is part of each ioctl's number");

impl Request {
    fn new(ioctl_fd: i32, arguments: [u32; 2]) -> Request {
        Request { version: [1, 0], size: REQUEST_SIZE, ioctl_fd, arguments }
    }
}

mod raw {
    use super::{Request, c_int, c_ulong};

    const TYPE: u8 = 0x93;

    nix::ioctl_none!(
        /// Ends all requests; later ones fail at once.
        catatonic, TYPE, 0x62);
    nix::ioctl_readwrite!(
        /// Exchanges the idle time in seconds.
        set_timeout, TYPE, 0x64, c_ulong);
    nix::ioctl_write_ptr!(
        /// Looks for an idle name, requests that it be unmounted, and waits for the answer.
        expire_multi, TYPE, 0x66, c_int);
    nix::ioctl_readwrite!(
        /// Asks for the protocol's version, which only a member of the automounter's process group may.
        protocol, TYPE, 0x72, Request);
    nix::ioctl_readwrite!(
        /// Opens the root of an autofs mount that may be covered.
        open_mount, TYPE, 0x74, Request);
    nix::ioctl_readwrite!(
        /// Answers a request: done.
        ready, TYPE, 0x76, Request);
    nix::ioctl_readwrite!(
        /// Answers a request: failed.
        fail, TYPE, 0x77, Request);
    nix::ioctl_readwrite!(
        /// Gives a catatonic mount a new pipe, and the caller's process group as its daemon.
        set_pipe, TYPE, 0x78, Request);
}

/// An autofs mount that is ours to serve.
#[derive(Debug)]
pub(super) struct Kernel {
    /// /dev/autofs
    control: OwnedFd,
    /// The root directory of the mount.
    root: OwnedFd,
    /// The number of the autofs itself.
    dev: u64,
}

impl Kernel {
    pub(super) fn new(control: OwnedFd, root: OwnedFd) -> Result<Kernel, Errno> {
        let dev = fstat(&root)?.st_dev;
        Ok(Kernel { control, root, dev })
    }

    /// Opens the autofs `devnum` at `at` even when another mount covers it, or its daemon is dead.
    pub(super) fn open(control: OwnedFd, at: &Path, devnum: DevNum) -> Result<Kernel, Errno> {
        let path = CString::new(at.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let path = path.as_bytes_with_nul();
        let mut with_path =
            PathRequest { request: Request::new(-1, [devnum.encode_u32(), 0]), path: [0; PATH_MAX] };
        with_path.path.get_mut(..path.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(path);
        with_path.request.size += u32::try_from(path.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        // SAFETY: the pointer is to the whole `PathRequest`, of which the kernel reads the `size` bytes named in it
        // (header, union, NUL-terminated path) and writes the header and union.
        unsafe { raw::open_mount(control.as_raw_fd(), (&raw mut with_path).cast()) }?;
        // SAFETY: the call succeeded, so `ioctl_fd` is a new descriptor that nobody else owns.
        let root = unsafe { OwnedFd::from_raw_fd(with_path.request.ioctl_fd) };
        Kernel::new(control, root)
    }

    fn request(&self, arguments: [u32; 2]) -> Request {
        Request::new(self.root.as_raw_fd(), arguments)
    }

    /// Tells whether the kernel takes this process for the automounter, by its process group.
    pub(super) fn is_served_from_here(&self) -> bool {
        let mut request = self.request([0, 0]);
        // SAFETY: `request` is a whole `struct autofs_dev_ioctl` that outlives the call.
        unsafe { raw::protocol(self.control.as_raw_fd(), &raw mut request) }.is_ok()
    }

    /// Tells those who wait for `token` that it is done.
    pub(super) fn ready(&self, token: Token) -> Result<(), Errno> {
        let mut request = self.request([token.0, 0]);
        // SAFETY: `request` is a whole `struct autofs_dev_ioctl` that outlives the call.
        unsafe { raw::ready(self.control.as_raw_fd(), &raw mut request) }.map(drop)
    }

    /// Lets those who wait for `token` fail with `errno`.
    pub(super) fn fail(&self, token: Token, errno: Errno) -> Result<(), Errno> {
        let status = (errno as i32).wrapping_neg();
        let mut request = self.request([token.0, u32::from_ne_bytes(status.to_ne_bytes())]);
        // SAFETY: as for `ready`.
        unsafe { raw::fail(self.control.as_raw_fd(), &raw mut request) }.map(drop)
    }

    /// Gives the mount, which must be catatonic, the writing end of a pipe.
    pub(super) fn set_pipe(&self, pipe: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut request = self.request([u32::from_ne_bytes(pipe.as_raw_fd().to_ne_bytes()), 0]);
        // SAFETY: as for `ready`; the kernel takes its own reference to the pipe.
        unsafe { raw::set_pipe(self.control.as_raw_fd(), &raw mut request) }.map(drop)
    }

    /// Fails all requests, present and future.
    pub(super) fn catatonic(&self) -> Result<(), Errno> {
        // SAFETY: the call takes no argument.
        unsafe { raw::catatonic(self.root.as_raw_fd()) }.map(drop)
    }

    /// Sets the idle time in seconds; 0 means for ever.
    pub(super) fn set_timeout(&self, seconds: u32) -> Result<(), Errno> {
        let mut seconds = c_ulong::from(seconds);
        // SAFETY: the pointer is to a `c_ulong` that outlives the call.
        unsafe { raw::set_timeout(self.root.as_raw_fd(), &raw mut seconds) }.map(drop)
    }

    /// Has one idle name unmounted, by a request through the pipe that another thread must answer; `EAGAIN` when there
    /// is none.
    pub(super) fn expire(&self) -> Result<(), Errno> {
        let normal: c_int = 0;
        // SAFETY: the pointer is to a `c_int` that outlives the call.
        unsafe { raw::expire_multi(self.root.as_raw_fd(), &raw const normal) }.map(drop)
    }

    /// Sets the root directory's owner and mode.
    pub(super) fn set_access(&self, access: &Access) -> Result<(), Errno> {
        fchown(&self.root, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))?;
        fchmod(&self.root, Mode::from_bits_truncate(access.mode))
    }

    /// Makes the directory of a name; that it is there already is no error.
    pub(super) fn make_directory(&self, name: &OsStr) -> Result<(), Errno> {
        match mkdirat(&self.root, name, Mode::from_bits_truncate(0o755)) {
            Err(Errno::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Removes the directory of a name; that it is gone already is no error.
    pub(super) fn remove_directory(&self, name: &OsStr) -> Result<(), Errno> {
        match unlinkat(&self.root, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Tells whether something is mounted on the directory of a name.
    pub(super) fn is_mounted(&self, name: &OsStr) -> bool {
        match fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat.st_dev != self.dev,
            // Any other error comes from a filesystem that lost its device: it is still mounted.
            Err(errno) => !matches!(errno, Errno::ENOENT | Errno::ENOTDIR),
        }
    }

    /// The names of all directories.
    pub(super) fn directories(&self) -> Result<Vec<OsString>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(&self.root, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub(super) fn devnum(&self) -> DevNum {
        DevNum::from_dev(self.dev)
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
