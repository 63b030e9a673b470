//! Experiments with the real Director: what the catalog has to be told about volumes that lie in the safe.
//!
//! The answer, which `vchanger refresh` follows: before the slots are taken away, note each volume's status and set
//! `volstatus=Read-Only`; when the slots are back, set the old one. A read-only volume is neither chosen nor pruned nor
//! recycled nor purged, whatever the pool says, and a restore still finds it, asks for it by name and reads it.
//!
//! What is not enough: `inchanger=no` (the Director's second choice are such volumes), `recycle=no` (they are still
//! written to and purged), `enabled=no` and `enabled=archived` (restores no longer find the jobs on them).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bacula_conf::{Period, Size};
use offsite_tests::bacula::{Bacula, DiskChanger, Plan, Volume};
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

/// The drive in the safe.
const AWAY: [u32; 2] = [1, 2];
/// The drive in the dock.
const HERE: [u32; 2] = [3, 4];

fn main() {
    let tests: [Test; 13] = [
        ("baseline_an_absent_volume_is_asked_for", baseline_an_absent_volume_is_asked_for),
        ("a_shelved_volume_is_not_asked_for", a_shelved_volume_is_not_asked_for),
        ("baseline_an_absent_volume_is_recycled", baseline_an_absent_volume_is_recycled),
        ("a_shelved_volume_is_not_recycled", a_shelved_volume_is_not_recycled),
        ("baseline_an_absent_volume_is_purged_within_retention", || {
            let purged = purging("")?;
            ensure!(purged, "the jobs on absent volumes are still there");
            Ok(())
        }),
        ("baseline_recycle_no_does_not_keep_it_from_pruning", || {
            let (site, left) = recycling(false, "recycle=no")?;
            ensure!(left == 0, "recycle=no kept {left} jobs on absent volumes");
            site.bacula.stop()
        }),
        ("baseline_recycle_no_does_not_save_it", || {
            let purged = purging("recycle=no")?;
            ensure!(purged, "recycle=no saved the jobs on absent volumes");
            Ok(())
        }),
        ("a_shelved_volume_is_not_purged", || {
            let purged = purging("volstatus=Read-Only")?;
            ensure!(!purged, "the jobs on absent volumes were purged");
            Ok(())
        }),
        ("a_shelved_volume_is_not_pruned_by_hand", a_shelved_volume_is_not_pruned_by_hand),
        ("a_shelved_volume_is_restored_from", a_shelved_volume_is_restored_from),
        ("baseline_an_archived_volume_is_lost_to_restores", || lost_to_restores("archived")),
        ("baseline_a_disabled_volume_is_lost_to_restores", || lost_to_restores("no")),
        ("an_empty_changer_has_to_be_told_by_volume", an_empty_changer_has_to_be_told_by_volume),
    ];
    trials::run(DiskChanger::lacking().as_deref(), None, tests);
}

/// Statuses of volumes before they were shelved.
type Shelved = BTreeMap<String, String>;

struct Site {
    bacula: Bacula,
    tree: TempDir,
}

impl Site {
    /// Two drives of two volumes of 1 MB each; only the first is plugged, and labelled.
    fn new() -> anyhow::Result<Self> {
        let tree = TempDir::new()?;
        fill(tree.path(), 700_000)?;
        let mut plan = Plan::new(DiskChanger::PROGRAM, ["/mnt"], [tree.path()]);
        plan.settings.pool.maximum_volume_bytes = Size::bytes(1_000_000);
        plan.settings.pool.retention = Period::days(365);
        let bacula = Bacula::start(plan)?;
        Ok(Self { bacula, tree })
    }

