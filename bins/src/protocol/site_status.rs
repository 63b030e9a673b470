//! The state of a site, as the daemon tells it and as scripts read it.

use std::fmt;
use std::path::PathBuf;

use changer_model::{FinishedJob, Notice};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the JSON form; raised when a script could notice.
pub const VERSION: u32 = 1;

/// The state of the whole site.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The version of this form.
    pub version: u32,
    /// The daemon's process id, when one is running.
    pub daemon_pid: Option<u32>,
    /// Where drives appear.
    pub mount_root: PathBuf,
    /// Every enrolled drive, in the order of site.toml.
    pub magazines: Vec<MagazineStatus>,
    /// What Bacula has still to be told.
    pub catalog: CatalogStatus,
    /// What Bacula waits for; absent when it could not be asked.
    #[serde(default)]
    pub waiting: Option<Vec<Wanted>>,
    /// When Bacula answered; absent when it was not asked.
    #[serde(default)]
    pub bacula: BaculaStatus,
    /// How the backups of data ended, by job.
    #[serde(default)]
    pub backups: Vec<JobStatus>,
    /// Drives that are plugged, and neither enrolled nor used by this server.
    #[serde(default)]
    pub unknown_drives: Vec<UnknownDrive>,
    /// What a person should know of the changer and its volumes although nothing failed; the magazine is a sticker, where
    /// it is enrolled.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Why the daemon doesn't use site.toml as it is now; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<Problem>,
    /// Another automounter that hides the mount root or a drive; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Problem>,
}

/// Whether Bacula answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaculaStatus {
    /// When it answered last, as far as the daemon remembers.
    pub answered: Option<Timestamp>,
    /// Why it gave no answer, or not all of it, when it was asked last.
    pub error: Option<String>,
}

/// How the runs of one job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job's name.
    pub job: String,
    /// The last run that saved everything.
    pub last_good: Option<BackupStatus>,
    /// The last run that didn't; it may be older than the last good one.
    pub last_failed: Option<BackupStatus>,
}

impl JobStatus {
    /// The run that failed, unless a later one went well.
    pub fn unmended(&self) -> Option<&FinishedJob> {
        let failed = &self.last_failed.as_ref()?.job;
        let good = self.last_good.as_ref().map(|good| (good.job.ended, good.job.id));
        (good < Some((failed.ended, failed.id))).then_some(failed)
    }
}

/// A backup that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// What the catalog says of it.
    #[serde(flatten)]
    pub job: FinishedJob,
    /// The stickers of the enrolled drives that it lies on.
    pub magazines: Vec<String>,
}

/// A volume that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The volume; absent when any that can be written would do.
    pub volume: Option<String>,
    /// The sticker of the drive it is on.
    pub magazine: Option<String>,
    /// That drive is plugged.
    pub here: bool,
    /// The job that waits.
    #[serde(default)]
    pub job: Option<String>,
}

/// Where a drive is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriveState {
    /// Not plugged.
    Away,
    /// Plugged and locked: it can be pulled at any moment.
    Locked,
    /// Being unlocked, checked and mounted.
    Opening,
    /// Unlocked and mounted.
    Mounted,
    /// Ejected: locked until it is plugged again.
    Ejected,
    /// Plugged, but it can't be used; see the problem.
    Refused,
}

/// One drive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MagazineStatus {
    /// The sticker.
    pub name: String,
    /// The filesystem's UUID, which is its directory below the mount root.
    pub fs_uuid: String,
    /// The container's UUID; absent for an unencrypted drive.
    pub luks_uuid: Option<String>,
    /// The drive's serial number.
    pub serial: Option<String>,
    /// Where it is in its life.
    pub state: DriveState,
    /// Since when it is plugged or away, as far as the daemon saw it.
    pub since: Option<Timestamp>,
    /// The block device now.
    pub device: Option<PathBuf>,
    /// It was pulled while in use, and will be checked before its next use.
    pub torn: bool,
    /// Free bytes, while it is mounted.
    pub free_bytes: Option<u64>,
    /// Volumes that the changer knows on it.
    pub volumes: Option<usize>,
    /// How many of them a job may write to now, by the catalog; only while it is plugged and the catalog knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_volumes: Option<usize>,
    /// The last backup of data on it, as far as Bacula was asked.
    pub last_job: Option<FinishedJob>,
    /// Bacula has still to be told that it came or went.
    #[serde(default)]
    pub catalog_pending: bool,
    /// What is wrong, and what to do.
    pub problem: Option<Problem>,
    /// What a person should know although the drive works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Something that a person should mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// What Bacula has still to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogStatus {
    /// Whether an update waits.
    pub pending: bool,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What the person who changes drives should do for a job that waits.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.volume, &self.magazine) {
            (Some(volume), _) if self.here => {
                write!(f, "Bacula waits for {volume}, which is here: it goes on by itself")
            }
            (Some(volume), Some(magazine)) => {
                write!(f, "Bacula waits for {volume}: plug in drive {magazine}")
            }
            (Some(volume), None) => write!(f, "Bacula waits for {volume}: plug in its drive"),
            (None, _) => f.write_str("Bacula waits for a volume that can be written: plug in the next drive"),
        }?;
        self.job.as_ref().map_or(Ok(()), |job| write!(f, " (job {job})"))
    }
}

/// A plugged drive that no `[[magazine]]` table is about and that this server doesn't use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownDrive {
    /// The block device now.
    pub device: PathBuf,
    /// The drive's serial number.
    pub serial: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// What is on it, for a person.
    pub contents: String,
    /// What can be done with it.
    pub remedy: String,
}

impl UnknownDrive {
    /// Warns of erasing a drive that has the serial number of these magazines: it may be one of them, whose header or
    /// filesystem is damaged.
    pub(crate) fn spare(&mut self, magazines: &[&str]) {
        if magazines.is_empty() {
            return;
        }
        let names = magazines.join(" and ");
        self.contents.push_str(&format!(", but the serial number is that of {names}"));
        self.remedy = format!(
            "it may be {names} with a damaged header, and its backups may be brought back: offsite doctor says how; don't \
             erase it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_the_sticker() {
        let wanted = |volume: Option<&str>, magazine: Option<&str>, here| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Wanted { volume: owned(volume), magazine: owned(magazine), here, job: None }.to_string()
        };
        let named = wanted(Some("c0_A_0003"), Some("A"), false);
        assert_eq!(named, "Bacula waits for c0_A_0003: plug in drive A");
        assert!(wanted(Some("c0_A_0003"), Some("A"), true).ends_with("by itself"));
        assert!(wanted(Some("x"), None, false).ends_with("plug in its drive"));
        assert!(wanted(None, None, false).ends_with("plug in the next drive"));
    }
}
