//! Mounting with safe options, flushing and unmounting.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use sys_mount::{FilesystemType, Mount, MountFlags};

use super::table::MountTableError;
use crate::device::block::{BlockDevice, DevNum, Tag};
use crate::device::find::FindError;
use crate::device::fs_uuid::FsUuid;
use crate::device::system::System;

/// How to mount, beside `nosuid,nodev,noexec`, which always hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Writes reach the device before they return (`sync`), which is slow and wears flash memory.
    pub sync: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Options of the filesystem itself, for example `errors=remount-ro` for ext4; one option to an element.
    pub extra: Vec<String>,
}

/// When to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmountMode {
    /// At once, or not at all if anyone uses the mount.
    Now,
    /// It leaves the directory tree at once, and the filesystem ends when its last user is gone.
    Lazy,
}

/// Why mounting, flushing or unmounting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel refused to mount.
    #[error("can't mount {} ({fs_type}) at {}: {meaning}", device.display(), at.display())]
    Mount {
        /// The device.
        device: PathBuf,
        /// The mount point.
        at: PathBuf,
        /// The filesystem's type.
        fs_type: String,
        /// What the kernel's answer means.
        meaning: Refused,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An extra option contains a comma or NUL, or is one of those that always hold.
    #[error(
        "{option:?} can't be given as an extra mount option; give one option to an element, none that lifts nosuid, nodev or noexec"
    )]
    Option {
        /// The option.
        option: String,
    },
    /// Someone uses the mount.
    #[error("{} is in use; `fuser -vm {}` tells by whom", at.display(), at.display())]
    Busy {
        /// The mount point.
        at: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at {}", at.display())]
    NotMounted {
        /// The path that was asked for.
        at: PathBuf,
    },
    /// The kernel refused to unmount.
    #[error("can't unmount {}", at.display())]
    Unmount {
        /// The mount point.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Data that was written did not reach the device. What was written since the last flush may be lost.
    #[error("can't flush {}; what was written last may be lost, check the drive", at.display())]
    Flush {
        /// The mount point.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount of the device is covered by another mount, so that it can't be named by a path.
    #[error("the mount of {devnum} at {} is covered by another; unmount that one first", at.display())]
    Covered {
        /// The device.
        devnum: DevNum,
        /// The mount point.
        at: PathBuf,
    },
    /// The mount table can't be read.
    #[error("can't tell what is mounted")]
    Table {
        /// What went wrong there.
        #[source]
        source: MountTableError,
    },
    /// The mount namespace of [`System::with_mounts_of`] can't be entered.
    #[error(
        "can't enter the mount namespace where drives are mounted; it takes CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE"
    )]
    Namespace {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn namespace(source: io::Error) -> MountError {
    MountError::Namespace { source }
}

/// Mounting where the mounts of this system count ([`System::with_mounts_of`]).
impl System {
    /// Mounts a device like [`mount()`].
    ///
    /// # Errors
    /// See [`mount()`]; [`MountError::Namespace`].
    pub fn mount(
        &self,
        device: &Path,
        at: &Path,
        fs_type: &str,
        options: &MountOptions,
    ) -> Result<(), MountError> {
        self.among_mounts(|| mount(device, at, fs_type, options)).map_err(namespace)?
    }

    /// Unmounts what is on top at `at` like [`unmount`].
    ///
    /// # Errors
    /// See [`unmount`]; [`MountError::Namespace`].
    pub fn unmount(&self, at: &Path, mode: UnmountMode) -> Result<(), MountError> {
        self.among_mounts(|| unmount(at, mode)).map_err(namespace)?
    }

    /// Flushes the filesystem at `at` like [`flush`].
    ///
    /// # Errors
    /// See [`flush`]; [`MountError::Namespace`].
    pub fn flush(&self, at: &Path) -> Result<(), MountError> {
        self.among_mounts(|| flush(at)).map_err(namespace)?
    }
}

/// What the kernel's refusal to mount means, where that is known (`mount(2)`, and the filesystems' own uses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The device isn't there or stopped to answer.
    DeviceGone,
    /// The device is already mounted there, or is in use in another way.
    InUse,
    /// There is no such filesystem on the device, or it doesn't know an option.
    NoSuchFilesystem,
    /// The kernel doesn't support the filesystem.
    UnknownType,
    /// The filesystem is damaged.
    Damaged,
    /// The device or the filesystem can only be read.
    WriteProtected,
    /// The caller may not mount.
    NotPermitted,
    /// The mount point isn't there or isn't a directory.
    NoMountPoint,
    /// Anything else.
    Other,
}

impl Refused {
    fn from_errno(errno: Option<i32>) -> Refused {
        match errno.map(Errno::from_raw) {
            Some(Errno::ENXIO | Errno::EIO | Errno::ENOMEDIUM | Errno::ENOTBLK) => Refused::DeviceGone,
            Some(Errno::EBUSY) => Refused::InUse,
            Some(Errno::EINVAL) => Refused::NoSuchFilesystem,
            Some(Errno::ENODEV) => Refused::UnknownType,
            Some(Errno::EUCLEAN | Errno::EBADMSG) => Refused::Damaged,
            Some(Errno::EROFS | Errno::EACCES) => Refused::WriteProtected,
            Some(Errno::EPERM) => Refused::NotPermitted,
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Refused::NoMountPoint,
            _ => Refused::Other,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::DeviceGone => "the device is gone or does not answer; plug the drive again",
            Refused::InUse => "the device or the mount point is in use; look into /proc/self/mountinfo",
            Refused::NoSuchFilesystem => {
                "no such filesystem there, or an unknown option; `dmesg` tells which"
            }
            Refused::UnknownType => "the kernel does not support this filesystem; load its module",
            Refused::Damaged => "the filesystem is damaged; check it with fsck",
            Refused::WriteProtected => "the device is write-protected; mount it read-only",
            Refused::NotPermitted => "only root may mount",
            Refused::NoMountPoint => "the device or the mount point is not there",
            Refused::Other => "the kernel refused",
        })
    }
}