    /// Backs up to the first drive, then puts the second into its place and tells the catalog.
    fn swap(&self) -> anyhow::Result<DiskChanger<'_>> {
        let changer = DiskChanger::new(&self.bacula, 4)?;
        changer.take_out(&HERE)?;
        self.bacula.label_volumes()?;
        let first = self.bacula.wait_job(self.bacula.run_backup("Full")?)?;
        ensure!(first.is_ok(), "{first:?}");
        changer.take_out(&AWAY)?;
        changer.put_back(&HERE)?;
        self.bacula.label_volumes()?;
        self.bacula.update_slots()?;
        Ok(changer)
    }

    /// Keeps the Director from a drive's volumes, and remembers what they were.
    fn shelve(&self, slots: [u32; 2]) -> anyhow::Result<Shelved> {
        let volumes = self.volumes()?;
        let mut shelved = Shelved::new();
        for slot in slots {
            let name = format!("vol{slot}");
            let status = volumes.get(&name).context("the volume")?.status.clone();
            self.set_status(&name, "Read-Only")?;
            shelved.insert(name, status);
        }
        Ok(shelved)
    }

    fn unshelve(&self, shelved: &Shelved) -> anyhow::Result<()> {
        shelved.iter().try_for_each(|(name, status)| self.set_status(name, status))
    }

    fn set_status(&self, name: &str, status: &str) -> anyhow::Result<()> {
        let answer = self.bacula.changer_console(&format!("update volume={name} volstatus={status}"))?;
        ensure!(answer.contains(&format!("New Volume status is: {status}")), "{answer}");
        Ok(())
    }

    /// No volume of the plugged drive can take another byte, and all are to be kept.
    fn close_the_plugged_drive(&self) -> anyhow::Result<()> {
        for slot in HERE {
            self.bacula.console(&format!("update volume=vol{slot} volstatus=Used"))?;
        }
        Ok(())
    }

    fn volumes(&self) -> anyhow::Result<BTreeMap<String, Volume>> {
        Ok(self.bacula.volumes()?.into_iter().map(|volume| (volume.name.clone(), volume)).collect())
    }

    /// How many jobs the catalog still knows for a drive's volumes.
    fn jobs_on(&self, slots: [u32; 2]) -> anyhow::Result<usize> {
        #[derive(serde::Deserialize)]
        struct Row {
            jobs: usize,
        }
        let [first, second] = slots;
        let rows: Vec<Row> = self.bacula.query(&format!(
            "SELECT count(*) AS jobs FROM JobMedia JOIN Media USING (MediaId) WHERE VolumeName IN ('vol{first}', 'vol{second}')"
        ))?;
        Ok(rows.first().context("a count")?.jobs)
    }
}

fn fill(tree: &Path, bytes: u32) -> anyhow::Result<()> {
    let noise: Vec<u8> =
        (0..bytes / 4).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Ok(fs::write(tree.join("data"), noise)?)
}

fn names_an_absent_volume(question: &str) -> bool {
    AWAY.iter().any(|slot| question.contains(&format!("\"vol{slot}\"")))
}

/// Volumes that are not in the changer are the Director's second choice: a job then waits for the safe.
fn baseline_an_absent_volume_is_asked_for() -> anyhow::Result<()> {
    let site = Site::new()?;
    site.swap()?;
    site.close_the_plugged_drive()?;
    let job = site.bacula.run_backup("Full")?;
    let question = site.bacula.wait_for_question(job)?;
    ensure!(names_an_absent_volume(&question), "{question}");
    site.bacula.cancel(job)?;
    site.bacula.stop()
}

