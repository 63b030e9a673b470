//! What a program inherits: nothing but its three descriptors and one that it is handed, and a life that ends with its starter's.
#![expect(unsafe_code, reason = "these attributes can be set only between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::{set_child_subreaper, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid, setsid};
use seccompiler::BpfProgramRef;

use super::account::Account;
use super::syscalls::Filters;

/// The umask of every program.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// The first descriptor behind stdin, stdout and stderr.
const FIRST_OTHER: libc::c_uint = 3;

/// Without close_range(2), which a filter of system calls may refuse, descriptors below this number are closed.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;

/// Has `command` start its program in a session of its own, without descriptors, ignored signals and core dumps, as
/// `account` where one is given, with at most `memory` bytes of address space, and under `filters` of system calls.
///
/// The program becomes the reaper of its descendants, so that all of them are found below it as long as it lives. The
/// kernel kills it when the thread that started it ends: a mkfs or fsck that went on alone would meet the next one on
/// the same drive.
pub(super) fn isolate(
    command: &mut Command,
    account: Option<&Account>,
    inherited: Option<&OwnedFd>,
    memory: Option<u64>,
    filters: Option<Filters>,
) {
    let parent = Pid::this();
    let account = account.map(|account| {
        let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
        (Uid::from_raw(account.uid), Gid::from_raw(account.gid), groups)
    });
    let inherited = inherited.map(AsRawFd::as_raw_fd);
    let isolate = move || {
        setsid()?;
        default_signals()?;
        umask(UMASK);
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if let Some(bytes) = memory {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        close_others_at_exec()?;
        if let Some(descriptor) = inherited {
            keep_at_exec(descriptor)?;
        }
        if let Some((uid, gid, groups)) = &account {
            become_account(*uid, *gid, groups)?;
        }
        set_child_subreaper(true)?;
        // After the change of the user, which takes this setting back (prctl(2)).
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before it was said.
        if getppid() != parent {
            return Err(io::Error::from(Errno::ESRCH));
        }
        // The last step: of the calls above most are not allowed any more.
        filters.iter().flatten().try_for_each(|filter| install(filter))
    };
    // SAFETY: between fork and exec only system calls are made, each by an async-signal-safe wrapper, and nothing is
    // allocated or freed: the groups were collected before the fork, and the errors are plain numbers.
    unsafe { command.pre_exec(isolate) };
}

/// Gives every signal its default action: those ignored here, as under nohup(1), would stay ignored after exec.
fn default_signals() -> nix::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of this process; numbers that can't be changed are refused (EINVAL).
        let _ = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()
}

/// Marks every descriptor but the first three to be closed at exec. Not closed at once: the standard library reports a
/// failing exec through one of them.
fn close_others_at_exec() -> nix::Result<()> {
    // SAFETY: close_range(2) takes numbers alone, and with this flag closes nothing yet.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, FIRST_OTHER, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match Errno::result(marked) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => {
            let most = getrlimit(Resource::RLIMIT_NOFILE)?.0.min(MOST_DESCRIPTORS);
            for fd in FIRST_OTHER..libc::c_uint::try_from(most).unwrap_or(libc::c_uint::MAX) {
                // SAFETY: a flag of a descriptor is set; numbers that are none are refused (EBADF).
                let _ = unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Lets a descriptor stay open at exec.
fn keep_at_exec(descriptor: RawFd) -> nix::Result<()> {
    // SAFETY: a flag of a descriptor is set, one that the caller of `isolate` holds open until the fork.
    Errno::result(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) }).map(drop)
}

/// Puts a filter of system calls into force. A kernel without such filters goes without: what the program parses gains
/// nothing by that, and a drive can be checked all the same.
fn install(filter: BpfProgramRef<'_>) -> io::Result<()> {
    match seccompiler::apply_filter(filter) {
        Ok(()) => Ok(()),
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error)) => {
            match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
                _ => Err(error),
            }
        }
        Err(_) => Err(io::Error::from(Errno::EINVAL)),
    }
}

/// Becomes another user for good. The order matters: groups can't be changed any more by who isn't root.
fn become_account(uid: Uid, gid: Gid, groups: &[Gid]) -> nix::Result<()> {
    if Uid::effective().is_root() {
        setgroups(groups)?;
    }
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    set_no_new_privs()
}