/// Options that the caller can't lift, and their opposites.
const FIXED: [&str; 6] = ["suid", "dev", "exec", "nosuid", "nodev", "noexec"];

/// Mounts a device, always `nosuid,nodev,noexec`.
///
/// `fs_type` is a name such as `ext4`; nothing is guessed. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// [`MountError::Mount`] with the meaning of the kernel's answer; [`MountError::Option`] before anything is done.
pub fn mount(device: &Path, at: &Path, fs_type: &str, options: &MountOptions) -> Result<(), MountError> {
    let unfit = |option: &&String| {
        option.is_empty() || option.contains([',', '\0']) || FIXED.contains(&option.as_str())
    };
    if let Some(option) = options.extra.iter().find(unfit) {
        return Err(MountError::Option { option: option.clone() });
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    flags.set(MountFlags::SYNCHRONOUS, options.sync);
    flags.set(MountFlags::RDONLY, options.read_only);
    let data = options.extra.join(",");
    // The data is given only when there is some: a few filesystems refuse an empty text.
    let mut builder = Mount::builder().fstype(FilesystemType::Manual(fs_type)).flags(flags);
    if !data.is_empty() {
        builder = builder.data(&data);
    }
    let mounted = builder.mount(device, at);
    mounted.map(|_| ()).map_err(|source| MountError::Mount {
        device: device.to_owned(),
        at: at.to_owned(),
        fs_type: fs_type.to_owned(),
        meaning: Refused::from_errno(source.raw_os_error()),
        source,
    })
}

/// How long a mount may be busy without being told so. A program that another thread starts has, until it runs, a copy of
/// each descriptor that this process has open, and so of the one by which [`flush`] has just been done.
const BUSY_GRACE: Duration = Duration::from_millis(500);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Unmounts the mount that is on top at `at`; a symbolic link there is not followed.
///
/// # Errors
/// [`MountError::Busy`], only with [`UnmountMode::Now`], if it is in use for longer than 500 ms;
/// [`MountError::NotMounted`].
pub fn unmount(at: &Path, mode: UnmountMode) -> Result<(), MountError> {
    // By nix: the flag of this name in sys-mount 3.1 is `open(2)`'s, which umount2(2) refuses.
    let flags = match mode {
        UnmountMode::Now => MntFlags::UMOUNT_NOFOLLOW,
        UnmountMode::Lazy => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
    };
    let mut result = umount2(at, flags);
    let started = Instant::now();
    while result == Err(Errno::EBUSY) && started.elapsed() < BUSY_GRACE {
        std::thread::sleep(BUSY_PAUSE);
        result = umount2(at, flags);
    }
    result.map_err(|errno| match errno {
        Errno::EBUSY => MountError::Busy { at: at.to_owned() },
        Errno::EINVAL | Errno::ENOENT => MountError::NotMounted { at: at.to_owned() },
        _ => MountError::Unmount { at: at.to_owned(), source: errno.into() },
    })
}

/// Writes all that is cached for the filesystem at `at` to its device and waits until the device has it (`syncfs(2)`).
///
/// An error of an earlier write in the background that nobody has been told of yet is reported as well (Linux 5.8), so
/// flush before [`unmount`], which reports none.
///
/// A directory where nothing is mounted belongs to the filesystem around it, which is flushed then.
///
/// # Errors
/// [`MountError::Flush`]; [`MountError::NotMounted`] if there is not even a directory.
pub fn flush(at: &Path) -> Result<(), MountError> {
    let flush = || {
        let directory = open(at, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        nix::unistd::syncfs(&directory)
    };
    flush().map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => MountError::NotMounted { at: at.to_owned() },
        _ => MountError::Flush { at: at.to_owned(), source: errno.into() },
    })
}

