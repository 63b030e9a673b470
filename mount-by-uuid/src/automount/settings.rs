//! How an automount behaves, and what becomes of it at its end.

use std::time::Duration;

/// How an automount behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutomountSettings {
    /// How long a name must be unused before it is unmounted; whole seconds, rounded up, 0 for never. A file held open,
    /// or a process whose directory it is, is use. Looking at it (`stat`, `statfs`) is none, except on kernels before 5.1
    /// and on a mount taken over that such a kernel or an older version of this crate made.
    pub idle: Duration,
    /// How long whoever looks at a name waits for an answer at most. After that they get `ETIMEDOUT`, while the
    /// [`Keeper`](crate::Keeper) may go on; if it succeeds later, the next one finds the name mounted.
    pub answer_within: Duration,
    /// The source that the mount table shows, by which the automount is known again after a restart.
    pub source: String,
}

impl AutomountSettings {
    /// The usual settings with this idle time: answers within 90 seconds, the source `offsite`.
    pub fn new(idle: Duration) -> AutomountSettings {
        AutomountSettings { idle, answer_within: Duration::from_secs(90), source: "offsite".to_owned() }
    }
}

/// Whose the directory of an automount is, and who may look for names in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The permission bits, for example `0o750`.
    pub mode: u32,
}

/// What becomes of the mounts when an automount is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Everything is unmounted, the automount itself last.
    Unmount,
    /// Everything stays and can be used, but nothing new is mounted until [`Automount::mount`](crate::Automount::mount) takes it over again.
    KeepMounts,
}
