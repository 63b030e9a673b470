//! Which backups have ended, and on which volumes they lie, by the Director's own lists.
//!
//! The lists are those of Bacula's `llist jobs` and `list jobmedia` (`dird/ua_output.c`, `cats/sql_list.c`; seen with
//! 9.6.7 on SQLite and on PostgreSQL).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::changer::opened::Changer;
use crate::director::console::ConsoleError;
use crate::director::table::{self, Row, number};

/// The command that lists the last jobs.
pub(crate) const LIST: &str = "llist jobs limit=100 order=desc\n";

/// The `JobStatus` of a job that was cancelled.
const CANCELLED: &str = "A";

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FinishedJob {
    /// Its number in the catalog; an old catalog that was restored hands it out a second time.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `F` full, `D` differential, `I` incremental.
    pub level: String,
    /// When it started, by the Director's clock and time zone, such as `2026-11-24 02:14:19`.
    pub started: String,
    /// When it ended, in seconds since 1970.
    #[serde(default)]
    pub ended: i64,
    /// Whether all of it was saved, warnings included.
    pub well: bool,
    /// The catalog's `JobStatus`: `T` ended well, `W` with warnings, `E`, `e`, `f` and `I` failed, `A` cancelled.
    #[serde(default)]
    pub status: String,
    /// The pool that it was to be written to.
    #[serde(default)]
    pub pool: Option<String>,
    /// The set of files that it saves.
    #[serde(default)]
    pub file_set: Option<String>,
    /// How many files it saved.
    #[serde(default)]
    pub files: u64,
    /// How many bytes it saved.
    #[serde(default)]
    pub bytes: u64,
    /// The volumes it lies on, as far as they were asked for.
    pub volumes: Vec<String>,
}

impl FinishedJob {
    /// Whether it saves the catalog itself, by its set of files, which Bacula's own configuration calls `Catalog` and
    /// ours after the job; by its name where that is not known.
    pub fn saves_catalog(&self) -> bool {
        let what = self.file_set.as_ref().unwrap_or(&self.name);
        what.to_ascii_lowercase().contains("catalog")
    }
}

impl Changer {
    /// Asks the Director on which volumes some jobs lie; a job that is on none is left out. Empty when the console is
    /// switched off or not installed.
    ///
    /// # Errors
    /// [`ConsoleError`] when the Director doesn't answer within the environment's limit.
    pub fn job_volumes(&self, jobs: &[u32]) -> Result<BTreeMap<u32, Vec<String>>, ConsoleError> {
        let Some(console) = self.console().filter(|_| !jobs.is_empty()) else { return Ok(BTreeMap::new()) };
        let mut script = String::new();
        for job in jobs {
            let _ = writeln!(script, "list jobmedia jobid={job}");
        }
        Ok(volumes_by_job(&console.run(&script, self.env.console_limit)?))
    }
}

/// Reads `llist jobs`: the backups that have ended, the oldest first. One that was cancelled because another run of the
/// same job was there counts as none.
pub(crate) fn finished(output: &str) -> Vec<FinishedJob> {
    let records = table::records(output, "jobid");
    let runs: Vec<Run<'_>> = records.iter().filter_map(Run::of).collect();
    let mut jobs: Vec<FinishedJob> =
        runs.iter().filter(|run| !run.is_duplicate(&runs)).filter_map(Run::finished).collect();
    jobs.sort_by_key(|job| (job.ended, job.id));
    jobs
}

/// A backup in the catalog, whether or not it has ended.
struct Run<'a> {
    row: &'a Row<'a>,
    id: u32,
    name: &'a str,
    status: &'a str,
    /// When it was queued, and when it ended, by the Director's clock; the end is empty while it runs.
    queued: &'a str,
    ended: &'a str,
}

impl<'a> Run<'a> {
    fn of(row: &'a Row<'a>) -> Option<Self> {
        let text = |title: &str| row.get(title).copied();
        (text("type")? == "B").then_some(())?;
        let ended = text("endtime").filter(|time| time.starts_with(|c: char| ('1'..='9').contains(&c)));
        Some(Self {
            row,
            id: number(text("jobid")?)?,
            name: text("name")?,
            status: text("jobstatus")?,
            queued: text("schedtime")?,
            ended: ended.unwrap_or_default(),
        })
    }

