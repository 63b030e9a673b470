//! What the checks have to know of the machine: who runs the daemons, what is where, and who may touch it.

use std::path::{Path, PathBuf};

use crate::values::program::Program;

/// A machine, as far as checks look at it; paths are those of its configuration.
///
/// No mount may be brought about by asking: below an automount point where nothing is mounted, nothing is there.
pub trait Host {
    /// What is at a path, links followed; `None` if nothing is there.
    fn entry(&self, path: &Path) -> Option<Entry>;
    /// As whom a daemon runs; `None` if its user isn't known there.
    fn account(&self, program: Program) -> Option<Account>;
    /// The text of a file; `None` if it isn't there.
    fn text(&self, path: &Path) -> Option<String>;
    /// What lies in a directory, sorted; empty if it isn't there.
    fn list(&self, directory: &Path) -> Vec<PathBuf>;
    /// The filesystem that is mounted exactly at a path.
    fn mount(&self, path: &Path) -> Option<Mount>;
    /// How many volumes a magazine of the changer holds, as far as that is known without touching it.
    fn volumes(&self, magazine: &Path) -> Option<u32>;
}

/// A file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// As whom a daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name, for messages.
    pub user: String,
    /// The user.
    pub uid: u32,
    /// All groups, the supplementary ones as well.
    pub gids: Vec<u32>,
}

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its type, e.g. `ext4` or `autofs`.
    pub fs_type: String,
    /// What it holds in all, in bytes.
    pub bytes: u64,
    /// What is kept for root, in bytes.
    pub reserved: u64,
}

/// What a daemon wants to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Execute,
    /// Make and remove files in a directory.
    Fill,
    /// Read and write a file.
    Write,
}

impl Want {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Execute => "run",
            Self::Fill => "make files in",
            Self::Write => "write",
        }
    }

    fn bits(self) -> u32 {
        match self {
            Self::Read => 4,
            Self::Execute => 5,
            Self::Fill => 7,
            Self::Write => 6,
        }
    }
}

/// Why somebody can't do something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It isn't there.
    Missing,
    /// A directory on the way may not be passed.
    Way(PathBuf),
    /// The thing itself may not be touched so.
    Itself,
}

impl Account {
    /// The kernel's rule (`path_resolution(7)`): the owner's bits for the owner, else the group's for its members, else
    /// the others'; each directory on the way needs the right to be searched.
    pub(crate) fn obstacle(&self, host: &dyn Host, path: &Path, want: Want) -> Option<Obstacle> {
        let ancestors: Vec<_> = path.ancestors().skip(1).collect();
        for directory in ancestors.into_iter().rev() {
            match host.entry(directory) {
                None => return Some(Obstacle::Missing),
                Some(entry) if !self.may(entry, 1) => return Some(Obstacle::Way(directory.to_owned())),
                Some(_) => {}
            }
        }
        match host.entry(path) {
            None => Some(Obstacle::Missing),
            Some(entry) if !self.may(entry, want.bits()) => Some(Obstacle::Itself),
            Some(_) => None,
        }
    }

    fn may(&self, entry: Entry, bits: u32) -> bool {
        if self.uid == 0 {
            // Root passes every directory, and runs what anybody may run.
            return entry.directory || bits & 1 == 0 || entry.mode & 0o111 != 0;
        }
        let shift = if entry.uid == self.uid {
            6
        } else if self.gids.contains(&entry.gid) {
            3
        } else {
            0
        };
        (entry.mode >> shift) & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: u32, uid: u32, gid: u32) -> Entry {
        Entry { directory: true, mode, uid, gid }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let bacula = Account { user: "bacula".into(), uid: 100, gids: vec![26, 100] };
        assert!(bacula.may(entry(0o750, 100, 0), 7));
        assert!(!bacula.may(entry(0o077, 100, 100), 1), "the owner is no member of its own group here");
        assert!(bacula.may(entry(0o750, 0, 100), 5) && !bacula.may(entry(0o750, 0, 100), 7));
        assert!(!bacula.may(entry(0o750, 0, 0), 1) && bacula.may(entry(0o755, 0, 0), 5));
        let root = Account { user: "root".into(), uid: 0, gids: vec![0] };
        assert!(root.may(entry(0, 5, 5), 7));
        assert!(!root.may(Entry { directory: false, ..entry(0o644, 0, 0) }, 5));
    }
}
