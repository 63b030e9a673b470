//! Working in another process' mount namespace (`mount_namespaces(7)`), for a service that has one of its own.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::{io, thread};

use nix::sched::{CloneFlags, setns, unshare};

use super::system::System;

impl System {
    /// Has filesystems and automounts mounted, unmounted and looked up where the process `pid` sees them, in its mount
    /// namespace, while the caller stays in its own. 1 is the system's first process.
    ///
    /// For a service that is kept from the rest of the file system by a mount namespace, whose mounts others must see.
    /// The caller's namespace must follow the other one by propagation (`slave`). Needs `CAP_SYS_ADMIN`, `CAP_SYS_CHROOT`
    /// and, to open the process' namespace, `CAP_SYS_PTRACE`.
    #[must_use]
    pub fn with_mounts_of(mut self, pid: u32) -> System {
        self.mounts_of = Some(pid);
        self
    }

    /// What belongs to the process whose mounts count, below /proc.
    pub(crate) fn mounts_below(&self, name: &str) -> PathBuf {
        match self.mounts_of {
            Some(pid) => self.below(&format!("proc/{pid}/{name}")),
            None => self.below(&format!("proc/self/{name}")),
        }
    }

    /// Does a piece of work in the mount namespace whose mounts count. It must not start programs or keep anything that
    /// belongs to its thread.
    ///
    /// # Errors
    /// The kernel's word if the namespace can't be entered; nothing is done then.
    pub(crate) fn among_mounts<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if self.mounts_of.is_none() {
            return Ok(work());
        }
        let (own, other) = (self.below("proc/self/ns/mnt"), self.mounts_below("ns/mnt"));
        if fs::read_link(&own)? == fs::read_link(&other)? {
            return Ok(work());
        }
        let namespace = File::open(&other)?;
        // A thread with a working directory of its own may change namespaces without the others.
        let enter_and_work = || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            Ok(work())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("mounts".to_owned());
            match thread.spawn_scoped(scope, enter_and_work)?.join() {
                Ok(done) => done,
                Err(panic) => resume_unwind(panic),
            }
        })
    }
}
