//! `offsite status`: every drive, where it is, what to do; the words of the daemon, or what can be seen without it.

mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use changer_model::{ChangerStatus, FinishedJob, Notice};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mount_by_uuid::{MountTable, System, is_held};
use serde::{Deserialize, Serialize};

use crate::as_bacula::Asker;
use crate::automounters;
use crate::bacula_view::{self, Known};
use crate::cli::Status;
use crate::control::{self, Verb};
use crate::failure::{Failure, OrFail as _};
use crate::headers;
use crate::history::{Backup, History};
use crate::paths::Root;
use crate::report;
use crate::site::{Magazine, Site};
use crate::torn::Torn;
use crate::unknown_drives::{self, UnknownDrive};

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

/// Runs `offsite status`.
pub fn run(root: &Root, options: &Status) -> Result<(), Failure> {
    let shown = |status: &SiteStatus| text::page(status, &TimeZone::system());
    if !options.watch {
        let status = look(root)?;
        return if options.json { report::json(&status) } else { report::text(&shown(&status)) };
    }
    let mut last: Option<String> = None;
    loop {
        let status = look(root)?;
        let page = if options.json { report::line_of(&status)? } else { shown(&status) };
        if last.as_ref() != Some(&page) {
            if !options.json {
                report::clear_screen()?;
            }
            report::text(&page)?; // whoever reads this may have gone, as at the end of a pipe; then it is over
            last = Some(page);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Asks the daemon, or looks for itself.
pub fn look(root: &Root) -> Result<SiteStatus, Failure> {
    if let Some(status) = control::call(root, Verb::Status, None)?.and_then(|reply| reply.status) {
        return Ok(status);
    }
    let site = Site::load(root)?;
    let system = System::new(root.kernel());
    let devices = system.scan().or_fail("cannot look for drives")?;
    let mounts = MountTable::read(&system).or_fail("cannot read the mount table")?;
    let mut bacula = Known::default();
    bacula.update(bacula_view::ask_quickly(root, &site), Timestamp::now());
    let view = View::new(root, &system, &site, bacula);
    let magazines = site
        .magazines
        .iter()
        .map(|magazine| {
            let device = devices.iter().find(|d| d.tag.as_ref() == Some(&magazine.tag()));
            let at = root.join(site.mount_point(magazine));
            // It may be mounted elsewhere, or be open without being mounted.
            let held = device.is_some_and(|device| is_held(&system, device.devnum));
            let mounted = held || mounts.at(&at).is_some_and(|m| m.fs_type != "autofs");
            let state = match (device, mounted) {
                (_, true) => DriveState::Mounted,
                (Some(_), false) => DriveState::Locked,
                (None, false) => DriveState::Away,
            };
            let device = device.map(|d| d.path.clone());
            MagazineStatus { device, ..view.magazine(magazine, &at, state) }
        })
        .collect();
    Ok(view.site(&site, None, magazines, None))
}

/// What is known of drives beside where they are: by the changer, by Bacula, by what was noted.
pub struct View<'a> {
    root: &'a Root,
    changer: Option<ChangerStatus>,
    history: History,
    bacula: Known,
    writable: BTreeSet<String>,
    /// Another automounter hides the mount root.
    covered: Option<Problem>,
}

impl<'a> View<'a> {
    /// Reads what the changer and earlier answers of Bacula left; touches no drive.
    pub fn new(root: &'a Root, system: &System, site: &Site, bacula: Known) -> Self {
        let volumes = bacula.volumes.iter().flatten().filter(|volume| volume.writable);
        let writable = volumes.map(|volume| volume.name.clone()).collect();
        let mount_root = root.join(&site.mount_root);
        let mount_root = mount_root.canonicalize().unwrap_or(mount_root);
        let covered = automounters::at_mount_root(root, system, &mount_root, crate::serve::SOURCE);
        Self { root, changer: changer(root, site), history: History::load(root), bacula, writable, covered }
    }

    /// What can be told of a magazine in `state`, whose filesystem appears at `at`, without having watched it.
    pub fn magazine(&self, magazine: &Magazine, at: &Path, state: DriveState) -> MagazineStatus {
        let torn = Torn::of(self.root, &magazine.fs_uuid);
        let of_changer = self.of_changer(at);
        let catalog_pending = self.is_pending(at);
        let known = self.bacula.volumes.is_some() && state != DriveState::Away && !catalog_pending;
        let writable = |m: &changer_model::MagazineStatus| {
            m.volumes.iter().filter(|volume| self.writable.contains(&volume.label)).count()
        };
        MagazineStatus {
            name: magazine.name.clone(),
            fs_uuid: magazine.fs_uuid.to_string(),
            luks_uuid: magazine.luks_uuid.map(|u| u.to_string()),
            serial: magazine.serial.clone(),
            state,
            since: None,
            device: None,
            torn: torn == Some(Torn::Pulled),
            // Behind another automounter a look would wait for that one.
            free_bytes: (state == DriveState::Mounted && self.covered.is_none())
                .then(|| free_bytes(at))
                .flatten(),
            volumes: of_changer.map(|m| m.volumes.len()),
            writable_volumes: of_changer.filter(|_| known).map(writable),
            last_job: self.history.on_drive(magazine.fs_uuid.as_str()).cloned(),
            catalog_pending,
            problem: torn.as_ref().and_then(Torn::problem),
            warning: match magazine.luks_uuid {
                Some(luks) => headers::warning(self.root, luks),
                None => Some("not encrypted: whoever has the drive reads every backup on it".into()),
            },
        }
    }

    /// The state of the whole site, with these magazines.
    pub fn site(
        self,
        site: &Site,
        daemon_pid: Option<u32>,
        magazines: Vec<MagazineStatus>,
        catalog_error: Option<String>,
    ) -> SiteStatus {
        let sticker = |fs_uuid: &String| {
            let magazine = site.magazines.iter().find(|m| m.fs_uuid.as_str() == fs_uuid.as_str());
            magazine.map(|m| m.name.clone())
        };
        let backup = |backup: &Backup| BackupStatus {
            job: backup.job.clone(),
            magazines: backup.drives.iter().filter_map(sticker).collect(),
        };
        let backups = self.history.jobs().iter().map(|(name, outcomes)| JobStatus {
            job: name.clone(),
            last_good: outcomes.good.as_ref().map(backup),
            last_failed: outcomes.failed.as_ref().map(backup),
        });
        SiteStatus {
            version: VERSION,
            daemon_pid,
            mount_root: site.mount_root.clone(),
            magazines,
            catalog: CatalogStatus {
                pending: self.changer.as_ref().is_some_and(|changer| changer.pending.is_some()),
                last_error: catalog_error,
            },
            backups: backups.collect(),
            unknown_drives: unknown_drives::look(self.root, site),
            notices: self.changer.map(|changer| notices(site, changer.notices)).unwrap_or_default(),
            outdated: None,
            covered: self.covered,
            waiting: self.bacula.waiting,
            bacula: self.bacula.bacula,
        }
    }

    /// The magazine mounted at `at`, as the changer has it.
    fn of_changer(&self, at: &Path) -> Option<&changer_model::MagazineStatus> {
        let name = at.file_name()?.to_str()?;
        self.changer.as_ref()?.magazines.iter().find(|m| m.id.ends_with(name))
    }

    /// Whether Bacula has still to be told of the magazine mounted at `at`.
    fn is_pending(&self, at: &Path) -> bool {
        let name = at.file_name().and_then(|name| name.to_str());
        let pending = self.changer.as_ref().and_then(|changer| changer.pending.as_ref());
        name.zip(pending).is_some_and(|(name, pending)| pending.changed.iter().any(|id| id.ends_with(name)))
    }
}

/// The changer's own view, where it is configured, as Bacula's user sees it.
pub fn changer(root: &Root, site: &Site) -> Option<ChangerStatus> {
    Asker::new(root, site)?.changer().ok()
}

/// The changer's notices, with the stickers of the drives.
fn notices(site: &Site, notices: Vec<Notice>) -> Vec<Notice> {
    let named = |mut notice: Notice| {
        let enrolled = notice
            .magazine
            .as_deref()
            .and_then(|id| site.magazines.iter().find(|m| id.ends_with(m.fs_uuid.as_str())));
        if let Some(magazine) = enrolled {
            notice.magazine = Some(magazine.name.clone());
        }
        notice
    };
    notices.into_iter().map(named).collect()
}

/// Free bytes for Bacula on a mounted filesystem.
fn free_bytes(at: &Path) -> Option<u64> {
    let room = nix::sys::statvfs::statvfs(at).ok()?;
    Some(room.blocks_available() * room.fragment_size())
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
