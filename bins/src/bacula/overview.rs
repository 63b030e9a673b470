//! What is known of drives beside where they are.

use std::collections::BTreeSet;
use std::path::Path;

use changer_model::{ChangerStatus, Notice};
use mount_by_uuid::System;

use super::as_bacula::Asker;
use super::view::Known;
use crate::base::paths::Root;
use crate::drives::{automounters, unknown_drives};
use crate::protocol::site_status::{
    BackupStatus, CatalogStatus, DriveState, JobStatus, MagazineStatus, Problem, SiteStatus, VERSION,
};
use crate::records::fsck_due::Torn;
use crate::records::header_backups;
use crate::records::history::{Backup, History};
use crate::site::description::{Magazine, Site};

/// What is known of drives beside where they are: by the changer, by Bacula, by what was noted.
pub struct View<'a> {
    pub(crate) root: &'a Root,
    pub(crate) changer: Option<ChangerStatus>,
    pub(crate) history: History,
    pub(crate) bacula: Known,
    pub(crate) writable: BTreeSet<String>,
    /// Another automounter hides the mount root.
    pub(crate) covered: Option<Problem>,
}

impl<'a> View<'a> {
    /// Reads what the changer and earlier answers of Bacula left; touches no drive.
    pub fn new(root: &'a Root, system: &System, site: &Site, bacula: Known) -> Self {
        let volumes = bacula.volumes.iter().flatten().filter(|volume| volume.writable);
        let writable = volumes.map(|volume| volume.name.clone()).collect();
        let mount_root = root.join(&site.mount_root);
        let mount_root = mount_root.canonicalize().unwrap_or(mount_root);
        let covered = automounters::at_mount_root(root, system, &mount_root, automounters::SOURCE);
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
                Some(luks) => header_backups::warning(self.root, luks),
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

/// Free bytes for Bacula on a mounted filesystem.
pub(crate) fn free_bytes(at: &Path) -> Option<u64> {
    let room = nix::sys::statvfs::statvfs(at).ok()?;
    Some(room.blocks_available() * room.fragment_size())
}

/// The changer's notices, with the stickers of the drives.
pub(crate) fn notices(site: &Site, notices: Vec<Notice>) -> Vec<Notice> {
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