    /// Whether it was cancelled since another run of the same job was there (`Allow Duplicate Jobs = no`): that one
    /// saves what this one would have.
    fn is_duplicate(&self, runs: &[Self]) -> bool {
        let saved =
            |title: &str| self.row.get(title).and_then(|text| number(text)).is_some_and(|n: u64| n > 0);
        // The times have one form, so their letters have their order.
        let was_there = |other: &Self| {
            other.queued <= self.ended && (other.ended.is_empty() || self.queued <= other.ended)
        };
        let mut rivals = runs.iter().filter(|other| other.name == self.name && other.status != CANCELLED);
        self.status == CANCELLED && !saved("jobfiles") && !saved("jobbytes") && rivals.any(was_there)
    }

    fn finished(&self) -> Option<FinishedJob> {
        let well = match self.status {
            "T" | "W" => true,
            "E" | "e" | "f" | "A" | "I" => false,
            _ => return None,
        };
        let text = |title: &str| self.row.get(title).map(|text| (*text).to_owned());
        let given =
            |title: &str| text(title).filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("null"));
        let count = |title: &str| self.row.get(title).and_then(|text| number(text)).unwrap_or_default();
        Some(FinishedJob {
            id: self.id,
            name: self.name.to_owned(),
            level: text("level")?,
            started: text("starttime")?,
            ended: self.row.get("jobtdate").and_then(|time| number(time))?,
            well,
            status: self.status.to_owned(),
            pool: given("poolname"),
            file_set: given("fileset"),
            files: count("jobfiles"),
            bytes: count("jobbytes"),
            volumes: Vec::new(),
        })
    }
}

pub(crate) fn volumes_by_job(output: &str) -> BTreeMap<u32, Vec<String>> {
    let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for row in table::rows(output) {
        if let (Some(id), Some(volume)) = (row.get("jobid").and_then(|id| number(id)), row.get("volumename"))
        {
            found.entry(id).or_default().insert((*volume).to_owned());
        }
    }
    found.into_iter().map(|(id, volumes)| (id, volumes.into_iter().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: &str = include_str!("../../tests/transcripts/llist_jobs.txt");

    #[test]
    fn only_backups_that_have_ended_count() {
        let jobs = finished(JOBS);
        let told: Vec<_> = jobs.iter().map(|job| (job.id, &*job.name, &*job.status, job.well)).collect();
        let cancelled = |id| (id, "BackupServer", "A", false);
        // 5 and 8 are restores, 10 still waits, and 11 and 12 were cancelled for its sake.
        assert_eq!(
            told,
            [
                (1, "BackupServer", "T", true),
                (2, "BackupCatalog", "T", true),
                (3, "Broken", "E", false),
                cancelled(4),
                cancelled(6),
                cancelled(7),
                cancelled(9)
            ]
        );
        let first = jobs.first().expect("there");
        assert_eq!((first.started.as_str(), first.ended), ("2026-11-29 01:49:12", 1_795_916_953));
        assert_eq!((first.files, first.bytes), (201, 4_000_000));
        assert_eq!((first.pool.as_deref(), first.file_set.as_deref()), (Some("Offsite"), Some("Data")));
    }

    #[test]
    fn postgresql_is_read_as_well() {
        let jobs = finished(include_str!("../../tests/transcripts/llist_jobs_postgresql.txt"));
        let told: Vec<_> = jobs.iter().map(|job| (job.id, job.well, job.ended, job.bytes)).collect();
        assert_eq!(told, [(1, true, 1_795_918_515, 100_000)]);
    }

    #[test]
    fn the_backup_of_the_catalog_is_known_by_what_it_saves() {
        let jobs = finished(JOBS);
        let catalog: Vec<_> = jobs.iter().filter(|job| job.saves_catalog()).map(|job| job.id).collect();
        assert_eq!(catalog, [2]);
        let mut job = jobs.first().expect("there").clone();
        job.name = "Library catalogue".to_owned();
        assert!(!job.saves_catalog(), "its files say what it saves");
        job.file_set = None;
        assert!(job.saves_catalog());
    }

    #[test]
    fn each_job_has_its_volumes() {
        let volumes = volumes_by_job(include_str!("../../tests/transcripts/list_jobmedia.txt"));
        assert_eq!(volumes[&1], ["c0_A_0001", "c0_A_0002", "c0_B_0003"]);
        assert_eq!(volumes[&2], ["c0_A_0002"]);
        assert_eq!(volumes.len(), 2, "a job that failed at once is on none");
    }
}
