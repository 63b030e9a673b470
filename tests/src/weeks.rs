//! Weeks of swaps with a real Bacula: four drives take turns in one dock, jobs run, restores ask for drives.
//!
//! Days go by in the catalog alone. The people are as people are: in one week nobody comes, in another they bring the
//! wrong drive; a backup suddenly doesn't fit; the Director is down during a swap; the telling is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bacula_conf::{Period, Size};
use tempfile::TempDir;

use crate::bacula::{Bacula, Database, Dock, JobId, JobResult, Volume};

/// Which drive is in the dock in which week: B stays over a holiday, and the second time C comes too early.
const ROTATION: [&str; 12] = ["A", "B", "C", "D", "A", "B", "B", "C", "D", "A", "C", "D"];
const NAMES: [&str; 4] = ["A", "B", "C", "D"];
const VOLUMES: u32 = 12;
/// The backup of this week is larger than a drive.
const LARGE_WEEK: u32 = 9;
/// The Director is down when the drives are swapped.
const DIRECTOR_DOWN: u32 = 2;
/// The telling is killed after so many milliseconds, and done again.
const KILLED: [(u32, u64); 4] = [(3, 60), (5, 150), (7, 250), (10, 400)];
/// Something is restored at the end of these weeks.
const RESTORES: [u32; 3] = [3, 7, 11];

const LIMIT: Duration = Duration::from_mins(3);

/// How Bacula is set up and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As this product does it.
    Told,
    /// By the tutorial: four weeks of retention, and nothing but `update slots` before the jobs.
    Tutorial,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Simulated weeks.
    pub weeks: u32,
    /// Backup jobs that ran.
    pub jobs: u32,
    /// Of these, jobs that wrote to a volume that was away, or waited for one.
    pub jobs_on_absent: u32,
    /// Of these, jobs that found no room on the drive in the dock, and asked for any volume.
    pub without_room: u32,
    /// Volumes that were recycled or pruned while they were away.
    pub lost_while_absent: u32,
    /// Of these, volumes whose retention was not over.
    pub lost_within_retention: u32,
    /// Volumes that are away and could be chosen, counted each week.
    pub open_and_absent: u32,
    /// Restores that were tried.
    pub restores: u32,
    /// Of these, restores that gave back the same bytes.
    pub identical: u32,
    /// Drives that had to be brought for them.
    pub brought: u32,
    /// Of these, drives that were asked for by a volume's name.
    pub named: u32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("weeks", self.weeks),
            ("backup jobs", self.jobs),
            ("jobs started on an absent volume", self.jobs_on_absent),
            ("jobs without room, asking for any volume", self.without_room),
            ("absent volumes recycled or pruned", self.lost_while_absent),
            ("  of them within retention", self.lost_within_retention),
            ("absent volumes found open at a week's end", self.open_and_absent),
            ("restores", self.restores),
            ("  byte-identical", self.identical),
            ("drives brought for restores", self.brought),
            ("  asked for by name", self.named),
        ];
        lines.iter().try_for_each(|(what, count)| writeln!(f, "{what:44} {count:5}"))
    }
}

/// Lives through up to twelve weeks.
///
/// # Errors
/// A daemon fails, or something takes longer than it may; what Bacula does wrong is counted instead.
pub fn live(manner: Manner, database: Database, weeks: u32) -> Result<Outcome> {
    let tree = TempDir::new()?;
    let (dock, mut plan) = Dock::plan(&NAMES, [tree.path()])?;
    plan.database = database;
    plan.settings.pool.maximum_volume_bytes = Size::bytes(1_000_000);
    plan.settings.pool.retention = match manner {
        Manner::Told => Period::weeks(5),
        Manner::Tutorial => Period::weeks(4),
    };
    let retention = if manner == Manner::Told { 35 } else { 28 };
    let bacula = Bacula::start(plan)?;
    let dock = dock.with(&bacula)?;
    let mut life =
        Life { bacula, dock, tree, manner, retention, saved: Files::new(), outcome: Outcome::default() };
    life.furnish()?;
    for (week, docked) in (0..weeks).zip(ROTATION) {
        life.week(week, docked).with_context(|| format!("week {week}"))?;
    }
    let Life { bacula, dock, outcome, .. } = life;
    bacula.stop()?;
    dock.close()?;
    Ok(outcome)
}

struct Life {
    bacula: Bacula,
    dock: Dock,
    tree: TempDir,
    manner: Manner,
    /// In days.
    retention: i64,
    /// What the last good backup saved.
    saved: Files,
    outcome: Outcome,
}

/// A directory's files and what they hold.
type Files = BTreeMap<OsString, Vec<u8>>;

