//! Twelve weeks of six drives that take turns, with the real Director and a backup that suddenly doesn't fit.
//!
//! With what `root_catalog_truth` found out, no job ever asks for a volume in the safe, and the catalog keeps what is
//! on it. With the tutorial's settings, where only the slots are updated, the same backup waits for the safe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bacula_conf::{Period, Size};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::geteuid;
use offsite_tests::bacula::{Bacula, DiskChanger, JobId, JobResult, Plan, missing_program};
use tempfile::TempDir;

const DRIVES: u32 = 6;
const VOLUMES: u32 = 4;
/// A usual week's backup needs two volumes of 1 MB.
const USUAL: u32 = 1_500_000;
/// In one week five volumes would be needed, one more than a drive has.
const LARGE: u32 = 4_500_000;
const LARGE_WEEK: u32 = 8;

fn main() {
    let arguments = Arguments::from_args();
    let changer = Path::new(DiskChanger::PROGRAM);
    let missing = missing_program().or_else(|| (!changer.exists()).then_some(changer));
    let reason = missing
        .map(|path| format!("no {} here", path.display()))
        .or_else(|| (!geteuid().is_root()).then(|| "needs root".to_owned()));
    let trials = [
        Trial::test("shelved_drives_are_left_alone", || told(shelved_drives_are_left_alone())),
        Trial::test("baseline_the_tutorials_job_waits_for_the_safe", || {
            told(baseline_the_tutorials_job_waits_for_the_safe())
        }),
    ]
    .map(|trial| match &reason {
        Some(reason) => trial.with_kind(reason.clone()).with_ignored_flag(true),
        None => trial,
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn told(result: anyhow::Result<()>) -> Result<(), Failed> {
    result.map_err(|error| Failed::from(format!("{error:?}")))
}

struct Story<'b> {
    bacula: &'b Bacula,
    changer: DiskChanger<'b>,
    tree: &'b Path,
    /// Statuses of the volumes in the safe before they were shelved; `None` where the catalog isn't told.
    shelved: Option<BTreeMap<String, String>>,
}

fn slots(drive: u32) -> Vec<u32> {
    (drive * VOLUMES + 1..=(drive + 1) * VOLUMES).collect()
}

fn names(drive: u32) -> BTreeSet<String> {
    slots(drive).into_iter().map(|slot| format!("vol{slot}")).collect()
}

/// Incompressible content of some size, another one each week.
fn fill(tree: &Path, week: u32, bytes: u32) -> anyhow::Result<()> {
    let word = |number: u32| (number ^ week.rotate_left(20)).wrapping_mul(2_654_435_761).to_le_bytes();
    Ok(fs::write(tree.join("data"), (0..bytes / 4).flat_map(word).collect::<Vec<u8>>())?)
}

fn start(tree: &Path, retention: Period) -> anyhow::Result<Bacula> {
    let mut plan = Plan::new(DiskChanger::PROGRAM, ["/mnt"], [tree]);
    plan.settings.pool.maximum_volume_bytes = Size::bytes(1_000_000);
    plan.settings.pool.retention = retention;
    Bacula::start(plan)
}

impl<'b> Story<'b> {
    fn new(bacula: &'b Bacula, tree: &'b Path, shelve: bool) -> anyhow::Result<Self> {
        let changer = DiskChanger::new(bacula, DRIVES * VOLUMES)?;
        for drive in 1..DRIVES {
            changer.take_out(&slots(drive))?;
        }
        Ok(Self { bacula, changer, tree, shelved: shelve.then(BTreeMap::new) })
    }

    /// The week begins: another drive is plugged, and the catalog is told.
    fn swap(&mut self, week: u32) -> anyhow::Result<()> {
        let drive = week % DRIVES;
        if week > 0 {
            let before = (week - 1) % DRIVES;
            self.changer.take_out(&slots(before))?;
            self.changer.put_back(&slots(drive))?;
            self.shelve(before)?;
        }
        self.bacula.update_slots()?;
        self.unshelve(drive)?;
        if week < DRIVES {
            self.bacula.label_volumes()?;
        }
        Ok(())
    }

    fn shelve(&mut self, drive: u32) -> anyhow::Result<()> {
        let Some(shelved) = &mut self.shelved else { return Ok(()) };
        for volume in self.bacula.volumes()?.into_iter().filter(|volume| names(drive).contains(&volume.name))
        {
            set_status(self.bacula, &volume.name, "Read-Only")?;
            shelved.insert(volume.name, volume.status);
        }
        Ok(())
    }

    fn unshelve(&mut self, drive: u32) -> anyhow::Result<()> {
        let Some(shelved) = &mut self.shelved else { return Ok(()) };
        for name in names(drive) {
            if let Some(status) = shelved.remove(&name) {
                set_status(self.bacula, &name, &status)?;
            }
        }
        Ok(())
    }

    /// Runs the week's full backup; `None` when it asks for a volume, and then what it asked.
    fn back_up(&self, week: u32) -> anyhow::Result<Result<JobResult, String>> {
        fill(self.tree, week, if week == LARGE_WEEK { LARGE } else { USUAL })?;
        let job = self.bacula.run_backup("Full")?;
        let outcome = self.ended_or_asked(job)?;
        if outcome.is_err() {
            self.bacula.cancel(job)?;
        }
        Ok(outcome)
    }

    fn ended_or_asked(&self, job: JobId) -> anyhow::Result<Result<JobResult, String>> {
        let deadline = Instant::now() + Duration::from_mins(1);
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

    /// For each volume in the safe, the jobs that the catalog knows to be on it.
    fn jobs_in_the_safe(&self, docked: u32) -> anyhow::Result<BTreeMap<String, BTreeSet<u64>>> {
        #[derive(serde::Deserialize)]
        struct Row {
            volume: String,
            job: u64,
        }
        let rows: Vec<Row> = self
            .bacula
            .query("SELECT VolumeName AS volume, JobId AS job FROM JobMedia JOIN Media USING (MediaId)")?;
        let docked = names(docked);
        let mut jobs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for Row { volume, job } in rows.into_iter().filter(|row| !docked.contains(&row.volume)) {
            jobs.entry(volume).or_default().insert(job);
        }
        Ok(jobs)
    }
}

fn set_status(bacula: &Bacula, name: &str, status: &str) -> anyhow::Result<()> {
    let answer = bacula.changer_console(&format!("update volume={name} volstatus={status}"))?;
    ensure!(answer.contains(&format!("New Volume status is: {status}")), "{answer}");
    Ok(())
}

fn asks_for_the_safe(question: &str, docked: u32) -> bool {
    (0..DRIVES)
        .filter(|drive| *drive != docked)
        .flat_map(names)
        .any(|name| question.contains(&format!("\"{name}\"")))
}

fn shelved_drives_are_left_alone() -> anyhow::Result<()> {
    let tree = TempDir::new()?;
    let bacula = start(tree.path(), Period::weeks(7))?;
    let mut story = Story::new(&bacula, tree.path(), true)?;
    for week in 0..12 {
        let docked = week % DRIVES;
        story.swap(week)?;
        let before = story.jobs_in_the_safe(docked)?;
        match story.back_up(week)? {
            Ok(job) => ensure!(job.is_ok() && week != LARGE_WEEK, "week {week}: {job:?}"),
            Err(question) => {
                ensure!(
                    week == LARGE_WEEK && !asks_for_the_safe(&question, docked),
                    "week {week}: {question}"
                );
            }
        }
        let after = story.jobs_in_the_safe(docked)?;
        ensure!(
            before == after,
            "week {week}: the catalog lost or gained jobs in the safe: {before:?} {after:?}"
        );
        bacula.let_days_pass(7)?;
    }
    let target = TempDir::new()?;
    let restored = bacula.wait_job(bacula.restore(target.path())?)?;
    ensure!(restored.is_ok(), "{restored:?}");
    let below = target.path().join(tree.path().strip_prefix("/")?);
    ensure!(
        fs::read(below.join("data"))? == fs::read(tree.path().join("data"))?,
        "the restored file differs"
    );
    bacula.stop()
}

fn baseline_the_tutorials_job_waits_for_the_safe() -> anyhow::Result<()> {
    let tree = TempDir::new()?;
    let bacula = start(tree.path(), Period::weeks(4))?;
    let mut story = Story::new(&bacula, tree.path(), false)?;
    for week in 0..=LARGE_WEEK {
        let docked = week % DRIVES;
        story.swap(week)?;
        let outcome = story.back_up(week)?;
        if week == LARGE_WEEK {
            let question = outcome.err().context("the large backup found room")?;
            ensure!(asks_for_the_safe(&question, docked), "{question}");
        } else {
            ensure!(outcome.as_ref().is_ok_and(JobResult::is_ok), "week {week}: {outcome:?}");
        }
        bacula.let_days_pass(7)?;
    }
    bacula.stop()
}
