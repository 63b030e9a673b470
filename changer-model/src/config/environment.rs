//! What surrounds a changer: the root below which it finds everything, and its limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether a command line that root started becomes the configured user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Privileges {
    /// Become `User` and `Group` (or what `-u` and `-g` say) for good, as a changer program must.
    Drop,
    /// Stay what the process is: for callers that share the process with other work.
    Keep,
}

/// The surroundings of a changer, all of them replaceable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Every absolute path is taken below this directory; `/` for the running system.
    pub root: PathBuf,
    /// How long to wait for another changer command; vchanger and this crate's default: 300 s.
    pub lock_limit: Duration,
    /// Timeout for one run of Bacula's console that is about no volume, and for its silence in longer ones.
    pub console_limit: Duration,
    /// What each volume that is told of adds to the timeout of a run.
    pub console_limit_per_volume: Duration,
    /// Whether [`run_command_line`](crate::run_command_line) changes identity when started by root.
    pub privileges: Privileges,
}

impl Environment {
    /// A system below `root` (`/` for the running one), with vchanger's limits; started by root, the command line
    /// changes its identity.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            lock_limit: Duration::new(300, 0),
            console_limit: Duration::new(60, 0),
            console_limit_per_volume: Duration::from_secs(2),
            privileges: Privileges::Drop,
        }
    }

    /// Takes a path below the root.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.root, path.as_ref())
    }
}

/// Takes an absolute path below `root`, unless it is there already.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    if path.starts_with(root) {
        return path.to_owned();
    }
    match path.strip_prefix("/") {
        Ok(relative) => root.join(relative),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_the_root_once() {
        let join = |root: &str, path: &str| below(Path::new(root), Path::new(path));
        assert_eq!(join("/", "/etc/x"), Path::new("/etc/x"));
        assert_eq!(join("/r", "/etc/x"), Path::new("/r/etc/x"));
        assert_eq!(join("/r", "/r/etc/x"), Path::new("/r/etc/x"));
        assert_eq!(join("/r", "here"), Path::new("here"));
    }
}
