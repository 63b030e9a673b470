//! One enrolled drive as the daemon sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use mount_by_uuid::{BlockDevice, DevNum, System};

use super::journal::{Priority, tell};
use crate::protocol::site_status::{DriveState, Problem};
use crate::site::description::Magazine;

/// A drive, whether it is plugged or away.
#[derive(Debug)]
pub(super) struct Drive {
    /// What site.toml says of it now; what it is recognised by never changes.
    magazine: RwLock<Arc<Magazine>>,
    /// Held by whoever unlocks, mounts, unmounts or locks it; taken before `seen`, never after.
    work: Mutex<()>,
    seen: Mutex<Seen>,
}

/// What is known of a drive; held only to look or to note, never across work.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Where it is plugged.
    pub(super) plugged: Option<Plugged>,
    /// Since when it is plugged or away.
    pub(super) since: Timestamp,
    /// What is in place while it is mounted.
    pub(super) open: Option<Open>,
    /// What whoever holds the work lock does with it now.
    pub(super) doing: Option<Doing>,
    /// Ejected by hand: stays locked until it is plugged again.
    pub(super) ejected: bool,
    /// Taken out of site.toml while it was in use: known until it is locked or pulled, and not opened again.
    pub(super) leaving: bool,
    /// What is wrong with it.
    pub(super) problem: Option<Problem>,
    /// Who uses it, while it lingers.
    pub(super) used: Option<Problem>,
    /// It answers nothing to somebody who waits for it.
    pub(super) silent: Option<Problem>,
    /// Why the changer could not be told whether it is here.
    pub(super) unmarked: Option<String>,
    /// A thread waits for its end while it lingers.
    pub(super) awaited: bool,
    /// A copy of it is plugged as well: none of them is opened.
    pub(super) doubled: Option<Problem>,
}

/// Work on a drive, as others have to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is unlocked, checked and mounted.
    Opening,
    /// It is flushed, unmounted and locked.
    Closing,
}

/// The block device of a plugged drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugged {
    pub(super) path: PathBuf,
    pub(super) devnum: DevNum,
    /// Which of all devices that have had this number; older kernels don't tell.
    pub(super) diskseq: Option<u64>,
}

impl From<&BlockDevice> for Plugged {
    fn from(device: &BlockDevice) -> Self {
        Self { path: device.path.clone(), devnum: device.devnum, diskseq: device.diskseq }
    }
}

impl Plugged {
    /// Whether both are one device, as far as the kernel tells.
    pub(super) fn is(&self, other: &Self) -> bool {
        let apart = self.diskseq.zip(other.diskseq).is_some_and(|(one, other)| one != other);
        self.devnum == other.devnum && !apart
    }

    /// Whether it is still there, whatever events say: they come late, repeated and out of order.
    pub(super) fn is_in(&self, system: &System) -> bool {
        system.device(self.devnum).is_some_and(|now| now.size_bytes > 0 && self.is(&Self::from(&now)))
    }
}

/// What is in place while a drive is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// The mapping, for an encrypted drive.
    pub(super) mapping: Option<String>,
    /// It is unmounted, but something still uses its filesystem or its mapping.
    pub(super) lingers: bool,
}

impl Drive {
    pub(super) fn new(magazine: Magazine) -> Self {
        let seen = Seen {
            plugged: None,
            since: Timestamp::now(),
            open: None,
            doing: None,
            ejected: false,
            leaving: false,
            problem: None,
            used: None,
            silent: None,
            unmarked: None,
            awaited: false,
            doubled: None,
        };
        Self { magazine: RwLock::new(Arc::new(magazine)), work: Mutex::new(()), seen: Mutex::new(seen) }
    }

    /// What site.toml says of it.
    pub(super) fn magazine(&self) -> Arc<Magazine> {
        Arc::clone(&self.magazine.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what site.toml says of it from now on.
    pub(super) fn describe(&self, magazine: Magazine) {
        *self.magazine.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(magazine);
    }

    /// Whether this is the drive that a table of site.toml is about, whatever else the table says.
    pub(super) fn is(&self, magazine: &Magazine) -> bool {
        let known = self.magazine();
        known.luks_uuid == magazine.luks_uuid && known.fs_uuid == magazine.fs_uuid
    }

    /// Says something about it.
    pub(super) fn say(&self, line: &str) {
        tell(Priority::Info, Some(&self.magazine()), line);
    }

    /// Says what is wrong with it.
    pub(super) fn warn(&self, line: &str) {
        tell(Priority::Warning, Some(&self.magazine()), line);
    }

    /// Waits until nobody else works on this drive.
    pub(super) fn work(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data that a panic could have left half-made.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub(super) fn seen(&self) -> Seen {
        self.note(|seen| seen.clone())
    }

    /// Notes something.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    /// Takes what is left in place by a drive that has gone, unless whoever closes it now will see to it.
    pub(super) fn left_open(&mut self) -> Option<Open> {
        if self.doing == Some(Doing::Closing) { None } else { self.open.take() }
    }

    /// Whether whoever looks at its directory may have it opened.
    pub(super) fn may_open(&self) -> bool {
        !self.ejected && !self.leaving
    }

    /// Whether it is unmounted, but not free.
    pub(super) fn lingers(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.lingers)
    }

    /// Whether something is in place that must be put to rest, or is just being put there.
    pub(super) fn is_at_work(&self) -> bool {
        self.open.is_some() || self.doing.is_some()
    }

    /// Whether the changer may count on its volumes: those of a drive that is open stay, even when a copy is plugged.
    pub(super) fn usable(&self) -> bool {
        self.plugged.is_some() && self.may_open() && (self.doubled.is_none() || self.open.is_some())
    }

    /// What a person should know and mend.
    pub(super) fn problem(self) -> Option<Problem> {
        let leaves = || Problem {
            message: "it was taken out of site.toml while it was in use, and is locked when it is idle"
                .into(),
            remedy: "`offsite lock` locks it now".into(),
        };
        let used = if self.lingers() { self.used } else { None };
        let unmarked = self.unmarked.map(|error| Problem {
            message: format!(
                "Bacula can't see whether it is here: its mark in /run/offsite/magazines: {error}"
            ),
            remedy: "if the disk is full, make room: df -h /run; it is tried again every few seconds".into(),
        });
        self.silent
            .or(self.doubled)
            .or(self.problem)
            .or(used)
            .or(unmarked)
            .or_else(|| self.leaving.then(leaves))
    }

    /// Where the drive is in its life.
    pub(super) fn state(&self) -> DriveState {
        match (&self.plugged, &self.open) {
            (None, _) => DriveState::Away,
            (Some(_), Some(_)) => DriveState::Mounted,
            (Some(_), None) if self.doing == Some(Doing::Opening) => DriveState::Opening,
            (Some(_), None) if self.ejected => DriveState::Ejected,
            (Some(_), None) if self.problem.is_some() || self.doubled.is_some() => DriveState::Refused,
            (Some(_), None) => DriveState::Locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugged(minor: u32, diskseq: Option<u64>) -> Plugged {
        Plugged { path: "/dev/sdx".into(), devnum: DevNum { major: 8, minor }, diskseq }
    }

    #[test]
    fn another_drive_under_the_same_number_is_another() {
        assert!(plugged(16, Some(4)).is(&plugged(16, Some(4))));
        assert!(!plugged(16, Some(4)).is(&plugged(16, Some(5))));
        assert!(!plugged(16, Some(4)).is(&plugged(32, Some(4))));
        assert!(plugged(16, None).is(&plugged(16, Some(5))), "an older kernel doesn't tell");
    }
}
