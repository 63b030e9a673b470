//! Which backups went well and which failed, by job and by drive: asked of the Director, and kept, so that it can be told
//! while drives are away and the Director is down.
//!
//! Only backups of data count: the catalog's backup runs each night behind them and would hide them.

use std::collections::{BTreeMap, BTreeSet};

use changer_model::FinishedJob;
use serde::{Deserialize, Serialize};

use crate::base::atomic_file;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;

/// The version of the record; one of another version is asked for again.
const VERSION: u32 = 2;

/// Maximum number of jobs that are remembered by name; those that ended first are forgotten.
const MOST_JOBS: usize = 200;

/// Maximum number of volumes that are remembered of the last backup on a drive.
const MOST_VOLUMES: usize = 100;

/// Maximum length of a name in bytes; Bacula's own are shorter.
const LONGEST_NAME: usize = 200;

/// Ends that lie further ahead, in seconds, come of a clock that was wrong.
const DAY: i64 = 86_400;

/// What is known of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    version: u32,
    /// End and number of the last job that was taken note of.
    asked: (i64, u32),
    /// By the jobs' names.
    jobs: BTreeMap<String, Outcomes>,
    /// The last backup on each drive, by the filesystem's UUID.
    drives: BTreeMap<String, FinishedJob>,
}

/// How the runs of one job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// The last run that saved everything.
    pub good: Option<Backup>,
    /// The last run that didn't.
    pub failed: Option<Backup>,
}

/// A backup, and the drives that it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// What the catalog says of it.
    #[serde(flatten)]
    pub job: FinishedJob,
    /// The UUIDs of the drives' filesystems.
    pub drives: BTreeSet<String>,
}

/// On which drive a volume is: the filesystem's UUID by the volume's name.
pub type Places = BTreeMap<String, String>;

impl Default for History {
    fn default() -> Self {
        Self { version: VERSION, asked: (0, 0), jobs: BTreeMap::new(), drives: BTreeMap::new() }
    }
}

impl Outcomes {
    /// The last run, however it ended.
    pub fn last(&self) -> Option<&Backup> {
        self.good.iter().chain(&self.failed).max_by_key(|backup| end(&backup.job))
    }
}

impl History {
    /// Reads what was noted; what can't be read is asked for again.
    pub fn load(root: &Root) -> Self {
        let text = std::fs::read_to_string(root.last_jobs()).unwrap_or_default();
        let read: Option<Self> = serde_json::from_str(&text).ok();
        read.filter(|history| history.version == VERSION).unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    pub fn store(&self, root: &Root) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).or_fail("cannot write JSON")?;
        atomic_file::replace(&root.last_jobs(), 0o644, &text)
    }

    /// The last backup on a drive.
    pub fn on_drive(&self, fs_uuid: &str) -> Option<&FinishedJob> {
        self.drives.get(fs_uuid)
    }

    /// The jobs by their names.
    pub fn jobs(&self) -> &BTreeMap<String, Outcomes> {
        &self.jobs
    }

    /// The numbers of the backups in a list whose volumes have still to be asked for.
    pub fn lacking(&self, jobs: &[FinishedJob]) -> Vec<u32> {
        let fresh = jobs.iter().filter(|job| end(job) > self.asked && !job.saves_catalog());
        fresh.map(|job| job.id).collect()
    }

    /// Takes note of a list of jobs, in which those of [`lacking`](Self::lacking) have their volumes. A backup counts
    /// when it is on a drive of `places`, was meant for `pool`, or is a run of a job that counted before; `now` is in
    /// seconds since 1970.
    pub fn add(&mut self, jobs: &[FinishedJob], places: &Places, pool: &str, now: i64) {
        let ahead = |job: &FinishedJob| job.ended > now + DAY;
        self.asked = if self.asked.0 > now + DAY { (0, 0) } else { self.asked };
        self.drives.retain(|_, job| !ahead(job));
        for outcomes in self.jobs.values_mut() {
            outcomes.good.take_if(|backup| ahead(&backup.job));
            outcomes.failed.take_if(|backup| ahead(&backup.job));
        }
        let before = self.asked;
        for job in jobs.iter().filter(|job| end(job) > before && !ahead(job)) {
            self.asked = self.asked.max(end(job));
            if !job.saves_catalog() && is_sane(job) {
                self.note(job, places, pool);
            }
        }
        self.jobs.retain(|_, outcomes| outcomes.last().is_some());
        while self.jobs.len() > MOST_JOBS {
            let age = |outcomes: &Outcomes| outcomes.last().map(|backup| end(&backup.job));
            let Some(oldest) = self.jobs.iter().min_by_key(|(_, outcomes)| age(outcomes)) else { break };
            let oldest = oldest.0.clone();
            self.jobs.remove(&oldest);
        }
    }

    fn note(&mut self, job: &FinishedJob, places: &Places, pool: &str) {
        let drives: BTreeSet<String> =
            job.volumes.iter().filter_map(|volume| places.get(volume)).cloned().collect();
        if drives.is_empty() && job.pool.as_deref() != Some(pool) && !self.jobs.contains_key(&job.name) {
            return;
        }
        let mut job = job.clone();
        job.volumes.retain(|volume| volume.len() <= LONGEST_NAME);
        job.volumes.truncate(MOST_VOLUMES);
        for drive in &drives {
            let known = self.drives.entry(drive.clone()).or_insert_with(|| job.clone());
            if end(known) < end(&job) {
                known.clone_from(&job);
            }
        }
        let outcomes = self.jobs.entry(job.name.clone()).or_default();
        let outcome = if job.well { &mut outcomes.good } else { &mut outcomes.failed };
        job.volumes.clear(); // by job, the drives say it all
        if outcome.as_ref().is_none_or(|known| end(&known.job) < end(&job)) {
            *outcome = Some(Backup { job, drives });
        }
    }

    /// Forgets drives that are no longer enrolled.
    pub fn keep_drives(&mut self, enrolled: impl Fn(&str) -> bool) {
        self.drives.retain(|fs_uuid, _| enrolled(fs_uuid));
    }
}

