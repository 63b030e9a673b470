//! What a program that the changer starts inherits: nothing but its three descriptors.
#![expect(unsafe_code, reason = "these attributes can be set only between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, getppid, setsid};

/// The first descriptor behind stdin, stdout and stderr.
const FIRST_OTHER: libc::c_uint = 3;

/// Without close_range(2), descriptors below this number are closed.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;

/// How long a program lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The kernel kills it when the thread that started it ends.
    Bound,
    /// It goes on alone.
    Own,
}

/// Has `command` start its program in a session of its own, without other descriptors and without ignored signals.
pub(crate) fn isolate(command: &mut Command, life: Life) {
    let parent = Pid::this();
    let isolate = move || {
        setsid()?;
        default_signals()?;
        close_others_at_exec()?;
        if life == Life::Own {
            return Ok(());
        }
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before it was said.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: between fork and exec only system calls are made, each by an async-signal-safe wrapper, and nothing is
    // allocated or freed: the errors are plain numbers.
    unsafe { command.pre_exec(isolate) };
}

/// Gives every signal its default action: those ignored here, as under nohup(1), would stay ignored after exec.
fn default_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of this process.
        unsafe { sigaction(signal, &default) }?;
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
        Err(Errno::ENOSYS | Errno::EINVAL) => {
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
