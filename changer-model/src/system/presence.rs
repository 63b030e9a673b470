//! Which magazines are there, found out without touching one.
//!
//! A marker file or a mounted device tells it of a UUID; of a directory, the mount table does. A directory below
//! an automounter is never looked at, for looking would mount the drive or keep it from being unmounted.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::marker::read_marker;
use super::mounts::{Mount, Mounts, in_fstab};
use crate::config::MagazineSetting;
use crate::config::environment::Environment;
use crate::library::state::MagazineRecord;

/// The source of autofs mounts whose drives are announced by marker files.
const OWN_AUTOFS: &str = "offsite";

/// How a present magazine may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is a plain directory or an ordinary mount; looking does no harm.
    Plain,
    /// It is mounted below an automounter; looking keeps it mounted.
    Automounted,
    /// It is plugged; looking mounts it.
    Locked,
}

/// Whether a magazine is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    /// Below an automounter that tells nothing; only looking would tell.
    Unknown {
        directory: PathBuf,
    },
    Present {
        directory: PathBuf,
        access: Access,
    },
}

impl Presence {
    /// Where its files are, or would be if it is there.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Absent => None,
            Self::Unknown { directory } | Self::Present { directory, .. } => Some(directory),
        }
    }
}

/// Finds magazines, reading the mount table at most once and only when it is needed.
pub(crate) struct Finder<'e> {
    env: &'e Environment,
    mounts: OnceCell<Mounts>,
}

impl<'e> Finder<'e> {
    pub(crate) fn new(env: &'e Environment) -> Self {
        Self { env, mounts: OnceCell::new() }
    }

    pub(crate) fn mounts(&self) -> &Mounts {
        self.mounts.get_or_init(|| Mounts::read(self.env))
    }

    /// Finds one magazine; `record` is what is remembered of it.
    pub(crate) fn find(&self, magazine: &MagazineSetting, record: Option<&MagazineRecord>) -> Presence {
        match (magazine.id.uuid(), &magazine.directory) {
            (Some(uuid), directory) => {
                if let Some(announced) = read_marker(&self.env.root, uuid) {
                    return self.announced(announced);
                }
                if let Some(mounted) = self.mounted_device(uuid) {
                    return self.present(mounted);
                }
                match directory {
                    Some(directory) => self.directory(directory, record, Some(uuid)),
                    None => Presence::Absent,
                }
            }
            (None, Some(directory)) => self.directory(directory, record, None),
            (None, None) => Presence::Absent,
        }
    }

    fn announced(&self, directory: PathBuf) -> Presence {
        if self.mounted_on(&directory) {
            self.present(directory)
        } else {
            Presence::Present { directory, access: Access::Locked }
        }
    }

    /// A mounted directory: below an automounter it must not be kept awake.
    fn present(&self, directory: PathBuf) -> Presence {
        let automounted = self.mounts().autofs_above(&directory).is_some()
            || self.mounts().iter().any(|m| m.is_autofs() && m.directory == directory);
        let access = if automounted { Access::Automounted } else { Access::Plain };
        Presence::Present { directory, access }
    }

    /// Whether a real file system sits on a directory.
    pub(crate) fn mounted_on(&self, directory: &Path) -> bool {
        let mounts = self.mounts();
        [directory.to_owned(), self.env.path(directory)]
            .iter()
            .any(|path| mounts.on(path).is_some_and(|m| !m.is_autofs()))
    }

    /// Where the device with a file system's UUID is mounted, by udev's links. Of several devices with one UUID (a
    /// clone), the link leads to one, so each mounted one is asked for; while none is plugged, no link is there.
    fn mounted_device(&self, uuid: &str) -> Option<PathBuf> {
        let link = self.device_link(uuid)?;
        let device = fs::metadata(&link).ok()?.rdev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let mounts = self.mounts();
        let same_source = |source: &Path| {
            // some file systems (btrfs) show a number of their own, but name the device
            source.starts_with("/dev")
                && fs::metadata(self.env.path(source)).is_ok_and(|m| m.rdev() == device)
        };
        let linked =
            |m: &&Mount| (m.major, m.minor) == (major, minor) || (m.major == 0 && same_source(&m.source));
        let clone = |m: &&Mount| m.source.starts_with("/dev") && self.has_uuid(m, uuid);
        let found = mounts.iter().find(linked).or_else(|| mounts.iter().find(clone));
        found.map(|m| m.directory.clone())
    }

    /// Whether udev's database gives a mounted device this UUID (udev's `src/libudev`: `b` and the device number).
    fn has_uuid(&self, mount: &Mount, uuid: &str) -> bool {
        let entry = self.env.path(format!("/run/udev/data/b{}:{}", mount.major, mount.minor));
        let text = fs::read_to_string(entry).unwrap_or_default();
        let mut found = text.lines().filter_map(|line| line.strip_prefix("E:ID_FS_UUID="));
        found.any(|found| found.eq_ignore_ascii_case(uuid))
    }

    /// udev's link to the device with a UUID; some file systems' UUIDs are in upper case there.
    fn device_link(&self, uuid: &str) -> Option<PathBuf> {
        let by_uuid = self.env.path("/dev/disk/by-uuid");
        let mut spellings = vec![uuid.to_owned()];
        if uuid.bytes().any(|b| b.is_ascii_lowercase()) && uuid.len() < 36 {
            spellings.push(uuid.to_ascii_uppercase());
        }
        spellings.into_iter().map(|name| by_uuid.join(name)).find(|link| link.symlink_metadata().is_ok())
    }

    fn directory(&self, configured: &Path, record: Option<&MagazineRecord>, uuid: Option<&str>) -> Presence {
        let mounts = self.mounts();
        if let Some(automounter) = mounts.autofs_above(configured) {
            return self.automounted(configured, &automounter.directory, &automounter.source, uuid);
        }
        if let Some(mount) = mounts.on(configured) {
            // a direct autofs mount point: what it would mount is not known
            return if mount.is_autofs() {
                Presence::Unknown { directory: configured.to_owned() }
            } else {
                self.present(configured.to_owned())
            };
        }
        let actual = self.env.path(configured);
        if !actual.is_dir() {
            return Presence::Absent;
        }
        let real = fs::canonicalize(&actual).unwrap_or_else(|_| actual.clone());
        let must_be_mounted = uuid.is_some()
            || record.is_some_and(|r| r.mount_point)
            || in_fstab(self.env, configured)
            || in_fstab(self.env, &real);
        if must_be_mounted && !self.mounted_on(&real) {
            return Presence::Absent;
        }
        Presence::Present { directory: configured.to_owned(), access: Access::Plain }
    }

    fn automounted(
        &self,
        directory: &Path,
        automounter: &Path,
        source: &Path,
        uuid: Option<&str>,
    ) -> Presence {
        let child = directory.strip_prefix(automounter).ok().and_then(|below| below.iter().next());
        let Some(child) = child else { return Presence::Absent };
        let directory = directory.to_owned();
        if self.mounted_on(&automounter.join(child)) {
            return Presence::Present { directory, access: Access::Automounted };
        }
        let name = uuid.map(str::to_owned).or_else(|| child.to_str().map(str::to_owned));
        let plugged = name.as_deref().is_some_and(|name| {
            read_marker(&self.env.root, name).is_some()
                || (source != Path::new(OWN_AUTOFS)
                    && !name.contains('/')
                    && self.device_link(name).is_some())
        });
        if plugged {
            Presence::Present { directory, access: Access::Locked }
        } else if source == Path::new(OWN_AUTOFS) {
            Presence::Absent
        } else {
            Presence::Unknown { directory }
        }
    }
}
