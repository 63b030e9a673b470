//! What Bacula says when it is asked: which jobs wait, how backups ended, which volumes can be written.
//!
//! Nothing here wakes a drive.

use changer_model::{CatalogVolume, ChangerStatus, WaitingDrive};
use jiff::Timestamp;

use super::as_bacula::{Asker, Unknown};
use super::full_disk;
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::protocol::site_status::{BaculaStatus, Wanted};
use crate::records::history::{History, Places};
use crate::site::description::Site;

/// What is known of Bacula.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When it answered, and why it didn't.
    pub bacula: BaculaStatus,
    /// What jobs wait for; none when it did not answer when it was asked last.
    pub waiting: Option<Vec<Wanted>>,
    /// The changer's volumes in the catalog, by the last answer; none before the first.
    pub volumes: Option<Vec<CatalogVolume>>,
}

impl Known {
    /// Takes an answer in, or that there was none; where there is no Bacula to ask nothing is known.
    pub fn update(&mut self, answer: Result<Option<Answer>, Failure>, now: Timestamp) {
        match answer {
            Ok(None) => *self = Self::default(),
            Ok(Some(answer)) => {
                self.bacula = BaculaStatus { answered: Some(now), error: answer.error };
                self.waiting = Some(answer.waiting);
                if answer.volumes.is_some() {
                    self.volumes = answer.volumes;
                }
            }
            Err(failure) => {
                self.bacula.error = Some(failure.message().to_owned());
                self.waiting = None;
            }
        }
    }
}

/// What Bacula said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What jobs wait for.
    pub waiting: Vec<Wanted>,
    /// The changer's volumes in the catalog, where it may be asked for them.
    pub volumes: Option<Vec<CatalogVolume>>,
    /// What it did not say.
    pub error: Option<String>,
}

/// Asks for everything, and takes note of how backups ended; none where there is no changer, or it tells Bacula nothing.
pub fn ask(root: &Root, site: &Site) -> Result<Option<Answer>, Failure> {
    let Some(asker) = Asker::new(root, site) else { return Ok(None) };
    let said = match asker.bacula() {
        Ok(None) => return Ok(None),
        Ok(Some(said)) => said,
        Err(unknown) if unknown.refused => {
            // It may not be asked everything, or its database is down: what waits may be known all the same.
            let error = failed(root, site, &unknown);
            let Ok(waiting) = asker.waiting() else { return Err(error) };
            let error = Some(error.message().to_owned());
            return Ok(Some(Answer { waiting: wanted(site, waiting), volumes: None, error }));
        }
        Err(unknown) => return Err(failed(root, site, &unknown)),
    };
    let mut history = History::load(root);
    let before = history.clone();
    let status = asker.changer().map_err(|unknown| failed(root, site, &unknown))?;
    let lacking = history.lacking(&said.jobs);
    let mut volumes = asker.job_volumes(lacking).map_err(|unknown| failed(root, site, &unknown))?;
    let mut jobs = said.jobs;
    for job in &mut jobs {
        job.volumes = volumes.remove(&job.id).unwrap_or_default();
    }
    history.add(&jobs, &places(&status), site.bacula.pool.name.as_str(), Timestamp::now().as_second());
    history.keep_drives(|fs_uuid| site.magazines.iter().any(|magazine| magazine.fs_uuid.as_str() == fs_uuid));
    if history != before {
        history.store(root)?;
    }
    Ok(Some(Answer { waiting: wanted(site, said.waiting), volumes: Some(said.volumes), error: None }))
}

/// Asks what jobs wait for, and only for a moment.
pub fn ask_quickly(root: &Root, site: &Site) -> Result<Option<Answer>, Failure> {
    let Some(asker) = Asker::new(root, site) else { return Ok(None) };
    let waiting = asker.waiting().map_err(|unknown| failed(root, site, &unknown))?;
    Ok(Some(Answer { waiting: wanted(site, waiting), ..Answer::default() }))
}

fn failed(root: &Root, site: &Site, unknown: &Unknown) -> Failure {
    Failure::because(Exit::Failed, full_disk::explain("Bacula can't be asked", root, site), unknown)
}

fn places(status: &ChangerStatus) -> Places {
    let of = |magazine: &changer_model::MagazineStatus| {
        // UUID:..., or the directory that is called by the UUID
        magazine.id.rsplit(['/', ':']).next().unwrap_or_default().to_owned()
    };
    let volumes = status.magazines.iter().map(|magazine| (of(magazine), &magazine.volumes));
    volumes.flat_map(|(id, volumes)| volumes.iter().map(move |v| (v.label.clone(), id.clone()))).collect()
}

/// What waits, with the stickers of the drives.
fn wanted(site: &Site, waiting: Vec<WaitingDrive>) -> Vec<Wanted> {
    let sticker = |id: &str| {
        let magazine = site.magazines.iter().find(|m| id.ends_with(&m.fs_uuid.to_string()));
        magazine.map(|m| m.name.clone())
    };
    let wanted = waiting.into_iter().map(|drive| Wanted {
        magazine: drive.magazine.as_deref().and_then(sticker),
        volume: drive.volume,
        here: drive.here,
        job: Some(drive.job),
    });
    wanted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_stays_known_while_bacula_is_silent() {
        let mut known = Known::default();
        let (first, later) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        known.update(Ok(Some(Answer { volumes: Some(Vec::new()), ..Answer::default() })), first);
        assert_eq!(known.waiting, Some(Vec::new()));
        known.update(Err(Failure::new(Exit::Failed, "down")), later);
        assert_eq!((known.bacula.answered, known.bacula.error.as_deref()), (Some(first), Some("down")));
        assert_eq!((known.waiting.clone(), known.volumes.clone()), (None, Some(Vec::new())));
        known.update(Ok(None), later);
        assert_eq!(known, Known::default(), "there is no Bacula any more");
    }
}
