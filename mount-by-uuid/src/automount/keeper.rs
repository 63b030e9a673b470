//! What the owner of an automount provides.

use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;

use nix::errno::Errno;

use crate::device::find::FindError;
use crate::mount::filesystem::{MountError, MountUuidError};

/// Who knows what a name stands for, and how to mount and unmount it.
///
/// The methods are called for different names at the same time, but never twice at once for one name. They may take
/// their time: whoever waits is released after a limit. They must not call the [`Automount`](crate::Automount) that
/// calls them, nor look at another name below it.
pub trait Keeper: Send + Sync {
    /// Tells whether a process may have `name` mounted by looking at it.
    ///
    /// Called before anything is done for a request of the kernel's, on the thread that takes all requests, so it must
    /// answer at once. Processes that look at a name while a request for it waits for its answer share that answer: the
    /// kernel doesn't tell who they are.
    ///
    /// # Errors
    /// The refusal that the process gets as an error number, such as [`Refusal::Forbidden`].
    fn admit(&self, name: &OsStr, asker: &Asker) -> Result<(), Refusal> {
        let _ = (name, asker);
        Ok(())
    }

    /// Mounts `name` on the directory `at`, which exists.
    ///
    /// # Errors
    /// The refusal that those who wait for the name get as an error number. Whatever this mounted is then unmounted.
    fn mount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal>;

    /// Flushes and unmounts `name` at `at`, and locks what is behind it, or leaves it as it is.
    ///
    /// Called when the name was idle, or by [`Automount::unmount_now`](crate::Automount::unmount_now), or to clean up
    /// when someone else has unmounted it: that it isn't mounted (any more) is not an error. Meanwhile the name can
    /// be used as long as it is mounted, and whoever comes after that waits and has it mounted again.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when it is in use, in which case it is tried again after the idle time.
    fn unmount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal>;
}

/// A process that looks at a name, as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its user.
    pub uid: u32,
    /// Its group; further groups aren't told.
    pub gid: u32,
    /// Its number, which may be another process' by now.
    pub pid: u32,
}

/// Why a [`Keeper`] can't do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such thing, or it is away (`ENOENT`).
    #[error("it is not there")]
    Absent,
    /// It is in use (`EBUSY`).
    #[error("it is in use")]
    Busy,
    /// It must not be used (`EACCES`).
    #[error("it must not be used: {reason}")]
    Forbidden {
        /// Why not.
        reason: String,
    },
    /// It took too long (`ETIMEDOUT`).
    #[error("it took too long")]
    TimedOut,
    /// The server ended before it was done; the next one may do it (`EAGAIN`).
    #[error("the automounter ended before it was done")]
    Interrupted,
    /// It went wrong (`EIO`).
    #[error("{reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

impl Refusal {
    /// Makes a [`Refusal::Failed`] of an error and everything that caused it, in one line.
    pub fn failed(error: &dyn Error) -> Refusal {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        Refusal::Failed { reason }
    }

    pub(super) fn errno(&self) -> Errno {
        match self {
            Refusal::Absent => Errno::ENOENT,
            Refusal::Busy => Errno::EBUSY,
            Refusal::Forbidden { .. } => Errno::EACCES,
            Refusal::TimedOut => Errno::ETIMEDOUT,
            Refusal::Interrupted => UNSERVED,
            Refusal::Failed { .. } => Errno::EIO,
        }
    }
}

impl From<MountError> for Refusal {
    /// Tells a busy mount from a failure.
    fn from(error: MountError) -> Refusal {
        match error {
            MountError::Busy { .. } => Refusal::Busy,
            other => Refusal::failed(&other),
        }
    }
}

impl From<MountUuidError> for Refusal {
    /// Tells what is away, and what must not be used because it is there twice, from a failure.
    fn from(error: MountUuidError) -> Refusal {
        match error {
            MountUuidError::Find { source: FindError::NotFound { .. } } => Refusal::Absent,
            MountUuidError::Find { source: source @ FindError::Ambiguous { .. } } => {
                Refusal::Forbidden { reason: source.to_string() }
            }
            MountUuidError::Mount { source } => source.into(),
            other => Refusal::failed(&other),
        }
    }
}

/// What those who wait get when no server can answer them: try again.
pub(super) const UNSERVED: Errno = Errno::EAGAIN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tag;

    #[test]
    fn a_failure_names_its_causes_and_busy_stays_busy() {
        let at = Path::new("/mnt/x").to_owned();
        assert_eq!(Refusal::from(MountError::Busy { at: at.clone() }), Refusal::Busy);
        let source = std::io::Error::from_raw_os_error(nix::libc::EIO);
        let Refusal::Failed { reason } = Refusal::from(MountError::Unmount { at, source }) else { panic!() };
        assert!(reason.starts_with("can't unmount /mnt/x: ") && reason.contains("os error 5"), "{reason}");
    }

    #[test]
    fn what_is_away_is_absent_and_what_is_there_twice_is_forbidden() {
        let tag = Tag::Filesystem("7A1B-03C4".parse().unwrap());
        let away = FindError::NotFound { tag: tag.clone() };
        assert_eq!(Refusal::from(MountUuidError::Find { source: away }), Refusal::Absent);
        let twice = FindError::Ambiguous { tag, devices: Vec::new() };
        let refusal = Refusal::from(MountUuidError::Find { source: twice });
        assert_eq!(refusal.errno(), Errno::EACCES);
    }

    #[test]
    fn waiters_get_the_documented_numbers() {
        assert_eq!(Refusal::Absent.errno(), Errno::ENOENT);
        assert_eq!(Refusal::Failed { reason: String::new() }.errno(), Errno::EIO);
    }
}
