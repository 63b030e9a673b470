//! Nights without a drive, with the real daemons: the jobs of the first night wait, those of the others don't pile up
//! behind them, and at the plug each runs once.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bacula_conf::{BackupJob, Name};
use offsite_tests::bacula::{Bacula, Dock, JobId};
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(5);
const NIGHTS: usize = 3;

fn main() {
    let tests: [Test; 1] = [("three_nights_and_one_plug", three_nights)];
    trials::run(Dock::lacking().as_deref(), None, tests);
}

fn run(bacula: &Bacula, job: &str, level: &str) -> Result<JobId> {
    let answer = bacula.console(&format!("run job={job}{level} yes"))?;
    let id = answer.split_once("JobId=").map_or("", |(_, rest)| rest);
    let digits: String = id.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map(JobId).with_context(|| format!("{job}: {answer}"))
}

fn three_nights() -> Result<()> {
    let tree = TempDir::new()?;
    fs::write(tree.path().join("file"), "one")?;
    let (dock, mut plan) = Dock::plan(&["A"], [tree.path()])?;
    // As the catalog's backup does, it runs after the others.
    let after = BackupJob {
        name: Name::new("After")?,
        priority: 11,
        ..plan.settings.jobs.first().context("a job")?.clone()
    };
    plan.settings.jobs.push(after);
    let bacula = Bacula::start(plan)?;
    let dock = dock.with(&bacula)?;
    dock.plug("A")?;
    dock.make_volumes("A", 3)?;
    dock.refresh()?;
    let jobs: Vec<String> = bacula.settings().jobs.iter().map(|job| job.name.to_string()).collect();
    for job in &jobs {
        let full = bacula.wait_job(run(&bacula, job, " level=Full")?)?;
        ensure!(full.is_ok(), "{full:?}");
    }
    dock.pull("A")?;
    dock.refresh()?;

    let admin = bacula.settings().update_slots.name.to_string();
    let mut queued: BTreeMap<String, Vec<JobId>> = BTreeMap::new();
    for night in 0..NIGHTS {
        fs::write(tree.path().join(format!("night-{night}")), "more")?;
        queued.entry(admin.clone()).or_default().push(run(&bacula, &admin, "")?);
        for job in &jobs {
            queued.entry(job.clone()).or_default().push(run(&bacula, job, " level=Incremental")?);
        }
    }
    // What is too much is told at once, and not when the drive comes.
    for (job, ids) in &queued {
        for id in ids.iter().skip(1).filter(|_| *job != admin) {
            let ended = bacula.wait_job_for(*id, LIMIT)?;
            ensure!(
                ended.status == "A" && ended.log.contains("Duplicate job not allowed"),
                "{job}: {ended:?}"
            );
        }
    }
    for job in &jobs {
        let first = queued.get(job).and_then(|ids| ids.first()).context("a job")?;
        ensure!(!bacula.job(*first)?.context("the job")?.has_ended(), "{job} doesn't wait for its drive");
    }

    dock.plug("A")?;
    let end = Instant::now() + LIMIT;
    loop {
        dock.refresh()?;
        let mut waiting = 0;
        for id in queued.values().flatten() {
            waiting += usize::from(!bacula.job(*id)?.context("the job")?.has_ended());
        }
        if waiting == 0 {
            break;
        }
        ensure!(Instant::now() < end, "{waiting} jobs wait: {}", bacula.console("status dir")?);
        std::thread::sleep(Duration::from_millis(500));
    }
    for job in &jobs {
        let mut well = 0;
        for id in queued.get(job).context("a job")? {
            let ended = bacula.job(*id)?.context("the job")?;
            well += usize::from(ended.is_ok());
            ensure!(ended.level != "F", "{job} became a Full: {ended:?}");
        }
        ensure!(well == 1, "{job} ran {well} times");
    }
    bacula.stop()?;
    dock.close()
}
