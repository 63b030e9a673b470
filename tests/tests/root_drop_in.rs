//! A site without our daemon on real daemons: nobody runs `refresh`, the storage daemon calls the changer, and
//! `update slots` is typed or run by a job, as with vchanger. And what others write into the catalog meanwhile.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bacula_conf::Size;
use changer_model::{Changer, Config, Environment};
use offsite_tests::bacula::{Bacula, Dock, JobId, Volume};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(2);

fn main() {
    let tests: [Test; 5] = [
        ("a_volume_that_a_restore_asked_for_keeps_its_slot", a_lost_slot),
        ("update_slots_alone_opens_what_is_back", update_slots_alone),
        ("update_slots_typed_with_an_empty_dock_empties_the_catalog", an_empty_dock),
        ("six_hundred_volumes_get_their_labels", many_labels),
        ("empty_volumes_that_an_error_closed_are_told_and_opened", empty_volumes_in_error),
    ];
    trials::run(Dock::lacking().as_deref(), None, tests);
}

struct Site {
    bacula: Bacula,
    dock: Dock,
    tree: TempDir,
}

impl Site {
    /// Drives A and B with volumes that are labelled; A is in the dock.
    fn new() -> Result<Self> {
        let tree = TempDir::new()?;
        let (dock, mut plan) = Dock::plan(&["A", "B"], [tree.path()])?;
        plan.settings.pool.maximum_volume_bytes = Size::bytes(1_000_000);
        let bacula = Bacula::start(plan)?;
        let dock = dock.with(&bacula)?;
        let site = Self { bacula, dock, tree };
        fs::write(site.tree.path().join("one"), "one".repeat(50_000))?;
        for drive in ["B", "A"] {
            site.dock.plug(drive)?;
            site.dock.make_volumes(drive, 3)?;
            if drive == "B" {
                site.dock.pull(drive)?;
                site.dock.refresh()?;
            }
        }
        Ok(site)
    }

    fn back_up(&self) -> Result<()> {
        let job = self.bacula.wait_job(self.bacula.run_backup("Full")?)?;
        ensure!(job.is_ok(), "{job:?}");
        Ok(())
    }

    /// Puts one drive in the other's place; nobody is told.
    fn swap(&self, out: &str, into: &str) -> Result<()> {
        self.dock.pull(out)?;
        self.dock.plug(into)
    }

    /// The volumes of a drive.
    fn volumes_of(&self, drive: &str) -> Result<Vec<Volume>> {
        let all = self.bacula.volumes()?.into_iter();
        Ok(all.filter(|volume| Dock::drive_of(&volume.name) == Some(drive)).collect())
    }

