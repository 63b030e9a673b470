//! What goes wrong with a served automount.

use std::ffi::OsString;
use std::path::PathBuf;

use super::keeper::Refusal;
use crate::mount::filesystem::MountError;

/// Why an automount can't be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Names can't be unmounted, so everything goes on as before.
    #[error("can't unmount {} below {}; end what uses it, or keep the mounts", list(names), dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
        /// The names, each with the reason.
        names: Vec<(OsString, Refusal)>,
    },
    /// The keeper has been at work on names for longer than the time limit; everything goes on as before.
    #[error("work on {} below {} does not end; try again later", list_names(names), dir.display())]
    Pending {
        /// The mount point.
        dir: PathBuf,
        /// The names.
        names: Vec<OsString>,
    },
    /// The automount itself can't be unmounted. It is stopped.
    #[error("the automount is stopped, but not unmounted")]
    Unmount {
        /// What went wrong there.
        #[source]
        source: MountError,
    },
    /// The kernel refused. The automount is stopped.
    #[error("the automount at {} is stopped, but the kernel does not let go of it", dir.display())]
    Kernel {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a name was not mounted or unmounted at its owner's wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The keeper refused.
    #[error("can't do that with {}", name.display())]
    Refused {
        /// The name.
        name: OsString,
        /// The keeper's reason.
        #[source]
        source: Refusal,
    },
    /// The text can't name a directory directly below the mount point.
    #[error("{name:?} is not a single directory name of 1 to 255 bytes")]
    Name {
        /// The text.
        name: OsString,
    },
    /// The automount isn't served: not yet, or no longer.
    #[error("the automount is not served; call serve first")]
    NotServed,
    /// What is mounted there can't be detached.
    #[error("can't detach {}", name.display())]
    Detach {
        /// The name.
        name: OsString,
        /// What went wrong there.
        #[source]
        source: MountError,
    },
}

pub(crate) fn list(names: &[(OsString, Refusal)]) -> String {
    names
        .iter()
        .map(|(name, refusal)| format!("{} ({refusal})", name.display()))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(crate) fn list_names(names: &[OsString]) -> String {
    names.iter().map(|name| name.display().to_string()).collect::<Vec<_>>().join(", ")
}
