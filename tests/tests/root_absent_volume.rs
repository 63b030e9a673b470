//! A restore that needs a drive which was in the dock when it was queued and is out when its turn comes, with the real
//! storage daemon. Bacula writes the slots into the restore's bootstrap file when it is queued, and loads without
//! asking; a load that fails ends the job. Our changer shows a stand-in, and Bacula asks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bacula_conf::Size;
use offsite_tests::bacula::{Bacula, Dock, JobId};
use offsite_tests::programs;
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(2);

fn main() {
    let tests: [Test; 4] = [
        ("a_restore_asks_for_a_drive_that_was_pulled_after_it_was_queued", a_restore_asks),
        ("baseline_a_changer_that_fails_ends_the_restore", baseline_a_failing_load),
        ("a_backup_goes_on_while_a_restore_waits", a_backup_goes_on),
        ("a_volume_that_bacula_wrongly_believes_in_is_not_marked_bad", a_stale_catalog),
    ];
    trials::run(Dock::lacking().as_deref(), None, tests);
}

struct Site {
    bacula: Bacula,
    dock: Dock,
    tree: TempDir,
}

impl Site {
    /// A full backup on drive A and an incremental on B, which is in the dock.
    fn new(more: &[&str]) -> Result<Self> {
        Self::served_by(more, 2, None)
    }

    fn served_by(more: &[&str], drives: u8, changer: Option<&Path>) -> Result<Self> {
        let tree = TempDir::new()?;
        let names: Vec<&str> = ["A", "B"].iter().chain(more).copied().collect();
        let (dock, mut plan) = Dock::plan(&names, [tree.path()])?;
        plan.settings.autochanger.drives = drives;
        if let Some(program) = changer {
            program.clone_into(&mut plan.changer_program);
        }
        plan.settings.pool.maximum_volume_bytes = Size::bytes(1_000_000);
        let bacula = Bacula::start(plan)?;
        let dock = dock.with(&bacula)?;
        let site = Self { bacula, dock, tree };
        for (drive, file, level) in [("A", "one", "Full"), ("B", "two", "Incremental")] {
            site.swap(drive)?;
            site.dock.make_volumes(drive, 3)?;
            fs::write(site.tree.path().join(file), file.repeat(50_000))?;
            site.back_up(level)?;
        }
        Ok(site)
    }

    fn back_up(&self, level: &str) -> Result<()> {
        let job = self.bacula.wait_job(self.bacula.run_backup(level)?)?;
        ensure!(job.is_ok(), "{job:?}");
        Ok(())
    }

    /// Puts one drive in the others' place and tells Bacula.
    fn swap(&self, drive: &str) -> Result<()> {
        for name in self.dock.names().iter().filter(|name| self.dock.is_plugged(name)) {
            self.dock.pull(name)?;
        }
        self.dock.plug(drive)?;
        self.dock.refresh()
    }