/// Whether no text of a job is longer than Bacula's own are.
fn is_sane(job: &FinishedJob) -> bool {
    let texts = [&job.name, &job.level, &job.started, &job.status].into_iter();
    texts.chain(&job.pool).chain(&job.file_set).all(|text| text.len() <= LONGEST_NAME)
}

/// By what jobs are ordered: numbers alone are handed out a second time by a catalog that was restored.
fn end(job: &FinishedJob) -> (i64, u32) {
    (job.ended, job.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 2_000_000;

    /// A backup of a job that ended at some time; a name with `Catalog` saves the catalog.
    fn job(id: u32, name: &str, ended: i64, well: bool, volumes: &[&str]) -> FinishedJob {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": name, "level": "F", "started": "2026-11-24 02:14:19", "ended": ended, "well": well,
            "status": if well { "T" } else { "f" }, "pool": "Offsite", "volumes": volumes,
        }))
        .unwrap()
    }

    fn places() -> Places {
        let places = [("a1", "A"), ("a2", "A"), ("b1", "B")];
        places.into_iter().map(|(volume, drive)| (volume.to_owned(), drive.to_owned())).collect()
    }

    fn with(jobs: &[FinishedJob]) -> History {
        let mut history = History::default();
        history.add(jobs, &places(), "Offsite", NOW);
        history
    }

    fn ids(history: &History, name: &str) -> (Option<u32>, Option<u32>) {
        let outcomes = history.jobs.get(name).cloned().unwrap_or_default();
        (outcomes.good.map(|backup| backup.job.id), outcomes.failed.map(|backup| backup.job.id))
    }

    #[test]
    fn the_catalogs_backup_hides_no_backup_of_data() {
        let history =
            with(&[job(1, "Data", 10, true, &["a1", "b1"]), job(2, "BackupCatalog", 11, true, &["a2"])]);
        assert_eq!(history.on_drive("A").unwrap().id, 1);
        assert_eq!(history.on_drive("B").unwrap().id, 1);
        assert_eq!(history.jobs.len(), 1);
        let drives = &history.jobs["Data"].good.as_ref().unwrap().drives;
        assert_eq!(drives.iter().collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn a_failure_stands_beside_the_last_success_until_a_later_one() {
        let mut history = with(&[job(1, "Data", 10, true, &["a1"]), job(2, "Data", 20, false, &[])]);
        assert_eq!(ids(&history, "Data"), (Some(1), Some(2)));
        assert_eq!(history.jobs["Data"].last().unwrap().job.id, 2, "a job that wrote nothing failed, too");
        assert_eq!(history.on_drive("A").unwrap().id, 1);
        history.add(&[job(3, "Data", 30, true, &["b1"])], &places(), "Offsite", NOW);
        assert_eq!(ids(&history, "Data"), (Some(3), Some(2)));
        assert_eq!(history.jobs["Data"].last().unwrap().job.id, 3);
    }

    #[test]
    fn jobs_are_told_apart_and_others_pools_are_left_alone() {
        let mut tape = job(3, "Tape", 30, true, &["t1"]);
        tape.pool = Some("Tapes".to_owned());
        let mut foreign = job(4, "Mixed", 40, false, &[]);
        foreign.pool = None;
        let jobs =
            [job(1, "Data", 10, true, &["a1"]), job(2, "Home", 20, false, &["a2"]), tape, foreign.clone()];
        let mut history = with(&jobs);
        assert_eq!(ids(&history, "Data"), (Some(1), None));
        assert_eq!(ids(&history, "Home"), (None, Some(2)));
        assert_eq!(history.jobs.len(), 2);
        assert_eq!(history.on_drive("A").unwrap().id, 2, "however it ended, it is on the drive");
        // Once a job has used the drives, its failures count, wherever they were to be written.
        let mut mixed = job(5, "Mixed", 50, true, &["b1"]);
        mixed.pool = None;
        (foreign.id, foreign.ended) = (6, 60);
        history.add(&[mixed, foreign], &places(), "Offsite", NOW);
        assert_eq!(ids(&history, "Mixed"), (Some(5), Some(6)));
    }

    #[test]
    fn only_new_jobs_are_asked_for_their_volumes() {
        let jobs = [job(1, "Data", 10, true, &[]), job(2, "BackupCatalog", 11, true, &[])];
        assert_eq!(History::default().lacking(&jobs), [1]);
        let history = with(&jobs);
        assert!(history.lacking(&jobs).is_empty());
        assert_eq!(history.lacking(&[job(3, "Data", 12, false, &[])]), [3]);
    }

    #[test]
    fn a_restored_catalog_counts_jobs_from_the_start_again() {
        let mut history = with(&[job(900, "Data", 10, true, &["a1"])]);
        history.add(&[job(1, "Data", 20, true, &["b1"])], &places(), "Offsite", NOW);
        assert_eq!(ids(&history, "Data"), (Some(1), None));
    }

    #[test]
    fn a_clock_that_was_ahead_hides_nothing_for_ever() {
        let mut history = with(&[job(1, "Data", NOW + 60, true, &["a1"])]);
        let early = NOW - 10 * DAY;
        history.add(&[job(2, "Data", early - 5, true, &["b1"])], &places(), "Offsite", early);
        assert_eq!(ids(&history, "Data"), (Some(2), None));
        assert!(history.on_drive("A").is_none());
    }

    #[test]
    fn the_record_is_bounded_and_outlives_the_process() {
        let many: Vec<_> = (0..300).map(|n| job(n, &format!("J{n}"), i64::from(n), true, &["a1"])).collect();
        let mut history = with(&many);
        assert_eq!(history.jobs.len(), MOST_JOBS);
        assert!(history.jobs.contains_key("J299") && !history.jobs.contains_key("J0"));
        history.keep_drives(|drive| drive == "B");
        assert!(history.drives.is_empty());

        history.add(&[job(400, &"J".repeat(1 << 20), 400, true, &["a1"])], &places(), "Offsite", NOW);
        assert!(history.drives.is_empty() && history.jobs.len() == MOST_JOBS, "Bacula has no such name");

        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.state_dir()).unwrap();
        assert_eq!(History::load(&root), History::default());
        history.store(&root).unwrap();
        assert_eq!(History::load(&root), history);
        std::fs::write(root.last_jobs(), r#"{"asked":7,"last":{}}"#).unwrap();
        assert_eq!(History::load(&root), History::default(), "an older form is asked for again");
    }
}
