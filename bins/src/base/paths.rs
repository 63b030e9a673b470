//! Where things lie: every absolute path joins one root, so that tests and installers can move it.

use std::path::{Path, PathBuf};

use mount_by_uuid::FsUuid;

/// The root below which /etc, /var, /run, /dev, /proc and /sys are looked for.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Takes the directory given by `--root` (`/` on a running system).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The root itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Joins an absolute path of the installed system to this root.
    pub fn join(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where the kernel and udev are asked: this root when it has a /proc and a /sys, else the running system.
    ///
    /// A root made for a test or by an installer often has neither, and a drive that nobody can look into must be
    /// refused; the running kernel's word is as good for any device that can be named from here.
    pub fn kernel(&self) -> &Path {
        if self.join("/proc/self").exists() && self.join("/sys/block").exists() {
            &self.0
        } else {
            Path::new("/")
        }
    }

    /// The one source of truth.
    pub fn site_toml(&self) -> PathBuf {
        self.join("/etc/offsite/site.toml")
    }

    /// The passwords between Bacula's daemons, root's alone.
    pub fn passwords_toml(&self) -> PathBuf {
        self.join("/etc/offsite/passwords.toml")
    }

    /// The generated configuration of the changer.
    pub fn vchanger_conf(&self) -> PathBuf {
        self.join("/etc/offsite/vchanger.conf")
    }

    /// Journals of `prepare`, header backups, marks of torn drives.
    pub fn state_dir(&self) -> PathBuf {
        self.join("/var/lib/offsite")
    }

    /// LUKS header backups, root's alone.
    pub fn headers_dir(&self) -> PathBuf {
        self.state_dir().join("headers")
    }

    /// Where on their drives containers begin.
    pub fn places_dir(&self) -> PathBuf {
        self.state_dir().join("places")
    }

    /// Journals of drives being prepared.
    pub fn journals_dir(&self) -> PathBuf {
        self.state_dir().join("prepare")
    }

    /// Marks of drives whose filesystem wasn't unmounted before they left.
    pub fn torn_dir(&self) -> PathBuf {
        self.state_dir().join("torn")
    }

    /// The mark that a drive was ejected and is still plugged.
    pub fn ejected_mark(&self, fs_uuid: &FsUuid) -> PathBuf {
        self.join("/run/offsite/ejected").join(fs_uuid.as_str())
    }

    /// Since when each drive is plugged or away.
    pub fn seen_dir(&self) -> PathBuf {
        self.state_dir().join("seen")
    }

    /// When copies of keys were made and tested.
    pub fn key_copies(&self) -> PathBuf {
        self.state_dir().join("key-copies.json")
    }

    /// How the last backups ended.
    pub fn last_jobs(&self) -> PathBuf {
        self.state_dir().join("last-jobs.json")
    }

    /// The daemon's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.join("/run/offsite/control")
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_below_the_root() {
        let root = Root::new("/tmp/r");
        assert_eq!(root.join("/etc/x"), Path::new("/tmp/r/etc/x"));
        assert_eq!(Root::default().site_toml(), Path::new("/etc/offsite/site.toml"));
    }
}
