//! Mounting an autofs, or taking over one that a dead process left.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::signal::killpg;
use nix::unistd::{Pid, pipe2};

use super::kernel::Kernel;
use super::link::Link;
use crate::device::system::System;
use crate::mount::filesystem::{MountError, UnmountMode, unmount};
use crate::mount::table::{MountEntry, MountTable, MountTableError};
use crate::mount::users::Process;

/// Why an automount can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AutofsError {
    /// The mount point isn't there.
    #[error("can't use {} as a mount point; it must be an existing directory", dir.display())]
    MountPoint {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A living process serves the automount already.
    #[error("{} is served by another process ({owner}); stop that one first", dir.display())]
    InUse {
        /// The mount point.
        dir: PathBuf,
        /// Which one, as far as is known.
        owner: String,
    },
    /// No relay has mounted the automount that is to be joined.
    #[error("no automount of {wanted:?} is mounted on {}; its relay must mount it first", dir.display())]
    NotRelayed {
        /// The mount point.
        dir: PathBuf,
        /// The source that was looked for.
        wanted: String,
    },
    /// Another automounter's mount is there.
    #[error("{} is an automount of {owner:?}; give this one a mount point of its own", dir.display())]
    Foreign {
        /// The mount point.
        dir: PathBuf,
        /// The source that the mount names.
        owner: OsString,
    },
    /// The kernel refused to mount an autofs.
    #[error("can't mount an autofs on {}; it takes root and a kernel with autofs (`modprobe autofs4`)", dir.display())]
    Mount {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device through which autofs mounts are controlled can't be opened.
    #[error("can't open {}; it takes root and a kernel with autofs (`modprobe autofs4`)", path.display())]
    Control {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The autofs that a dead process left can't be taken over.
    #[error("can't take over the automount left at {}; `umount -l {}` removes it", dir.display(), dir.display())]
    TakeOver {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The directory's owner and mode can't be set.
    #[error("can't set who may look into {}", dir.display())]
    Access {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The mount namespace of [`System::with_mounts_of`] can't be entered.
    #[error("can't enter the mount namespace for {}; it takes CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE", dir.display())]
    Namespace {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The mount table can't be read.
    #[error("can't tell what is mounted")]
    Table {
        /// What went wrong there.
        #[source]
        source: MountTableError,
    },
    /// A pipe, thread or the like can't be had.
    #[error("can't set up the automount at {}: out of {what}", dir.display())]
    Resources {
        /// The mount point.
        dir: PathBuf,
        /// What is lacking.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is served already, or was stopped.
    #[error("the automount at {} is served already or was stopped", dir.display())]
    NotIdle {
        /// The mount point.
        dir: PathBuf,
    },
    /// The process is not, or no longer, in the process group that mounted the automount, so the kernel would take it
    /// for a stranger.
    #[error("the process is not in the process group that mounted {}; become a daemon first", dir.display())]
    ProcessGroup {
        /// The mount point.
        dir: PathBuf,
    },
}

/// A mount whose requests come through a pipe to us.
pub(super) struct Attached {
    pub(super) dir: PathBuf,
    pub(super) kernel: Kernel,
    pub(super) pipe: OwnedFd,
    /// The names that were mounted before.
    pub(super) inherited: Vec<OsString>,
}

/// Mounts an autofs on `dir`, or takes over ours that is there.
///
/// The directory stays open in the mount namespace that counts: the kernel looks there for idle names.
pub(super) fn attach(system: &System, dir: &Path, source: &str) -> Result<Attached, AutofsError> {
    let attached = system.among_mounts(|| attach_here(system, dir, source));
    attached.map_err(|source| AutofsError::Namespace { dir: dir.to_owned(), source })?
}

fn attach_here(system: &System, dir: &Path, source: &str) -> Result<Attached, AutofsError> {
    let dir = real_directory(dir)?;
    let (pipe, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| AutofsError::Resources {
        dir: dir.clone(),
        what: "file descriptors",
        source: errno.into(),
    })?;
    let table = MountTable::read(system).map_err(|source| AutofsError::Table { source })?;
    let top = table.at(&dir).filter(|top| top.fs_type == "autofs");
    let kernel = match top {
        Some(top) if top.source != source => {
            return Err(AutofsError::Foreign { dir, owner: top.source.clone() });
        }
        Some(top) => take_over(system, &dir, top, &writer)?,
        None => mount(system, &dir, source, &writer)?,
    };
    let inherited = tidy(&kernel).map_err(|errno| cannot_take_over(&dir, errno))?;
    Ok(Attached { dir, kernel, pipe, inherited })
}

/// Takes part in the automount at `dir`, whose requests come by `link` from a process of the same process group.
pub(super) fn join(
    system: &System,
    dir: &Path,
    source: &str,
    link: OwnedFd,
) -> Result<(Attached, Link), AutofsError> {
    let joined = system.among_mounts(|| join_here(system, dir, source, link));
    joined.map_err(|source| AutofsError::Namespace { dir: dir.to_owned(), source })?
}

fn join_here(
    system: &System,
    dir: &Path,
    source: &str,
    link: OwnedFd,
) -> Result<(Attached, Link), AutofsError> {
    let dir = real_directory(dir)?;
    let resources = |source| AutofsError::Resources { dir: dir.clone(), what: "sockets", source };
    let link = Link::new(link).map_err(|errno| resources(errno.into()))?;
    let pipe = link.requests().map_err(resources)?;
    let table = MountTable::read(system).map_err(|source| AutofsError::Table { source })?;
    let top = table.at(&dir).filter(|top| top.fs_type == "autofs" && top.source == source);
    let Some(top) = top else { return Err(AutofsError::NotRelayed { dir, wanted: source.to_owned() }) };
    let control = control(system)?;
    let kernel = Kernel::open(control, &dir, top.devnum).map_err(|errno| cannot_take_over(&dir, errno))?;
    if !kernel.is_served_from_here() {
        return Err(AutofsError::ProcessGroup { dir });
    }
    let inherited = tidy(&kernel).map_err(|errno| cannot_take_over(&dir, errno))?;
    Ok((Attached { dir, kernel, pipe, inherited }, link))
}

fn real_directory(dir: &Path) -> Result<PathBuf, AutofsError> {
    match dir.canonicalize() {
        Ok(real) if real.is_dir() => Ok(real),
        Ok(_) => Err(mount_point(dir, Errno::ENOTDIR.into())),
        Err(source) => Err(mount_point(dir, source)),
    }
}

fn cannot_take_over(dir: &Path, errno: Errno) -> AutofsError {
    AutofsError::TakeOver { dir: dir.to_owned(), source: errno.into() }
}

fn mount_point(dir: &Path, source: io::Error) -> AutofsError {
    AutofsError::MountPoint { dir: dir.to_owned(), source }
}

fn control(system: &System) -> Result<OwnedFd, AutofsError> {
    let path = system.below("dev/autofs");
    File::open(&path).map(OwnedFd::from).map_err(|source| AutofsError::Control { path, source })
}

fn mount(system: &System, dir: &Path, source: &str, writer: &OwnedFd) -> Result<Kernel, AutofsError> {
    let fail = |errno: Errno| AutofsError::Mount { dir: dir.to_owned(), source: errno.into() };
    let options = format!("fd={},minproto=5,maxproto=5,indirect", writer.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mount = |options: &str| nix::mount::mount(Some(source), dir, Some("autofs"), flags, Some(options));
    match mount(&format!("{options},strictexpire")) {
        // Kernels before 5.1 don't know the option.
        Err(Errno::EINVAL) => mount(&options),
        mounted => mounted,
    }
    .map_err(fail)?;
    // Only now, since mounting loads the kernel's module.
    let opened = control(system).and_then(|control| {
        let root = File::open(dir).map_err(|source| mount_point(dir, source))?;
        Kernel::new(control, root.into()).map_err(fail)
    });
    opened.inspect_err(|_| {
        // The error at hand tells more than one that this would add; the mount is empty, so this can't fail busily.
        let _: Result<(), MountError> = unmount(dir, UnmountMode::Lazy);
    })
}

fn take_over(system: &System, dir: &Path, top: &MountEntry, writer: &OwnedFd) -> Result<Kernel, AutofsError> {
    if let Some(owner) = owner(system, top) {
        return Err(AutofsError::InUse { dir: dir.to_owned(), owner });
    }
    let control = control(system)?;
    let taken = Kernel::open(control, dir, top.devnum).and_then(|kernel| {
        // The kernel gives a new pipe to a catatonic mount only, and releases whoever waits for the dead process.
        kernel.catatonic()?;
        kernel.set_pipe(writer.as_fd())?;
        Ok(kernel)
    });
    taken.map_err(|errno| cannot_take_over(dir, errno))
}

/// The living process that reads the mount's pipe.
fn owner(system: &System, autofs: &MountEntry) -> Option<String> {
    match autofs.option("pipe_ino").and_then(OsStr::to_str) {
        Some("-1") => None,
        Some(_) => automount_server(system, autofs).map(|process| format!("process {}", process.pid)),
        // Kernels without checkpoint/restore don't tell; then the process group must do.
        None => {
            let group: i32 = autofs.option("pgrp")?.to_str()?.parse().ok()?;
            let alive = group > 0 && !matches!(killpg(Pid::from_raw(group), None), Err(Errno::ESRCH));
            alive.then(|| format!("process group {group}"))
        }
    }
}

/// Finds the living process that serves an autofs: the one that reads its pipe. None if there is none, if it may not be
/// looked at, or if the kernel doesn't tell the pipe (one without checkpoint/restore).
pub fn automount_server(system: &System, autofs: &MountEntry) -> Option<Process> {
    let inode = autofs.option("pipe_ino")?.to_str().filter(|inode| *inode != "-1")?;
    let pid = reader(system, &format!("pipe:[{inode}]"))?;
    let name = std::fs::read_to_string(system.below("proc").join(&pid).join("comm")).unwrap_or_default();
    Some(Process { pid: pid.parse().ok()?, name: name.trim_end().to_owned() })
}

/// A process that has the pipe open. The kernel itself holds the writing end, so it is the reading one.
fn reader(system: &System, pipe: &str) -> Option<String> {
    let processes = std::fs::read_dir(system.below("proc")).ok()?.flatten();
    let numbered =
        processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let reads = |process: &std::fs::DirEntry| {
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|target| target == Path::new(pipe))
    };
    numbered.into_iter().find(reads).map(|process| process.file_name().display().to_string())
}

/// Lists what is mounted and removes the directories of what isn't.
fn tidy(kernel: &Kernel) -> Result<Vec<OsString>, Errno> {
    let (mounted, left): (Vec<_>, Vec<_>) =
        kernel.directories()?.into_iter().partition(|name| kernel.is_mounted(name));
    left.iter().try_for_each(|name| kernel.remove_directory(name))?;
    Ok(mounted)
}
