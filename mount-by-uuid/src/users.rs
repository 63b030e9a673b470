//! Who keeps a mount busy: processes whose files, directory, program or memory lie on it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::system::System;

/// A process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountUser {
    /// The process.
    pub pid: u32,
    /// The program's name, 15 bytes at most (`/proc/PID/comm`).
    pub name: String,
    /// How it uses the mount.
    pub usage: Usage,
}

/// How a process uses a mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// It stands in a directory there.
    Directory(PathBuf),
    /// It has a file there open or mapped, or runs a program from there.
    File(PathBuf),
}

impl fmt::Display for MountUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, name) = (self.pid, &self.name);
        match &self.usage {
            Usage::Directory(at) => write!(f, "{name} (process {pid}) stands in {}", at.display()),
            Usage::File(path) => write!(f, "{name} (process {pid}) uses {}", path.display()),
        }
    }
}

/// Lists the processes that use what is mounted at `at`, in the order of their numbers, each with one of its uses.
///
/// It compares paths and touches no file, so it doesn't hang on a filesystem whose drive is gone. Processes that may
/// not be looked at, and those whose namespace shows the mount under another path, are missing.
pub fn mount_users(system: &System, at: &Path) -> Vec<MountUser> {
    let Ok(entries) = fs::read_dir(system.below("proc")) else { return Vec::new() };
    let mut users = BTreeSet::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let process = entry.path();
        if let Some(usage) = usage(&process, at) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            users.insert(MountUser { pid, name: name.trim_end().to_owned(), usage });
        }
    }
    users.into_iter().collect()
}

/// Whether a block device is claimed: by a filesystem that is mounted anywhere, in whichever namespace, or lives on after
/// a lazy unmount, or by a device on top of it. A device that can't be opened is not.
pub fn is_in_use(device: &Path) -> bool {
    // Without O_CREAT it asks for a block device that nobody else claims (open(2)).
    let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(device, flags, Mode::empty()).err() == Some(Errno::EBUSY)
}

fn usage(process: &Path, at: &Path) -> Option<Usage> {
    let there = |link: PathBuf| fs::read_link(link).ok().filter(|target| target.starts_with(at));
    let directory = ["cwd", "root"].into_iter().find_map(|link| there(process.join(link)));
    directory.map(Usage::Directory).or_else(|| {
        let listed =
            ["fd", "map_files"].into_iter().flat_map(|list| fs::read_dir(process.join(list))).flatten();
        let links = listed.flatten().map(|entry| entry.path());
        links.chain([process.join("exe")]).find_map(there).map(Usage::File)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn open_files_and_working_directories_are_found() {
        let (busy, idle) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = busy.path().canonicalize().unwrap();
        let system = System::new(Path::new("/"));
        let _held = fs::File::create(at.join("volume")).unwrap();
        let mut shell =
            Command::new("sleep").arg("60").current_dir(&at).stdout(Stdio::null()).spawn().unwrap();
        let found = mount_users(&system, &at);
        shell.kill().unwrap();
        shell.wait().unwrap();
        let uses: Vec<_> = found.iter().map(|user| (user.pid, user.usage.clone())).collect();
        assert!(uses.contains(&(std::process::id(), Usage::File(at.join("volume")))), "{found:?}");
        assert!(uses.contains(&(shell.id(), Usage::Directory(at.clone()))), "{found:?}");
        assert!(found.iter().any(|user| user.to_string().starts_with("sleep (process ")), "{found:?}");
        assert_eq!(mount_users(&system, &idle.path().canonicalize().unwrap()), []);
    }
}