fn a_shelved_volume_is_not_asked_for() -> anyhow::Result<()> {
    let site = Site::new()?;
    let (before, shelved) = {
        let changer = site.swap()?;
        let before = site.volumes()?;
        let shelved = site.shelve(AWAY)?;
        site.close_the_plugged_drive()?;
        let job = site.bacula.run_backup("Full")?;
        // With nothing to write to, the Director asks for any volume, and not for one in the safe.
        std::thread::sleep(Duration::from_secs(5));
        let log = site.bacula.job(job)?.context("the job")?;
        ensure!(!log.has_ended() && !names_an_absent_volume(&log.log), "{log:?}");
        site.bacula.cancel(job)?;
        changer.put_back(&AWAY)?;
        (before, shelved)
    };
    // On return all is as it was.
    site.bacula.update_slots()?;
    site.unshelve(&shelved)?;
    let after = site.volumes()?;
    for slot in AWAY {
        let name = format!("vol{slot}");
        let (before, after) = (before.get(&name).context("before")?, after.get(&name).context("after")?);
        ensure!(*after == Volume { in_changer: true, slot, ..before.clone() }, "{before:?} became {after:?}");
    }
    let job = site.bacula.wait_job(site.bacula.run_backup("Full")?)?;
    ensure!(job.is_ok(), "{job:?}");
    site.bacula.stop()
}

/// Lets the retention of the absent drive's volumes run out, and starts a job that finds no other volume.
fn recycling(shelve: bool, attribute: &str) -> anyhow::Result<(Site, usize)> {
    let site = Site::new()?;
    site.swap()?;
    for slot in AWAY {
        site.bacula.console(&format!(
            "update volume=vol{slot} volretention=1\nupdate volume=vol{slot} volstatus=Used"
        ))?;
    }
    if !attribute.is_empty() {
        AWAY.iter().try_for_each(|slot| {
            site.bacula.console(&format!("update volume=vol{slot} {attribute}")).map(drop)
        })?;
    }
    let shelved = if shelve { site.shelve(AWAY)? } else { Shelved::new() };
    site.close_the_plugged_drive()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(site.jobs_on(AWAY)? > 0);
    let job = site.bacula.run_backup("Full")?;
    std::thread::sleep(Duration::from_secs(5));
    site.bacula.cancel(job)?;
    let left = site.jobs_on(AWAY)?;
    site.unshelve(&shelved)?;
    Ok((site, left))
}

/// A volume in the safe whose retention is over loses its jobs from the catalog though nobody can write to it.
fn baseline_an_absent_volume_is_recycled() -> anyhow::Result<()> {
    let (site, left) = recycling(false, "")?;
    ensure!(left == 0, "{left} jobs are left on {:?}", site.volumes()?);
    site.bacula.stop()
}

fn a_shelved_volume_is_not_recycled() -> anyhow::Result<()> {
    let (site, left) = recycling(true, "")?;
    ensure!(left > 0, "the jobs on absent volumes were pruned: {:?}", site.volumes()?);
    for slot in AWAY {
        let volumes = site.volumes()?;
        let volume = volumes.get(&format!("vol{slot}")).context("the volume")?;
        ensure!(volume.status == "Used", "{volume:?}");
    }
    site.bacula.stop()
}

/// A restore asks for the volume by name, waits, and goes on when the drive is back, even before the status is.
fn a_shelved_volume_is_restored_from() -> anyhow::Result<()> {
    let site = Site::new()?;
    let target = TempDir::new()?;
    {
        let changer = site.swap()?;
        site.shelve(AWAY)?;
        let used: Vec<_> = site.volumes()?.into_values().filter(|volume| volume.bytes > 10_000).collect();
        let name = &used.first().context("a volume that was written")?.name;
        let job = site.bacula.restore(target.path())?;
        let question = site.bacula.wait_for_question(job)?;
        ensure!(question.contains(&format!("\"{name}\"")), "not asked for {name}: {question}");
        changer.put_back(&AWAY)?;
        site.bacula.update_slots()?;
        let slot = site.volumes()?.get(name).context("the volume")?.slot;
        site.bacula.console(&format!("mount storage=c0 slot={slot} drive=0"))?;
        let restored = site.bacula.wait_job(job)?;
        ensure!(restored.is_ok(), "{restored:?}");
    }
    let below = target.path().join(site.tree.path().strip_prefix("/")?);
    ensure!(
        fs::read(below.join("data"))? == fs::read(site.tree.path().join("data"))?,
        "the restored file differs"
    );
    site.bacula.stop()
}