/// Why a filesystem was not mounted by its UUID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountUuidError {
    /// No device, or more than one, carries the UUID.
    #[error("can't tell which device to mount")]
    Find {
        /// What went wrong there.
        #[source]
        source: FindError,
    },
    /// Mounting failed.
    #[error("found the device, but it can't be mounted")]
    Mount {
        /// What went wrong there.
        #[source]
        source: MountError,
    },
    /// The device was exchanged between looking and mounting; it was unmounted again.
    #[error("{} was exchanged while it was being mounted; try again", device.display())]
    Exchanged {
        /// The device.
        device: PathBuf,
    },
}

/// Finds the filesystem with this UUID and mounts it at `at`, `nosuid,nodev,noexec`.
///
/// ```no_run
/// use std::path::Path;
/// use mount_by_uuid::{System, mount_uuid};
///
/// let system = System::new(Path::new("/"));
/// mount_uuid(&system, &"7A1B-03C4".parse()?, Path::new("/mnt"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`MountUuidError::Find`] if no device, or more than one, carries the UUID: then nothing is mounted.
pub fn mount_uuid(system: &System, uuid: &FsUuid, at: &Path) -> Result<BlockDevice, MountUuidError> {
    let mounting = |source| MountUuidError::Mount { source };
    let device =
        system.find(&Tag::Filesystem(uuid.clone())).map_err(|source| MountUuidError::Find { source })?;
    let fs_type = device.fs_type.as_deref().unwrap_or_default();
    system.mount(&device.path, at, fs_type, &MountOptions::default()).map_err(mounting)?;
    // The device node may have been given to another disk meanwhile: what counts is what is mounted.
    let now = system.probe(&device.path);
    if now.is_ok_and(|now| now.tag == device.tag && now.diskseq == device.diskseq) {
        return Ok(device);
    }
    system.unmount(at, UnmountMode::Lazy).map_err(mounting)?;
    Err(MountUuidError::Exchanged { device: device.path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_options_cannot_be_lifted_by_extra_ones() {
        for option in ["suid", "exec", "dev", "", "a,suid", "x\0y"] {
            let options = MountOptions { extra: vec![option.to_owned()], ..MountOptions::default() };
            let error = mount(Path::new("/dev/null"), Path::new("/nowhere"), "ext4", &options).unwrap_err();
            assert!(matches!(error, MountError::Option { .. }), "{option:?}: {error:?}");
        }
    }

    #[test]
    fn a_missing_mount_point_is_told_apart_from_a_busy_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = unmount(&directory.path().join("nothing"), UnmountMode::Now).unwrap_err();
        // Without privilege the kernel answers EPERM before it looks.
        assert!(matches!(error, MountError::NotMounted { .. } | MountError::Unmount { .. }), "{error:?}");
    }

    #[test]
    fn a_directory_can_be_flushed_and_a_missing_one_cannot() {
        let directory = tempfile::tempdir().unwrap();
        flush(directory.path()).unwrap();
        let missing = flush(&directory.path().join("nothing")).unwrap_err();
        assert!(matches!(missing, MountError::NotMounted { .. }), "{missing:?}");
    }

    #[test]
    fn the_kernels_answers_have_a_meaning() {
        assert_eq!(Refused::from_errno(Some(nix::libc::EUCLEAN)), Refused::Damaged);
        assert_eq!(Refused::from_errno(Some(nix::libc::ENXIO)), Refused::DeviceGone);
        assert_eq!(Refused::from_errno(Some(nix::libc::EMFILE)), Refused::Other);
        assert_eq!(Refused::from_errno(None), Refused::Other);
    }
}
