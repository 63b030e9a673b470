//! What each program makes of the process that it was started as, before anything else.

use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{Mode, umask};

/// Keeps keys out of core dumps and debuggers of the same user (core(5), ptrace(2)), and takes care that no file is
/// made that others may write, whatever umask was inherited.
pub fn protect() {
    if let Err(error) = set_dumpable(false) {
        eprintln!("warning: core dumps stay possible: {error}");
    }
    keep_files_from_others();
}

/// Has the umask refuse at least the writing by others.
pub fn keep_files_from_others() {
    let least = Mode::S_IWGRP | Mode::S_IWOTH;
    let inherited = umask(least);
    umask(inherited | least);
}
