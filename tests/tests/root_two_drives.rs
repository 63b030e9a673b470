//! A real storage daemon with two virtual drives of our changer, two jobs at once, magazines that are swapped between
//! jobs, and a volume that is asked for and then plugged. All jobs end well, and what is restored is what was saved.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bacula_conf::{BackupJob, Name, Size};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::{User, geteuid};
use offsite_tests::bacula::{Bacula, JobId, Plan, missing_program};
use offsite_tests::loop_drive::run;
use offsite_tests::programs;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(1);
const VOLUMES: u32 = 6;

fn main() {
    let arguments = Arguments::from_args();
    let lacking = missing_program()
        .map(|path| format!("no {} here", path.display()))
        .or_else(|| (!geteuid().is_root()).then(|| "needs root".to_owned()))
        .or_else(|| programs::release("vchanger").err().map(|error| format!("{error:#}")));
    let test = || two_jobs_at_once().map_err(|error| Failed::from(format!("{error:?}")));
    let trial = Trial::test("two_jobs_at_once_swaps_and_a_missing_volume", test);
    let trial = match lacking {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    };
    libtest_mimic::run(&arguments, vec![trial]).exit();
}

/// A magazine that is plugged and unplugged by its directory's name.
struct Magazine {
    name: &'static str,
    shelf: PathBuf,
}

impl Magazine {
    fn new(shelf: &Path, name: &'static str) -> Result<Self> {
        let magazine = Self { name, shelf: shelf.to_owned() };
        fs::create_dir(magazine.away())?;
        give(&magazine.away())?;
        for number in 1..=VOLUMES {
            let path = magazine.away().join(format!("{}{number:04}", magazine.prefix()));
            fs::write(&path, "")?;
            give(&path)?;
        }
        Ok(magazine)
    }

    /// What its volumes' names begin with.
    fn prefix(&self) -> String {
        format!("c0_{}_", self.name)
    }

    fn at(&self) -> PathBuf {
        self.shelf.join(self.name)
    }

    fn away(&self) -> PathBuf {
        self.shelf.join(format!("away-{}", self.name))
    }

    fn plug(&self) -> Result<()> {
        Ok(fs::rename(self.away(), self.at())?)
    }

    fn unplug(&self) -> Result<()> {
        Ok(fs::rename(self.at(), self.away())?)
    }
}

fn give(path: &Path) -> Result<()> {
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    Ok(chown(path, Some(bacula.uid.as_raw()), Some(bacula.gid.as_raw()))?)
}

/// A tree that fills two volumes and a part of a third; incompressible, another one for each `seed`.
fn tree(seed: u32) -> Result<TempDir> {
    let tree = tempfile::tempdir()?;
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
    let word = |n: u32| (n ^ seed.rotate_left(16)).wrapping_mul(2_654_435_761).to_le_bytes();
    fs::write(tree.path().join("large"), (0..6_500_000_u32).flat_map(word).collect::<Vec<u8>>())?;
    for number in 0..50_u32 {
        fs::write(tree.path().join(format!("small {number}")), format!("{seed} {number}\n").repeat(40))?;
    }
    Ok(tree)
}

struct Site {
    bacula: Bacula,
    trees: [TempDir; 2],
}

impl Site {
    fn start(magazines: [&Magazine; 2]) -> Result<Self> {
        let trees = [tree(1)?, tree(2)?];
        let at = magazines.map(Magazine::at);
        let mut plan = Plan::new(programs::release("vchanger")?, at, [trees[0].path()]);
        plan.settings.pool.maximum_volume_bytes = Size::bytes(10_000_000);
        plan.settings.autochanger.drives = 2;
        let first = plan.settings.jobs.first().context("no job")?.clone();
        let second =
            BackupJob { name: Name::new("Second")?, paths: vec![trees[1].path().to_owned()], ..first };
        plan.settings.jobs.push(second);
        Ok(Self { bacula: Bacula::start(plan)?, trees })
    }

    /// What the daemon does after a plug or unplug: the changer tells Bacula, and wakes who waits.
    fn refresh(&self) -> Result<()> {
        let conf = self.bacula.file("vchanger.conf")?;
        run(Command::new(programs::release("vchanger")?).arg(conf).arg("refresh")).map(drop)
    }

