//! Programs that don't outlive the one that started them.
#![expect(unsafe_code, reason = "a child can be bound to its parent only between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Has the kernel kill the child when the thread that starts it ends before it, however that is: a mkfs or fsck that
/// went on alone would meet the next one on the same drive.
pub(super) fn bind(command: &mut Command) {
    let parent = Pid::this();
    let bind = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before it was said.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, which are async-signal-safe, and nothing is
    // allocated: both errors are plain numbers.
    unsafe { command.pre_exec(bind) };
}
