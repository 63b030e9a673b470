//! Which backups lie on which volumes, by the Director's own lists.
//!
//! The tables are those of Bacula's `list jobs` and `list jobmedia` (`dird/ua_output.c`, `cats/sql_list.c`; seen with
//! 9.6.7).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::changer::Changer;
use crate::console::ConsoleError;

/// The most jobs that are asked for at a time.
const MOST_JOBS: usize = 100;

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FinishedJob {
    /// Its number in the catalog.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `F` full, `D` differential, `I` incremental.
    pub level: String,
    /// When it started, by the Director's clock and time zone, such as `2026-11-24 02:14:19`.
    pub started: String,
    /// Whether all of it was saved, warnings included.
    pub well: bool,
    /// The volumes it lies on.
    pub volumes: Vec<String>,
}

impl Changer {
    /// Asks the Director for the backups numbered above `after` that have ended, the oldest first; of many
    /// only the last hundred. None when the console is switched off or not installed.
    ///
    /// # Errors
    /// [`ConsoleError`] when the Director doesn't answer within the environment's limit.
    pub fn finished_jobs(&self, after: u32) -> Result<Option<Vec<FinishedJob>>, ConsoleError> {
        let Some(console) = self.console() else { return Ok(None) };
        let command = format!("list jobs limit={MOST_JOBS} order=desc\n");
        let mut jobs = finished(&console.run(&command, self.env.console_limit)?);
        jobs.retain(|job| job.id > after);
        jobs.sort_by_key(|job| job.id);
        if jobs.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut script = String::new();
        for job in &jobs {
            let _ = writeln!(script, "list jobmedia jobid={}", job.id);
        }
        let mut volumes = volumes_by_job(&console.run(&script, self.env.console_limit)?);
        for job in &mut jobs {
            job.volumes = volumes.remove(&job.id).unwrap_or_default();
        }
        Ok(Some(jobs))
    }
}

pub(crate) fn finished(output: &str) -> Vec<FinishedJob> {
    let backup = |row: BTreeMap<&str, &str>| {
        let well = match *row.get("JobStatus")? {
            "T" | "W" => true,
            "E" | "e" | "f" | "A" => false,
            _ => return None,
        };
        (*row.get("Type")? == "B").then_some(())?;
        let text = |column: &str| row.get(column).map(|text| (*text).to_owned());
        let (name, level, started) = (text("Name")?, text("Level")?, text("StartTime")?);
        Some(FinishedJob { id: number(row.get("JobId")?)?, name, level, started, well, volumes: Vec::new() })
    };
    rows(output).into_iter().filter_map(backup).collect()
}

pub(crate) fn volumes_by_job(output: &str) -> BTreeMap<u32, Vec<String>> {
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in rows(output) {
        if let (Some(id), Some(volume)) = (row.get("JobId").and_then(|id| number(id)), row.get("VolumeName"))
        {
            found.entry(id).or_default().push((*volume).to_owned());
        }
    }
    found
}

/// Bacula writes large numbers with commas.
fn number(text: &str) -> Option<u32> {
    text.replace(',', "").parse().ok()
}

/// The rows of all tables, by the names of their columns.
fn rows(output: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut rows = Vec::new();
    let mut heads: Vec<&str> = Vec::new();
    let mut borders = 0;
    for line in output.lines() {
        if line.starts_with("+-") {
            borders = if borders == 2 { 0 } else { borders + 1 };
            continue;
        }
        let Some(inside) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            borders = 0;
            continue;
        };
        let cells: Vec<&str> = inside.split('|').map(str::trim).collect();
        if borders == 1 {
            heads = cells;
        } else if cells.len() == heads.len() {
            rows.push(heads.iter().copied().zip(cells).collect());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: &str = "\
list jobs limit=100 order=desc
Automatically selected Catalog: MyCatalog
Using Catalog \"MyCatalog\"
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
| JobId | Name         | StartTime           | Type | Level | JobFiles | JobBytes  | JobStatus |
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
| 1,004 | BackupServer | 2026-11-24 02:20:19 | B    | I     | 0        | 0         | R         |
| 1,003 | BackupServer | 2026-11-24 02:17:19 | B    | I     | 0        | 0         | f         |
| 1,002 | RestoreFiles | 2026-11-24 02:16:19 | R    | F     | 201      | 838860800 | T         |
| 1     | BackupServer | 2026-11-24 02:14:19 | B    | F     | 201      | 838860800 | T         |
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
You have messages.
";

    const MEDIA: &str = "\
list jobmedia jobid=1
+-------+------------+------------+-----------+
| JobId | VolumeName | FirstIndex | LastIndex |
+-------+------------+------------+-----------+
| 1     | vol1       | 1          | 120       |
| 1     | vol2       | 120        | 201       |
+-------+------------+------------+-----------+
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
| JobId | Name         | StartTime           | Type | Level | JobFiles | JobBytes  | JobStatus |
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
| 1     | BackupServer | 2026-11-24 02:14:19 | B    | F     | 201      | 838860800 | T         |
+-------+--------------+---------------------+------+-------+----------+-----------+-----------+
list jobmedia jobid=1003
No results to list.
";

    #[test]
    fn only_backups_that_have_ended_count() {
        let jobs = finished(JOBS);
        let told: Vec<_> = jobs.iter().map(|job| (job.id, &*job.level, job.well)).collect();
        assert_eq!(told, [(1003, "I", false), (1, "F", true)]);
        assert_eq!(jobs.first().map(|job| &*job.started), Some("2026-11-24 02:17:19"));
        assert!(finished("You are not authorized").is_empty());
    }

    #[test]
    fn each_job_has_its_volumes() {
        let volumes = volumes_by_job(MEDIA);
        assert_eq!(volumes.get(&1), Some(&vec!["vol1".to_owned(), "vol2".to_owned()]));
        assert_eq!(volumes.len(), 1);
    }
}