/// With `Purge Oldest Volume`, lets a job find no volume in the dock, while those in the safe have an attribute and
/// their retention is not over; says whether the jobs on one of them were purged.
fn purging(attribute: &str) -> anyhow::Result<bool> {
    let site = Site::new()?;
    site.swap()?;
    let config = site.bacula.file("bacula-dir.conf")?;
    let text = fs::read_to_string(&config)?;
    let pool = "  Pool Type = Backup\n";
    ensure!(text.contains(pool), "{text}");
    fs::write(&config, text.replace(pool, "  Pool Type = Backup\n  Purge Oldest Volume = yes\n"))?;
    site.bacula.console("reload")?;
    // the Director takes volumes that were never written for the oldest
    for volume in site.bacula.volumes()? {
        let name = &volume.name;
        if volume.last_written.is_none() {
            site.bacula.console(&format!("update volume={name} volstatus=Disabled"))?;
            continue;
        }
        site.bacula.console(&format!("update volume={name} volstatus=Used"))?;
        if !attribute.is_empty() {
            site.bacula.console(&format!("update volume={name} {attribute}"))?;
        }
    }
    let before = site.jobs_on(AWAY)?;
    ensure!(before > 0);
    let job = site.bacula.run_backup("Full")?;
    std::thread::sleep(Duration::from_secs(5));
    site.bacula.cancel(job)?;
    let purged = site.jobs_on(AWAY)? < before;
    site.bacula.stop()?;
    Ok(purged)
}

/// Nor does it lose its jobs to `prune` by its name.
fn a_shelved_volume_is_not_pruned_by_hand() -> anyhow::Result<()> {
    let site = Site::new()?;
    site.swap()?;
    let prune = || AWAY.map(|slot| format!("prune volume=vol{slot} yes")).join("\n");
    for slot in AWAY {
        site.bacula.console(&format!(
            "update volume=vol{slot} volretention=1\nupdate volume=vol{slot} volstatus=Used"
        ))?;
    }
    let shelved = site.shelve(AWAY)?;
    let before = site.jobs_on(AWAY)?;
    std::thread::sleep(Duration::from_secs(3));
    site.bacula.console(&prune())?;
    ensure!(before > 0 && site.jobs_on(AWAY)? == before, "{:?}", site.volumes()?);
    site.unshelve(&shelved)?;
    let answer = site.bacula.console(&prune())?;
    ensure!(site.jobs_on(AWAY)? == 0, "it is not pruned either when it is back: {answer}");
    site.bacula.stop()
}

/// Why `enabled` is not the answer.
fn lost_to_restores(enabled: &str) -> anyhow::Result<()> {
    let site = Site::new()?;
    site.swap()?;
    for slot in AWAY {
        site.bacula.changer_console(&format!("update volume=vol{slot} enabled={enabled}"))?;
    }
    let refused = site.bacula.restore(Path::new("/nowhere")).err().context("the restore found the volume")?;
    ensure!(refused.to_string().contains("No Full backup"), "{refused}");
    site.bacula.stop()
}

/// `update slots` leaves everything as it was when the changer has no volume at all.
fn an_empty_changer_has_to_be_told_by_volume() -> anyhow::Result<()> {
    let site = Site::new()?;
    let changer = DiskChanger::new(&site.bacula, 4)?;
    changer.take_out(&HERE)?;
    site.bacula.label_volumes()?;
    changer.take_out(&AWAY)?;
    site.bacula.update_slots()?;
    ensure!(
        site.volumes()?.values().all(|volume| volume.in_changer),
        "update slots emptied the changer: {:?}",
        site.volumes()?
    );
    for slot in AWAY {
        site.bacula.changer_console(&format!("update volume=vol{slot} inchanger=no"))?;
    }
    ensure!(site.volumes()?.values().all(|volume| !volume.in_changer), "{:?}", site.volumes()?);
    site.bacula.stop()
}