/// What the catalog says of a volume, and which jobs are on it.
type Books = BTreeMap<String, (Volume, BTreeSet<u64>)>;

impl Life {
    /// Labels all volumes, each drive in its turn, and leaves the dock empty.
    fn furnish(&mut self) -> Result<()> {
        for name in NAMES {
            self.dock.plug(name)?;
            self.dock.make_volumes(name, VOLUMES)?;
            self.dock.pull(name)?;
            self.dock.refresh()?;
        }
        if self.manner == Manner::Tutorial {
            self.forget_all_but_slots()?;
        }
        Ok(())
    }

    /// The tutorial's changer tells nothing, and its volumes were never closed.
    fn forget_all_but_slots(&self) -> Result<()> {
        let config = fs::read_to_string(self.dock.config())?;
        let lines = config.lines().map(|line| match line.split_once('=') {
            Some((key, _)) if key.trim() == "bconsole" => "bconsole = \"\"",
            _ => line,
        });
        fs::write(self.dock.config(), lines.collect::<Vec<_>>().join("\n") + "\n")?;
        for volume in self.bacula.volumes()? {
            self.bacula.console(&format!("update volume={} volstatus=Append", volume.name))?;
        }
        Ok(())
    }

    fn docked(&self) -> Option<&'static str> {
        NAMES.into_iter().find(|name| self.dock.is_plugged(name))
    }

    fn week(&mut self, week: u32, docked: &str) -> Result<()> {
        self.outcome.weeks += 1;
        let down = self.manner == Manner::Told && week == DIRECTOR_DOWN;
        if down {
            self.bacula.kill_director()?;
        }
        self.swap(docked)?;
        if down {
            ensure!(self.dock.refresh().is_err(), "Bacula was told without a Director");
            self.bacula.start_director()?;
        }
        if let Some((_, after)) = KILLED.iter().find(|(at, _)| *at == week && self.manner == Manner::Told) {
            self.dock.refresh_killed_after(Duration::from_millis(*after))?;
        }
        self.tell()?;
        for day in 0..3 {
            let level = if week.is_multiple_of(2) && day == 0 { "Full" } else { "Incremental" };
            self.work(week, day)?;
            self.back_up(level, docked)?;
            self.bacula.let_days_pass(2)?;
        }
        self.bacula.let_days_pass(1)?;
        let away = |volume: &&Volume| Dock::drive_of(&volume.name) != Some(docked);
        let open = ["Append", "Full", "Used", "Recycle", "Purged"];
        let volumes = self.bacula.volumes()?;
        let found = volumes.iter().filter(away).filter(|v| open.contains(&v.status.as_str())).count();
        self.outcome.open_and_absent += u32::try_from(found)?;
        if RESTORES.contains(&week) {
            self.restore(docked)?;
        }
        Ok(())
    }

    fn swap(&self, docked: &str) -> Result<()> {
        if let Some(before) = self.docked().filter(|before| *before != docked) {
            self.dock.pull(before)?;
        }
        if !self.dock.is_plugged(docked) {
            self.dock.plug(docked)?;
        }
        Ok(())
    }

    /// What happens after a swap without anybody's doing.
    fn tell(&self) -> Result<()> {
        match self.manner {
            Manner::Told => self.dock.refresh(),
            Manner::Tutorial => self.bacula.update_slots().map(drop),
        }
    }

    /// People work: a few files change every day.
    fn work(&self, week: u32, day: u32) -> Result<()> {
        let noise = |seed: u32, bytes: u32| -> Vec<u8> {
            let word = |n: u32| (n ^ seed.rotate_left(20)).wrapping_mul(2_654_435_761).to_le_bytes();
            (0..bytes / 4).flat_map(word).collect()
        };
        let at = self.tree.path();
        fs::write(at.join("base"), noise(week / 2, 900_000))?;
        fs::write(at.join(format!("day{day}")), noise(week * 3 + day, 150_000))?;
        fs::write(at.join("note"), format!("week {week}, day {day}\n"))?;
        let large = at.join("large");
        if week == LARGE_WEEK && day == 0 {
            fs::write(large, noise(week, 13_500_000))?;
        } else if large.exists() {
            fs::remove_file(large)?;
        }
        Ok(())
    }

    fn back_up(&mut self, level: &str, docked: &str) -> Result<()> {
        let before = self.books()?;
        let job = self.bacula.run_backup(level)?;
        self.outcome.jobs += 1;
        let asked = match self.ended_or_asked(job)? {
            Ok(job) => {
                ensure!(job.is_ok(), "{job:?}");
                None
            }
            Err(question) => {
                self.bacula.cancel(job)?;
                Some(question)
            }
        };
        let after = self.books()?;
        let is_away = |name: &str| Dock::drive_of(name) != Some(docked);
        let wrote = after.iter().any(|(name, (_, jobs))| is_away(name) && jobs.contains(&job.0));
        let asked_for_absent = asked.as_ref().is_some_and(|question| {
            after.keys().any(|name| is_away(name) && question.contains(&format!("\"{name}\"")))
        });
        self.outcome.jobs_on_absent += u32::from(wrote || asked_for_absent);
        self.outcome.without_room += u32::from(asked.is_some() && !asked_for_absent);
        if asked.is_none() {
            self.saved = content(self.tree.path())?;
        }
        for (name, (volume, jobs)) in before.iter().filter(|(name, _)| is_away(name)) {
            let Some((now, jobs_now)) = after.get(name) else { bail!("volume {name} left the catalog") };
            let freed = |v: &Volume| v.status == "Recycle" || v.status == "Purged";
            if !jobs.is_subset(jobs_now) || freed(now) && !freed(volume) {
                self.outcome.lost_while_absent += 1;
                self.outcome.lost_within_retention += u32::from(age(volume)? < self.retention);
            }
        }
        Ok(())
    }

    /// A backup that nothing is left for asks for a volume; the end of its messages tells which.
    fn ended_or_asked(&self, job: JobId) -> Result<std::result::Result<JobResult, String>> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let result = self.bacula.job(job)?.context("the job")?;
            if result.has_ended() {
                return Ok(Ok(result));
            }
            for question in ["Please mount", "Cannot find any appendable volumes"] {
                if let Some((_, asked)) = result.log.split_once(question) {
                    return Ok(Err(asked.to_owned()));
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("job {} neither ended nor asked for a volume", job.0)
    }

    fn books(&self) -> Result<Books> {
        #[derive(serde::Deserialize)]
        struct Row {
            volume: String,
            job: u64,
        }
        let volumes = self.bacula.volumes()?.into_iter().map(|v| (v.name.clone(), (v, BTreeSet::new())));
        let mut books: Books = volumes.collect();
        let rows: Vec<Row> = self
            .bacula
            .query("SELECT VolumeName AS volume, JobId AS job FROM JobMedia JOIN Media USING (MediaId)")?;
        for Row { volume, job } in rows {
            if let Some((_, jobs)) = books.get_mut(&volume) {
                jobs.insert(job);
            }
        }
        Ok(books)
    }

    /// Restores the newest state, with the week's drive in the dock, and brings what is asked for.
    fn restore(&mut self, docked: &str) -> Result<()> {
        self.outcome.restores += 1;
        let target = TempDir::new()?;
        let job = self.bacula.restore(target.path())?;
        let mut brought_for = None;
        let deadline = Instant::now() + LIMIT;
        let ended = loop {
            let state = self.bacula.job(job)?.context("the restore")?;
            if state.has_ended() {
                break state;
            }
            if Instant::now() > deadline {
                break self.bacula.cancel(job)?;
            }
            let asked = self.bacula.asked_for()?.filter(|volume| brought_for.as_ref() != Some(volume));
            let Some(volume) = asked else {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            let drive = Dock::drive_of(&volume).context("a drive in the volume's name")?.to_owned();
            self.outcome.brought += 1;
            self.outcome.named += u32::from(NAMES.contains(&drive.as_str()) && !self.dock.is_plugged(&drive));
            self.swap(&drive)?;
            self.tell()?;
            if self.manner == Manner::Tutorial {
                let slot = self.bacula.volumes()?.iter().find(|v| v.name == volume).map_or(0, |v| v.slot);
                self.bacula.console(&format!("mount storage=c0 slot={slot} drive=0"))?;
            }
            brought_for = Some(volume);
        };
        let below = target.path().join(self.tree.path().strip_prefix("/")?);
        let identical = ended.is_ok() && content(&below)? == self.saved;
        if !identical {
            eprintln!("the restore ended with {}: {}", ended.status, ended.log);
        }
        self.outcome.identical += u32::from(identical);
        self.swap(docked)?;
        self.tell()
    }
}

/// For how many days nothing was written to a volume.
fn age(volume: &Volume) -> Result<i64> {
    let Some(written) = &volume.last_written else { return Ok(i64::MAX) };
    let written: jiff::civil::DateTime = written.replace('T', " ").parse()?;
    let since = jiff::Zoned::now().datetime().duration_since(written);
    Ok(since.as_hours() / 24)
}

/// A directory's files.
fn content(directory: &Path) -> Result<Files> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        files.insert(entry.file_name(), fs::read(entry.path())?);
    }
    Ok(files)
}
