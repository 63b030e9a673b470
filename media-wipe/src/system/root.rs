//! The part of the running system that the safety checks read.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::attribute::read_trimmed;

/// A view of a running Linux system below a root directory.
///
/// `/proc`, `/sys`, `/dev`, `/etc` and `/run` are read below the root, so that tests and installers can
/// show another system than the one they run on.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
    keys: PathBuf,
}

/// Why the disks could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisksError {
    /// The kernel's list of block devices could not be read.
    #[error("can't list the block devices in {}; is sysfs mounted?", path.display())]
    List {
        /// The directory that was read.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl System {
    /// Looks at the system below `root`, which is `/` for the running one.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), keys: root.join("run/media-wipe") }
    }

    /// Keeps the keys of wipes under way in `directory`, in place of `/run/media-wipe` below the root.
    ///
    /// A key is kept only where that is a memory filesystem, and nothing swaps.
    #[must_use]
    pub fn keep_keys_in(self, directory: impl Into<PathBuf>) -> Self {
        Self { keys: directory.into(), ..self }
    }

    /// Where the keys of wipes under way are.
    pub(crate) fn keys(&self) -> &Path {
        &self.keys
    }

    /// Joins an absolute path of the system to the root.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Lists the whole disks that hold a medium, as device paths, sorted by name.
    ///
    /// Loop devices, RAM disks, device-mapper, md, optical, floppy and network block devices are left out, and so are
    /// drives without a medium; each of them can still be named explicitly.
    pub fn disks(&self) -> Result<Vec<PathBuf>, DisksError> {
        let path = self.path("/sys/block");
        let list = |source| DisksError::List { path: path.clone(), source };
        let mut disks = Vec::new();
        for entry in fs::read_dir(&path).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_virtual(&name) {
                continue;
            }
            let attribute = |file: &str| read_trimmed(&entry.path().join(file)).ok().flatten();
            let hidden = attribute("hidden").is_some_and(|value| value == "1");
            let empty = attribute("size").is_none_or(|sectors| sectors == "0");
            if !hidden && !empty {
                disks.push(self.path("/dev").join(name.replace('!', "/")));
            }
        }
        disks.sort();
        Ok(disks)
    }
}

fn is_virtual(name: &str) -> bool {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(kind, "loop" | "ram" | "zram" | "dm-" | "md" | "sr" | "fd" | "nbd") || name.starts_with("md_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_whole_disks_only() {
        let root = tempfile::tempdir().unwrap();
        for (name, sectors) in
            [("sdb", "8"), ("sda", "8"), ("loop0", "8"), ("dm-1", "8"), ("zram0", "8"), ("sdc", "0")]
        {
            let dir = root.path().join("sys/block").join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("size"), sectors).unwrap();
        }
        let system = System::new(root.path());
        let disks = system.disks().unwrap();
        assert_eq!(disks, [root.path().join("dev/sda"), root.path().join("dev/sdb")]);
    }
}
