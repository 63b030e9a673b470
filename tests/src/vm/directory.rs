//! A machine's directory: sockets, logs, the shared directory, blank drives. Its owner holds a lock in it,
//! so that what a killed owner left is found and removed by the next one.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

const PREFIX: &str = "offsite-vm-";
const LOCK: &str = "owner.lock";

/// A directory that goes with its owner.
#[derive(Debug)]
pub(super) struct Directory {
    place: TempDir,
    _held: Flock<File>,
}

impl Directory {
    /// Makes one in the system's temporary directory, where the path of a socket stays short.
    pub(super) fn make() -> Result<Self> {
        Self::make_below(&std::env::temp_dir())
    }

    fn make_below(parent: &Path) -> Result<Self> {
        sweep(parent);
        let place = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Named only when it is held: a sweeper passes over a directory without a lock.
        let unnamed = place.path().join("lock.new");
        let file = File::create(&unnamed).context("cannot make a lock in the machine's directory")?;
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        fs::rename(unnamed, place.path().join(LOCK))?;
        Ok(Self { place, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Leaves the directory to whoever looks into what went wrong.
    pub(super) fn keep(&mut self) {
        self.place.disable_cleanup(true);
        if let Err(error) = fs::remove_file(self.path().join(LOCK)) {
            eprintln!("{} won't stay: {error}", self.path().display());
        }
    }
}

/// Removes directories whose owner was killed. What can't be removed now is left to the next one.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if let Ok(_abandoned) = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            eprintln!("cannot remove {}, left by a killed test: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_abandoned_directory_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let live = Directory::make_below(parent.path()).unwrap();
        let mut kept = Directory::make_below(parent.path()).unwrap();
        let kept_path = kept.path().to_owned();
        kept.keep();
        drop(kept);
        let abandoned = parent.path().join("offsite-vm-dead");
        let foreign = parent.path().join("other");
        for made in [&abandoned, &foreign] {
            fs::create_dir(made).unwrap();
            fs::write(made.join(LOCK), "").unwrap();
        }
        drop(Directory::make_below(parent.path()).unwrap());
        assert!(live.path().is_dir() && kept_path.is_dir() && foreign.is_dir());
        assert!(!abandoned.exists());
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
    }
}