    fn both(&self, level: &str) -> Result<Vec<JobId>> {
        let jobs = self.bacula.settings().jobs.iter();
        jobs.map(|job| queued(&self.bacula.console(&format!("run job={} level={level} yes", job.name))?))
            .collect()
    }

    fn ended(&self, jobs: &[JobId]) -> Result<()> {
        for job in jobs {
            let result = self.bacula.wait_job(*job)?;
            ensure!(result.is_ok(), "{result:?}");
        }
        Ok(())
    }

    /// Both drives hold a volume at one moment.
    fn saw_both_drives(&self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while ![0, 1].iter().all(|drive| self.bacula.changer_dir().join(drive.to_string()).is_symlink()) {
            ensure!(Instant::now() < end, "the second drive was never used");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts to restore what these jobs saved.
    fn restore(&self, jobs: &[JobId], target: &Path) -> Result<JobId> {
        let ids: Vec<String> = jobs.iter().map(|job| job.0.to_string()).collect();
        let (ids, client, target) = (ids.join(","), &self.bacula.settings().client.name, target.display());
        let command = format!("restore client={client} jobid={ids} where={target} all done yes");
        queued(&self.bacula.console(&command)?)
    }

    /// Restores from an empty dock: the magazine that is asked for is plugged, and the job must go on by itself.
    fn restore_by_asking(&self, jobs: &[JobId], magazines: [&Magazine; 2]) -> Result<()> {
        let target = self.bacula.directory().join(format!("back-{}", jobs.first().map_or(0, |job| job.0)));
        let job = self.restore(jobs, &target)?;
        let mut docked: Option<&Magazine> = None;
        let mut asked = Vec::new();
        let end = Instant::now() + LIMIT * 2;
        while !self.bacula.job(job)?.is_some_and(|job| job.has_ended()) {
            ensure!(Instant::now() < end, "the restore does not end; it asked for {asked:?}");
            let status = self.bacula.console("status storage=c0")?;
            let line = status.lines().find(|line| line.contains("waiting for mount of volume"));
            let volume = line.and_then(|line| line.split('"').nth(1)).unwrap_or_default();
            let wanted = magazines.into_iter().find(|magazine| volume.starts_with(&magazine.prefix()));
            if let Some(wanted) = wanted.filter(|wanted| docked.is_none_or(|now| now.name != wanted.name)) {
                if let Some(before) = docked.replace(wanted) {
                    before.unplug()?;
                }
                wanted.plug()?;
                self.refresh()?;
                asked.push(volume.to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.ended(&[job])?;
        ensure!(asked.len() == 2, "each magazine is asked for once: {asked:?}");
        if let Some(last) = docked {
            last.unplug()?;
        }
        self.refresh()?;
        self.same(&target)
    }

    /// What was restored is one of the trees, byte by byte.
    fn same(&self, target: &Path) -> Result<()> {
        for tree in &self.trees {
            let back = target.join(tree.path().strip_prefix("/")?);
            if back.exists() {
                return run(Command::new("diff").arg("-r").arg(tree.path()).arg(back)).map(drop);
            }
        }
        bail!("{} has neither tree", target.display())
    }
}

fn queued(answer: &str) -> Result<JobId> {
    let digits = answer.split("Job queued. JobId=").nth(1).unwrap_or_default();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map(JobId).with_context(|| format!("no job was queued: {answer}"))
}

fn two_jobs_at_once() -> Result<()> {
    let shelf = tempfile::tempdir()?;
    fs::set_permissions(shelf.path(), fs::Permissions::from_mode(0o755))?;
    let (a, b) = (Magazine::new(shelf.path(), "A")?, Magazine::new(shelf.path(), "B")?);
    a.plug()?;
    let site = Site::start([&a, &b])?;
    site.refresh()?;
    let full = site.both("Full")?;
    site.saw_both_drives()?;
    site.ended(&full)?;

    // swapped between jobs
    a.unplug()?;
    b.plug()?;
    site.refresh()?;
    for (number, tree) in site.trees.iter().enumerate() {
        fs::write(tree.path().join("new"), format!("new {number}"))?;
    }
    let incremental = site.both("Incremental")?;
    site.ended(&incremental)?;

    b.unplug()?;
    site.refresh()?;
    for (full, incremental) in full.iter().zip(&incremental) {
        site.restore_by_asking(&[*full, *incremental], [&a, &b])?;
    }
    site.bacula.stop()
}
