//! The system whose devices are looked at, and where its files lie.

use std::io;
use std::path::{Path, PathBuf};

/// The system whose devices and mounts are looked at.
///
/// All paths (/proc, /sys, /dev, /run) are taken below the root given to [`System::new`]. The udev database is used
/// where that root is `/` and udevd runs; everywhere else devices are probed directly.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
    /// The process whose mounts count, if not the caller's.
    pub(crate) mounts_of: Option<u32>,
}

/// Why the block devices can't be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// udev's database can't be read.
    #[error("can't list block devices from the udev database")]
    Udev {
        /// What libudev said.
        #[source]
        source: io::Error,
    },
    /// The kernel's list of block devices can't be read.
    #[error("can't list block devices in {}; is /sys mounted?", path.display())]
    Sysfs {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl System {
    /// Looks at the system below `root`, `/` for the running one.
    pub fn new(root: &Path) -> System {
        System { root: root.to_owned(), mounts_of: None }
    }

    /// Returns the root that all paths are taken below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Joins a path without leading slash to the root.
    pub(crate) fn below(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Tells whether devices are looked up in the udev database; if not they are probed directly.
    pub fn has_udevd(&self) -> bool {
        self.root == Path::new("/") && self.below("run/udev/control").exists()
    }
}
