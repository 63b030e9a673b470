//! Nights without a drive, with the real daemons: one run of each job waits, the others don't pile up behind it, and at
//! the plug each runs once. A job that a pull broke is run again, once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bacula_conf::{BackupJob, Name, Period};
use offsite_tests::bacula::{Bacula, Dock, JobId, JobResult};
use offsite_tests::programs;
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(5);
const NIGHTS: usize = 3;

fn main() {
    let tests: [Test; 3] = [
        ("three_nights_and_one_plug", three_nights),
        ("a_job_that_a_pull_broke_is_run_again_once", broken_by_a_pull),
        ("a_job_whose_drive_was_pulled_in_mid_volume_does_not_go_on_elsewhere", pulled_in_mid_volume),
    ];
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
    // What is too much ends at once, and not when the drive comes; one run of each job is left.
    for job in &jobs {
        let ids = queued.get(job).context("a job")?;
        let end = Instant::now() + LIMIT;
        loop {
            let states =
                ids.iter().map(|id| bacula.job(*id)?.context("the job")).collect::<Result<Vec<_>>>()?;
            let (ended, waiting): (Vec<_>, Vec<_>) = states.into_iter().partition(JobResult::has_ended);
            ensure!(ended.iter().all(|state| state.status == "A"), "{job}: {ended:?}");
            ensure!(!waiting.is_empty(), "{job} doesn't wait for its drive: {ended:?}");
            if waiting.len() == 1 {
                break;
            }
            ensure!(Instant::now() < end, "{job} piles up: {waiting:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
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

/// A changer that stops in a `load` while the file `armed` is there, until the file `go` is.
fn stopping_changer(gate: &Path) -> Result<tempfile::TempPath> {
    let wrapper = tempfile::NamedTempFile::with_prefix("changer-")?;
    let script = format!(
        "#!/bin/sh\ncd {gate} || exit 1\n\
         if [ \"$2\" = load ] && [ \"$3\" = 2 ] && [ -e armed ]; then\n\
         touch reached; while [ ! -e go ]; do sleep 0.1; done; fi\n\
         exec {program} \"$@\"\n",
        gate = gate.display(),
        program = programs::release("vchanger")?.display()
    );
    fs::write(wrapper.path(), script)?;
    fs::set_permissions(wrapper.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(gate, fs::Permissions::from_mode(0o777))?;
    Ok(wrapper.into_temp_path())
}

/// The runs of the first backup job: number, status and level.
fn runs(bacula: &Bacula) -> Result<Vec<(u32, String, String)>> {
    #[derive(serde::Deserialize)]
    struct Row {
        id: u32,
        status: String,
        level: String,
    }
    let job = &bacula.settings().jobs.first().context("a job")?.name;
    let rows: Vec<Row> = bacula.query(&format!(
        "SELECT JobId AS id, JobStatus AS status, Level AS level FROM Job WHERE Name = '{job}' ORDER BY JobId"
    ))?;
    Ok(rows.into_iter().map(|row| (row.id, row.status, row.level)).collect())
}

fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !is()? {
        ensure!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Two drives, A in the dock, and a job that needs three volumes.
struct Site {
    bacula: Bacula,
    dock: Dock,
    tree: TempDir,
    gate: TempDir,
    content: Vec<u8>,
    _changer: tempfile::TempPath,
}

impl Site {
    fn new() -> Result<Self> {
        let (tree, gate) = (TempDir::new()?, TempDir::new()?);
        let word = |n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes();
        let content: Vec<u8> = (0..6_500_000_u32).flat_map(word).collect();
        fs::write(tree.path().join("large"), &content)?;
        let (dock, mut plan) = Dock::plan(&["A", "B"], [tree.path()])?;
        let changer = stopping_changer(gate.path())?;
        plan.changer_program = changer.to_path_buf();
        plan.settings.schedule.repeat_after = Period::seconds(5);
        let bacula = Bacula::start(plan)?;
        let dock = dock.with(&bacula)?;
        let site = Self { bacula, dock, tree, gate, content, _changer: changer };
        // A has the slots from 1 on.
        for drive in ["A", "B"] {
            site.dock.plug(drive)?;
            site.dock.make_volumes(drive, 4)?;
            site.dock.pull(drive)?;
        }
        site.dock.plug("A")?;
        site.dock.refresh()?;
        Ok(site)
    }

    /// Starts a Full, which stops where it wants its second volume.
    fn stopped_full(&self) -> Result<JobId> {
        fs::write(self.gate.path().join("armed"), "")?;
        let job = self.bacula.run_backup("Full")?;
        until("the job wants its second volume", || Ok(self.gate.path().join("reached").exists()))?;
        Ok(job)
    }

    fn go_on(&self) -> Result<()> {
        Ok(fs::write(self.gate.path().join("go"), "")?)
    }

    /// Waits until no run is left, while the daemon tells Bacula what is plugged; one has ended well, as a Full.
    fn one_ends_well(&self) -> Result<()> {
        until("the run that is left ends", || {
            self.dock.refresh()?;
            Ok(runs(&self.bacula)?.iter().all(|(_, status, _)| !matches!(&**status, "C" | "R")))
        })?;
        let all = runs(&self.bacula)?;
        let good: Vec<_> = all.iter().filter(|(_, status, _)| status == "T").collect();
        ensure!(matches!(&*good, [(_, _, level)] if level == "F"), "{all:?}");
        Ok(())
    }

    /// What was saved comes back from the drive that is in the dock.
    fn restores(self) -> Result<()> {
        let target = TempDir::new()?;
        let restored = self.bacula.wait_job(self.bacula.restore(target.path())?)?;
        ensure!(restored.is_ok(), "{restored:?}");
        let back = fs::read(target.path().join(self.tree.path().strip_prefix("/")?).join("large"))?;
        ensure!(back == self.content, "what came back differs");
        self.bacula.stop()?;
        self.dock.close()
    }
}

fn broken_by_a_pull() -> Result<()> {
    let site = Site::new()?;
    let first = site.stopped_full()?;
    site.dock.pull("A")?;
    site.go_on()?;
    let broken = site.bacula.wait_job_for(first, LIMIT)?;
    ensure!(!broken.is_ok() && broken.bytes > 0, "{broken:?}");
    site.dock.refresh()?;
    until("a second run", || Ok(runs(&site.bacula)?.len() > 1))?;

    // A night comes before any drive does.
    let job = site.bacula.settings().jobs.first().context("a job")?.name.to_string();
    run(&site.bacula, &job, " level=Incremental")?;
    until("one run is left", || {
        let left = runs(&site.bacula)?.iter().filter(|(_, status, _)| matches!(&**status, "C" | "R")).count();
        Ok(left == 1)
    })?;
    site.dock.plug("B")?;
    site.one_ends_well()?;
    site.restores()
}

/// Bacula itself lets the job wait for another drive, and calls it good though what was in memory is lost.
fn pulled_in_mid_volume() -> Result<()> {
    let site = Site::new()?;
    let first = site.stopped_full()?;
    site.bacula.pause_client()?;
    site.go_on()?;
    let second = site.dock.path("A").join("c0_A_0002");
    until("the second volume is being written", || Ok(fs::metadata(&second)?.len() > 10_000))?;
    site.dock.pull("A")?;
    site.dock.refresh()?;
    site.bacula.resume_client()?;
    site.dock.plug("B")?;
    until("the job that lost its drive ends", || {
        site.dock.refresh()?;
        Ok(site.bacula.job(first)?.context("the job")?.has_ended())
    })?;
    let broken = site.bacula.job(first)?.context("the job")?;
    ensure!(!broken.is_ok() && broken.log.contains("was taken away while job"), "{broken:?}");
    until("a second run", || Ok(runs(&site.bacula)?.len() > 1))?;
    site.one_ends_well()?;
    site.restores()
}