    /// Waits until all volumes of a drive are so.
    fn await_volumes(&self, drive: &str, what: &str, so: impl Fn(&Volume) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let volumes = self.volumes_of(drive)?;
            if !volumes.is_empty() && volumes.iter().all(&so) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the volumes of {drive} are not {what}: {volumes:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a job says something.
    fn await_words(&self, job: JobId, words: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let state = self.bacula.job(job)?.context("the job")?;
            if state.log.contains(words) {
                return Ok(());
            }
            ensure!(!state.has_ended() && Instant::now() < deadline, "{words:?} was not said: {state:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a job has ended, well or not.
    fn await_end(&self, job: JobId) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.bacula.job(job)?.context("the job")?.has_ended() {
            ensure!(Instant::now() < deadline, "it did not end");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until a job has ended well; it must not ask for a volume.
    fn ends_without_asking(&self, job: JobId) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let state = self.bacula.job(job)?.context("the job")?;
            if state.has_ended() {
                ensure!(state.is_ok(), "{state:?}");
                return Ok(());
            }
            ensure!(!state.log.contains("Please mount"), "it asks for what is here: {}", state.log);
            ensure!(Instant::now() < deadline, "{state:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn restored(&self, target: &Path) -> Result<()> {
        let below = target.join(self.tree.path().strip_prefix("/")?);
        ensure!(fs::read(below.join("one"))? == fs::read(self.tree.path().join("one"))?, "it differs");
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.bacula.stop()?;
        self.dock.close()
    }
}

/// The storage daemon writes back the slot it was given: after a restore that asked for a drive, none.
fn a_lost_slot() -> Result<()> {
    let site = Site::new()?;
    site.back_up()?;
    site.swap("A", "B")?;
    site.dock.refresh()?;
    let target = TempDir::new()?;
    let job = site.bacula.restore(target.path())?;
    site.bacula.wait_for_question(job)?;
    site.swap("B", "A")?;
    site.dock.refresh()?;
    let job = site.bacula.wait_job(job)?;
    ensure!(job.is_ok(), "{job:?}");
    let lost = site.volumes_of("A")?.into_iter().any(|volume| volume.slot == 0 || !volume.in_changer);
    ensure!(lost, "the storage daemon left the slots as they are: this shows nothing any more");

    site.dock.refresh()?;
    for volume in site.volumes_of("A")? {
        let slot = volume.name.strip_prefix("c0_A_").context("a number")?.parse::<u32>()? + 3;
        ensure!(volume.in_changer && volume.slot == slot, "{volume:?}");
    }
    let again = TempDir::new()?;
    site.ends_without_asking(site.bacula.restore(again.path())?)?;
    site.restored(again.path())?;
    site.stop()
}

/// What left was closed; it is back, and nothing is done but `update slots`, as by the job that the tutorial has.
fn update_slots_alone() -> Result<()> {
    let site = Site::new()?;
    site.swap("A", "B")?;
    let admin = site.bacula.wait_job(site.bacula.run_update_slots_job()?)?;
    ensure!(admin.status == "T", "{admin:?}");
    site.await_volumes("A", "closed", |volume| volume.status == "Read-Only" && !volume.in_changer)?;
    site.await_volumes("B", "open", |volume| volume.status == "Append" && volume.in_changer)?;
    site.dock.pull("B")?;
    site.bacula.update_slots()?;
    site.await_volumes("B", "closed", |volume| volume.status == "Read-Only" && !volume.in_changer)?;
    // a job that waits for any volume is woken when one is back
    let job = site.bacula.run_backup("Full")?;
    site.await_words(job, "Cannot find any appendable volumes")?;
    site.dock.plug("A")?;
    site.bacula.update_slots()?;
    site.await_volumes("A", "open", |volume| volume.status == "Append" && volume.in_changer)?;
    let job = site.bacula.wait_job(job)?;
    ensure!(job.is_ok(), "{job:?}");
    site.stop()
}

/// `update slots` leaves all as it was when the changer is empty; what it leaves wrong is put right behind it.
fn an_empty_dock() -> Result<()> {
    let site = Site::new()?;
    site.dock.pull("A")?;
    site.bacula.update_slots()?;
    site.await_volumes("A", "gone", |volume| !volume.in_changer && volume.slot == 0)?;
    // and what was told once and is wrong again
    for volume in site.volumes_of("A")? {
        site.bacula.console(&format!("update volume={} inchanger=yes", volume.name))?;
    }
    site.dock.refresh()?;
    site.await_volumes("A", "gone again", |volume| !volume.in_changer && volume.slot == 0)?;
    site.stop()
}

fn many_labels() -> Result<()> {
    let site = Site::new()?;
    site.dock.make_volumes("A", 600)?;
    let labelled = site.volumes_of("A")?;
    ensure!(labelled.len() == 603, "{} volumes", labelled.len());
    ensure!(labelled.iter().all(|volume| volume.in_changer && volume.slot > 0), "{labelled:?}");
    site.stop()
}

/// A drive that can't be written any more: what is behind it is full, so that each write to a new block is an I/O error.
struct Dying {
    /// The room behind it, a filesystem in memory.
    room: TempDir,
    drive: Option<LoopDrive>,
    at: PathBuf,
}

impl Dying {
    /// Puts a drive in the place of a directory with volumes, which are on it then.
    fn in_place_of(at: PathBuf) -> Result<Self> {
        let room = TempDir::new()?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "room"]).arg(room.path()))?;
        let mut dying = Self { room, drive: None, at };
        let mut drive = LoopDrive::ext4_below(dying.room.path(), 32)?;
        let device = drive.plug()?.to_owned();
        dying.drive = Some(drive);
        let volumes = TempDir::new()?;
        run(Command::new("cp").arg("-a").arg(dying.at.join(".")).arg(volumes.path()))?;
        run(Command::new("mount").args(["-o", "sync,errors=continue"]).arg(device).arg(&dying.at))?;
        run(Command::new("cp").arg("-a").arg(volumes.path().join(".")).arg(&dying.at))?;
        run(&mut Command::new("sync"))?;
        Ok(dying)
    }

    fn filler(&self) -> PathBuf {
        self.room.path().join("filler")
    }

    fn fail(&self) -> Result<()> {
        let mut filler = fs::File::create(self.filler())?;
        let block = vec![0; 4096];
        while filler.write_all(&block).is_ok() {}
        Ok(())
    }

    /// Checks the filesystem, with room behind it again.
    fn recover(&self) -> Result<()> {
        fs::remove_file(self.filler())?;
        let device = self.drive.as_ref().and_then(LoopDrive::device).context("the drive")?;
        run(Command::new("umount").arg(&self.at))?;
        run(Command::new("/usr/sbin/e2fsck").arg("-fp").arg(device)).or_else(|error| {
            // 1: mended
            if format!("{error:#}").contains("status: 1") { Ok(String::new()) } else { Err(error) }
        })?;
        run(Command::new("mount").args(["-o", "sync"]).arg(device).arg(&self.at)).map(drop)
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.at));
        self.drive = None;
        let _ = run(Command::new("umount").arg("-l").arg(self.room.path()));
    }
}

/// The storage daemon gives up volume after volume of a drive that can't be written, though all are empty.
fn empty_volumes_in_error() -> Result<()> {
    let site = Site::new()?;
    let dying = Dying::in_place_of(site.dock.path("A"))?;
    site.dock.refresh()?;
    dying.fail()?;
    let job = site.bacula.run_backup("Full")?;
    // Whether it gives up one volume or more depends on when the filesystem notices and stops writing.
    site.await_words(job, "End of Volume")?;
    site.bacula.cancel(job)?;
    site.await_end(job)?;
    let closed = || -> Result<Vec<Volume>> {
        let is_closed = |volume: &Volume| volume.status == "Error" || volume.status == "Full";
        Ok(site.volumes_of("A")?.into_iter().filter(is_closed).collect())
    };
    let before = closed()?;
    ensure!(!before.is_empty() && before.iter().all(|volume| volume.bytes < 1000), "{before:?}");
    dying.recover()?;
    site.dock.refresh()?;
    let after = closed()?;
    ensure!(after.len() == before.len(), "opened though nobody said that the drive was checked: {after:?}");
    let config = Config::load(Path::new("/"), site.dock.config())?;
    let notices = Changer::open(&config, &Environment::new(Path::new("/")))?.status()?.notices;
    let told = notices
        .iter()
        .any(|notice| notice.message.starts_with(&format!("{} empty volume(s) are closed", before.len())));
    ensure!(told, "{notices:?}");
    site.dock.changer(&["refresh", "--checked"])?;
    site.await_volumes("A", "open", |volume| volume.status == "Append" && volume.in_changer)?;
    site.back_up()?;
    drop(dying);
    site.stop()
}
