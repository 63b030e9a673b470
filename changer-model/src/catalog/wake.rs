//! Drives that wait for a volume: which one it is, on which magazine, and ending the wait when it is here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ask_error::AskError;
use super::refresh::RefreshError;
use crate::changer::opened::{Changer, ChangerError, consistently};
use crate::changer::view::View;
use crate::director::console::{Console, ConsoleError};
use crate::director::dialogue;
use crate::director::running::{self, DirectorState};
use crate::library::identifiers::{DriveIndex, MagazineId, Slot, VolumeName};
use crate::library::model;

/// A drive of Bacula's that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitingDrive {
    /// The drive, from 0.
    pub drive: u32,
    /// The number of the job in the catalog.
    pub job_id: u32,
    /// The job's name, without the time that makes it unique.
    pub job: String,
    /// A job reads from this storage, as a restore does.
    pub reading: bool,
    /// The volume it asks for; none when any one that can be written would do.
    pub volume: Option<String>,
    /// The magazine that volume is on, as the configuration names it; none when the changer does not know it.
    pub magazine: Option<String>,
    /// The volume is in the changer now.
    pub here: bool,
}

/// A job that waits for an operator, and its drive.
struct Wait {
    drive: DriveIndex,
    job_id: u32,
    job: String,
    /// The volume asked for; none when any new one would do.
    volume: Option<VolumeName>,
    /// A restore waits for its one volume; a backup takes another one when it is asked again.
    reading: bool,
}

/// Where a volume is.
struct Whereabouts {
    magazine: MagazineId,
    /// Its slot, when it is here.
    slot: Option<Slot>,
}

impl Changer {
    /// Asks Bacula which drives wait for a volume; none wait where the console is switched off. No magazine is touched,
    /// by the storage daemon neither.
    ///
    /// # Errors
    /// [`AskError::Console`] when Bacula cannot be asked within
    /// [`Environment::console_limit`](crate::Environment::console_limit); [`AskError::Changer`] when the state
    /// cannot be read.
    pub fn waiting(&self) -> Result<Vec<WaitingDrive>, AskError> {
        let Some(console) = self.console() else { return Ok(Vec::new()) };
        let output = console.run(running::DIRECTOR, self.console_limit(0))?;
        self.waits_by(&console, &output)
    }

    /// The drives that wait, by the Director's list of running jobs.
    pub(crate) fn waits_by(&self, console: &Console, director: &str) -> Result<Vec<WaitingDrive>, AskError> {
        let waiting = self.waits(console, director)?;
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let known = consistently(|| self.whereabouts(&self.look()?))?;
        let described = waiting.into_iter().map(|drive| {
            let place = drive.volume.as_ref().and_then(|name| known.get(name));
            WaitingDrive {
                drive: drive.drive.number(),
                job_id: drive.job_id,
                job: drive.job,
                reading: drive.reading,
                magazine: place.map(|place| place.magazine.to_string()),
                here: place.is_some_and(|place| place.slot.is_some()),
                volume: drive.volume.map(|name| name.to_string()),
            }
        });
        Ok(described.collect())
    }

    /// Ends the waiting of drives, which would else last until the next poll. A drive whose volume is here gets
    /// it; for a backup any other slot will do when volumes `came`, for the storage daemon then asks the Director
    /// anew.
    pub(crate) fn wake_waiting(&self, console: &Console, came: bool) -> Result<(), RefreshError> {
        let storage = self.config.storage();
        let director = console.run(running::DIRECTOR, self.console_limit(0))?;
        let waiting = self.waits(console, &director)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let known = consistently(|| self.whereabouts(&self.look()?))?;
        let any = known.values().filter_map(|place| place.slot).min();
        for drive in waiting {
            let its_own = drive.volume.as_ref().and_then(|name| known.get(name)?.slot);
            let Some(slot) = its_own.or(any.filter(|_| came && !drive.reading)) else { continue };
            console.run(&dialogue::mount(storage, slot, drive.drive), self.console_limit(1))?;
        }
        Ok(())
    }

    /// Which jobs wait, by the Director's list; only if one does the storage daemon is asked which volumes and drives are
    /// meant, for one that is down takes 15 s to say so.
    fn waits(&self, console: &Console, director: &str) -> Result<Vec<Wait>, ConsoleError> {
        let unconfirmed = |command: &str, output: &str| ConsoleError::Unconfirmed {
            command: command.trim_end().to_owned(),
            output: output.to_owned(),
        };
        let lists = running::lists(director);
        let list = lists.first().ok_or_else(|| unconfirmed(running::DIRECTOR, director))?;
        let waits: BTreeSet<u32> = running::director_jobs(list)
            .iter()
            .filter(|job| job.state == DirectorState::WaitsForVolume)
            .map(|job| job.id)
            .collect();
        if waits.is_empty() {
            return Ok(Vec::new());
        }
        let command = running::storage(self.config.storage());
        let output = console.run(&command, self.console_limit(0))?;
        let lists = running::lists(&output);
        let storage = lists.first().ok_or_else(|| unconfirmed(&command, &output))?;
        let work_dir = self.config.work_dir();
        let real = self.env.path(work_dir).canonicalize().unwrap_or_default();
        let wait = |job: running::StorageJob<'_>| {
            Some(Wait {
                drive: running::drive_of(job.device?, &[work_dir, &real])?,
                job_id: job.id,
                job: job.name.to_owned(),
                volume: job.volume.and_then(|name| VolumeName::new(name).ok()),
                reading: job.reading,
            })
        };
        Ok(running::storage_jobs(storage)
            .into_iter()
            .filter(|job| waits.contains(&job.id))
            .filter_map(wait)
            .collect())
    }

    fn whereabouts(&self, view: &View) -> Result<BTreeMap<VolumeName, Whereabouts>, ChangerError> {
        let mut known: BTreeMap<VolumeName, Whereabouts> = BTreeMap::new();
        for (id, record) in &view.state.magazines {
            let here = view.present.contains(id);
            for (place, volume) in self.store.volumes(id, record)? {
                let slot = model::slot_of(view.state.manner, record, place).filter(|_| here);
                // of two with one name the one that is here counts
                if slot.is_some() || !known.contains_key(&volume.name) {
                    known.insert(volume.name, Whereabouts { magazine: id.clone(), slot });
                }
            }
        }
        Ok(known)
    }
}
