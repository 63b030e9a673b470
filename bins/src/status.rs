//! `offsite status`: every drive, where it is, what to do; the words of the daemon, or what can be seen without it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use changer_model::{ChangerStatus, FinishedJob};
use jiff::Timestamp;
use mount_by_uuid::{MountTable, System};
use serde::{Deserialize, Serialize};

use crate::as_bacula::Asker;
use crate::cli::Status;
use crate::confirm::size;
use crate::control::{self, Verb};
use crate::failure::{Failure, OrFail as _};
use crate::headers;
use crate::history::History;
use crate::paths::Root;
use crate::report;
use crate::site::{Magazine, Site};
use crate::torn::Torn;

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
    /// Since when, as far as the daemon saw it.
    pub since: Option<Timestamp>,
    /// The block device now.
    pub device: Option<PathBuf>,
    /// It was pulled while in use, and will be checked before its next use.
    pub torn: bool,
    /// Free bytes, while it is mounted.
    pub free_bytes: Option<u64>,
    /// Volumes that the changer knows on it.
    pub volumes: Option<usize>,
    /// The last backup on it, as far as Bacula was asked.
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

impl MagazineStatus {
    /// What can be told of a magazine in `state`, whose filesystem appears at `at`, without having watched it.
    pub fn of(
        root: &Root,
        magazine: &Magazine,
        at: &Path,
        state: DriveState,
        changer: Option<&ChangerStatus>,
    ) -> Self {
        let torn = Torn::of(root, &magazine.fs_uuid);
        Self {
            name: magazine.name.clone(),
            fs_uuid: magazine.fs_uuid.to_string(),
            luks_uuid: magazine.luks_uuid.map(|u| u.to_string()),
            serial: magazine.serial.clone(),
            state,
            since: None,
            device: None,
            torn: torn == Some(Torn::Pulled),
            free_bytes: (state == DriveState::Mounted).then(|| free_bytes(at)).flatten(),
            volumes: volumes(changer, at),
            last_job: History::load(root).last(magazine.fs_uuid.as_str()).cloned(),
            catalog_pending: is_pending(changer, at),
            problem: torn.as_ref().and_then(Torn::problem),
            warning: match magazine.luks_uuid {
                Some(luks) => headers::mended(root, luks),
                None => Some("not encrypted: whoever has the drive reads every backup on it".into()),
            },
        }
    }
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
    if !options.watch {
        let status = SiteStatus { waiting: waiting(root), ..look(root)? };
        return if options.json { report::json(&status) } else { report::text(&text(&status)) };
    }
    let mut shown = None;
    loop {
        let status = SiteStatus { waiting: waiting(root), ..look(root)? };
        let page = if options.json {
            serde_json::to_string(&status).or_fail("cannot write JSON")? + "\n"
        } else {
            format!("\x1b[H\x1b[2J{}", text(&status)) // cursor home, clear screen
        };
        if shown.as_ref() != Some(&page) {
            report::text(&page)?; // whoever reads this may have gone, as at the end of a pipe; then it is over
            shown = Some(page);
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
    let changer = changer(root, &site);
    let magazines = site
        .magazines
        .iter()
        .map(|magazine| {
            let device = devices.iter().find(|d| d.tag.as_ref() == Some(&magazine.tag()));
            let at = root.join(site.mount_point(magazine));
            let mounted = mounts.at(&at).is_some_and(|m| m.fs_type != "autofs");
            let state = match (device, mounted) {
                (_, true) => DriveState::Mounted,
                (Some(_), false) => DriveState::Locked,
                (None, false) => DriveState::Away,
            };
            let device = device.map(|d| d.path.clone());
            MagazineStatus { device, ..MagazineStatus::of(root, magazine, &at, state, changer.as_ref()) }
        })
        .collect();
    Ok(SiteStatus {
        version: VERSION,
        daemon_pid: None,
        mount_root: site.mount_root.clone(),
        magazines,
        catalog: catalog(changer.as_ref(), None),
        waiting: None,
    })
}

/// Asks Bacula what it waits for, and finds the stickers.
pub fn waiting(root: &Root) -> Option<Vec<Wanted>> {
    let site = Site::load(root).ok()?;
    let waiting = Asker::new(root, &site)?.waiting().ok()?;
    let sticker = |id: &str| {
        let magazine = site.magazines.iter().find(|m| id.ends_with(&m.fs_uuid.to_string()));
        magazine.map(|m| m.name.clone())
    };
    let wanted = waiting.into_iter().map(|drive| Wanted {
        magazine: drive.magazine.as_deref().and_then(sticker),
        volume: drive.volume,
        here: drive.here,
    });
    Some(wanted.collect())
}

/// The changer's own view, where it is configured, as Bacula's user sees it.
pub fn changer(root: &Root, site: &Site) -> Option<ChangerStatus> {
    Asker::new(root, site)?.changer().ok()
}

/// Whether Bacula has still to be told of the magazine mounted at `at`.
fn is_pending(changer: Option<&ChangerStatus>, at: &Path) -> bool {
    let name = at.file_name().and_then(|name| name.to_str());
    let pending = changer.and_then(|changer| changer.pending.as_ref());
    name.zip(pending).is_some_and(|(name, pending)| pending.changed.iter().any(|id| id.ends_with(name)))
}

/// `Backup (full), 2026-11-24 02:14:19`
fn last_backup(job: &FinishedJob) -> String {
    let level = match &*job.level {
        "F" => "full",
        "D" => "differential",
        "I" => "incremental",
        other => other,
    };
    let ended = if job.well { "" } else { ", FAILED" };
    format!("{} ({level}) {}{ended}", job.name, job.started)
}

/// How many volumes the changer knows on the magazine mounted at `at`.
fn volumes(changer: Option<&ChangerStatus>, at: &Path) -> Option<usize> {
    let name = at.file_name()?.to_str()?;
    let magazine = changer?.magazines.iter().find(|m| m.id.ends_with(name))?;
    Some(magazine.volumes.len())
}

/// What Bacula has still to be told, by the changer's own journal.
pub fn catalog(changer: Option<&ChangerStatus>, last_error: Option<String>) -> CatalogStatus {
    CatalogStatus { pending: changer.is_some_and(|c| c.pending.is_some()), last_error }
}

/// Free bytes for Bacula on a mounted filesystem.
fn free_bytes(at: &Path) -> Option<u64> {
    let room = nix::sys::statvfs::statvfs(at).ok()?;
    Some(room.blocks_available() * room.fragment_size())
}

/// The page for a person.
fn text(status: &SiteStatus) -> String {
    let mut lines = Vec::new();
    if status.magazines.is_empty() {
        lines.push("No drive is enrolled yet: offsite prepare, offsite adopt.".to_owned());
    }
    let width = status.magazines.iter().map(|m| m.name.len()).max().unwrap_or(0);
    for magazine in &status.magazines {
        let state = match magazine.state {
            DriveState::Away => "away",
            DriveState::Locked => "plugged, locked: safe to pull",
            DriveState::Opening => "being unlocked",
            DriveState::Mounted => "in use: `offsite eject` before you pull it",
            DriveState::Ejected => "ejected: safe to pull",
            DriveState::Refused => "plugged, NOT USABLE",
        };
        let mut line = format!("{:width$}  {state}", magazine.name);
        if let Some(since) = magazine.since {
            line.push_str(&format!(" (since {})", since.strftime("%F %T UTC")));
        }
        if let Some(volumes) = magazine.volumes {
            line.push_str(&format!(", {volumes} volumes"));
        }
        if let Some(free) = magazine.free_bytes {
            line.push_str(&format!(", {} free", size(free)));
        }
        if let Some(job) = &magazine.last_job {
            line.push_str(&format!(", last backup {}", last_backup(job)));
        }
        if magazine.torn {
            line.push_str(", was pulled while in use: it will be checked");
        }
        lines.push(line);
        if let Some(warning) = &magazine.warning {
            lines.push(format!("{:width$}    warning: {warning}", ""));
        }
        if magazine.catalog_pending {
            lines.push(format!("{:width$}    Bacula has still to be told of it", ""));
        }
        if let Some(problem) = &magazine.problem {
            lines.push(format!("{:width$}    problem: {}", "", problem.message));
            lines.push(format!("{:width$}    do:      {}", "", problem.remedy));
        }
    }
    match (&status.catalog.last_error, status.catalog.pending) {
        (Some(error), _) => {
            lines.push(format!("Bacula couldn't be told of the drives: {error}; trying again"));
        }
        (None, true) => lines.push("Bacula is being told of the drives".to_owned()),
        (None, false) => {}
    }
    lines.extend(status.waiting.iter().flatten().map(ToString::to_string));
    if status.daemon_pid.is_none() {
        lines.push("offsited isn't running: drives are not unlocked (systemctl start offsited)".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_the_sticker() {
        let wanted = |volume: Option<&str>, magazine: Option<&str>, here| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Wanted { volume: owned(volume), magazine: owned(magazine), here }.to_string()
        };
        let named = wanted(Some("c0_A_0003"), Some("A"), false);
        assert_eq!(named, "Bacula waits for c0_A_0003: plug in drive A");
        assert!(wanted(Some("c0_A_0003"), Some("A"), true).ends_with("by itself"));
        assert!(wanted(Some("x"), None, false).ends_with("plug in its drive"));
        assert!(wanted(None, None, false).ends_with("plug in the next drive"));
    }
}