    /// Waits until a drive waits for a volume of a magazine.
    fn asked_for(&self, magazine: &str, job: JobId) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let asked = self.bacula.asked_for()?;
            if asked.as_deref().and_then(Dock::drive_of) == Some(magazine) {
                return Ok(());
            }
            let state = self.bacula.job(job)?.context("the job")?;
            if state.has_ended() || Instant::now() > deadline {
                bail!("no volume of {magazine} is asked for but {asked:?}: {state:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn restored(&self, job: JobId, target: &Path) -> Result<()> {
        let job = self.bacula.wait_job(job)?;
        ensure!(job.is_ok(), "{job:?}");
        let below = target.join(self.tree.path().strip_prefix("/")?);
        for file in ["one", "two"] {
            ensure!(fs::read(below.join(file))? == fs::read(self.tree.path().join(file))?, "{file} differs");
        }
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.bacula.stop()?;
        self.dock.close()
    }
}

fn a_restore_asks() -> Result<()> {
    let site = Site::new(&[])?;
    let target = TempDir::new()?;
    // B is in the dock, and its slot goes into the bootstrap file
    let job = site.bacula.restore(target.path())?;
    site.asked_for("A", job)?;
    site.swap("A")?;
    site.asked_for("B", job)?;
    let log = site.bacula.job(job)?.context("the job")?.log;
    ensure!(log.contains("have drive-is-away") && !log.contains("3992"), "{log}");
    // the wrong drive changes nothing
    site.swap("A")?;
    site.asked_for("B", job)?;
    site.swap("B")?;
    site.restored(job, target.path())?;
    let bad: Vec<_> = site.bacula.volumes()?.into_iter().filter(|v| v.status == "Error").collect();
    ensure!(bad.is_empty(), "{bad:?}");
    site.stop()
}

/// The same story with a changer whose load fails, as the peer's does.
fn baseline_a_failing_load() -> Result<()> {
    let wrapper = tempfile::NamedTempFile::with_prefix("changer-")?;
    // with the console switched off there is no stand-in, and the answers are the peer's
    let script = format!(
        "#!/bin/sh\nconfig=$1; shift\n[ ! -e \"$config.off\" ] || config=$config.off\nexec {} \"$config\" \"$@\"\n",
        programs::release("vchanger")?.display()
    );
    fs::write(wrapper.path(), script)?;
    fs::set_permissions(wrapper.path(), fs::Permissions::from_mode(0o755))?;
    let wrapper = wrapper.into_temp_path();
    let site = Site::served_by(&[], 1, Some(&wrapper))?;
    let target = TempDir::new()?;
    let config = fs::read_to_string(site.dock.config())?;
    let program = config.lines().find(|line| line.starts_with("bconsole =")).context("the console")?;
    let off = site.dock.config().with_extension("conf.off");
    fs::write(&off, config.replace(program, "bconsole = \"\""))?;
    fs::set_permissions(&off, fs::Permissions::from_mode(0o644))?;
    let job = site.bacula.restore(target.path())?;
    site.asked_for("A", job)?;
    site.swap("A")?;
    let ended = site.bacula.wait_job(job)?;
    ensure!(!ended.is_ok() && ended.log.contains("3992 Bad autochanger"), "{ended:?}");
    site.stop()
}

fn a_backup_goes_on() -> Result<()> {
    let site = Site::new(&["C"])?;
    site.swap("C")?;
    site.dock.make_volumes("C", 3)?;
    site.swap("B")?;
    let target = TempDir::new()?;
    let restore = site.bacula.restore(target.path())?;
    site.asked_for("A", restore)?;
    site.swap("A")?;
    site.asked_for("B", restore)?;
    // the restore waits on one drive; on the other a backup runs, and the catalog is told
    site.swap("C")?;
    fs::write(site.tree.path().join("three"), "three")?;
    site.back_up("Incremental")?;
    site.bacula.update_slots()?;
    site.asked_for("B", restore)?;
    site.swap("B")?;
    site.restored(restore, target.path())?;
    site.stop()
}

/// A drive is pulled and a backup starts before Bacula could be told.
fn a_stale_catalog() -> Result<()> {
    let site = Site::new(&[])?;
    let before = site.bacula.volumes()?;
    site.dock.pull("B")?;
    let job = site.bacula.run_backup("Incremental")?;
    let deadline = Instant::now() + LIMIT;
    while !site.bacula.job(job)?.is_some_and(|job| job.has_ended()) && site.bacula.asked_for()?.is_none() {
        ensure!(Instant::now() < deadline, "the backup neither ended nor asked");
        std::thread::sleep(Duration::from_millis(100));
    }
    site.dock.plug("B")?;
    site.dock.refresh()?;
    let after = site.bacula.volumes()?;
    ensure!(before == after, "{before:?} became {after:?}");
    if !site.bacula.job(job)?.is_some_and(|job| job.has_ended()) {
        site.bacula.cancel(job)?;
    }
    site.back_up("Incremental")?;
    site.stop()
}
