//! The Bacula harness itself, with the disk changer of Bacula's own packages in the changer's place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use offsite_tests::bacula::{Bacula, DiskChanger, Plan};
use offsite_tests::trials;
use tempfile::TempDir;

fn main() {
    let lacking = DiskChanger::lacking();
    trials::run(
        lacking.as_deref(),
        None,
        [
            ("daemons_answer", daemons_answer as fn() -> anyhow::Result<()>),
            ("backup_and_restore", backup_and_restore),
        ],
    );
}

/// A tree with small and larger files, owned by root.
fn tree() -> anyhow::Result<TempDir> {
    let tree = TempDir::new()?;
    for number in 0..40 {
        fs::write(tree.path().join(format!("small-{number}")), format!("content {number}\n").repeat(number))?;
    }
    let large: Vec<u8> =
        (0..3_000_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(tree.path().join("large"), large)?;
    Ok(tree)
}

fn start(tree: &Path) -> anyhow::Result<Bacula> {
    let bacula = Bacula::start(Plan::new(DiskChanger::PROGRAM, ["/mnt"], [tree]))?;
    DiskChanger::new(&bacula, 4)?;
    Ok(bacula)
}

fn daemons_answer() -> anyhow::Result<()> {
    let tree = tree()?;
    let bacula = start(tree.path())?;
    let status = bacula.console("status dir\nstatus client=backup-fd\nstatus storage=c0")?;
    for line in ["backup-dir Version:", "backup-fd Version:", "backup-sd Version:"] {
        ensure!(status.contains(line), "no {line:?} in {status}");
    }
    let answer = bacula.changer_console("update slots storage=c0 drive=0")?;
    ensure!(
        answer.contains("Issuing autochanger \"slots\" command"),
        "the changer's console may not update: {answer}"
    );
    let refused = bacula.changer_console("run job=BackupServer yes")?;
    ensure!(!refused.contains("Job queued"), "the changer's console may run jobs: {refused}");
    ensure!(bacula.volumes()?.is_empty());
    bacula.stop()
}

fn backup_and_restore() -> anyhow::Result<()> {
    let tree = tree()?;
    let bacula = start(tree.path())?;
    bacula.label_volumes()?;
    let volumes = bacula.volumes()?;
    ensure!(volumes.len() == 4 && volumes.iter().all(|volume| volume.in_changer), "{volumes:?}");

    let full = bacula.wait_job(bacula.run_backup("Full")?)?;
    ensure!(full.is_ok() && full.level == "F" && full.files >= 41, "{full:?}");
    let used = bacula.volumes()?.into_iter().filter(|volume| volume.bytes > 1_000_000).count();
    ensure!(used == 2, "12 MB fill one volume of 10 MB and a part of another, not {used}");

    fs::write(tree.path().join("new"), "new\n")?;
    let incremental = bacula.wait_job(bacula.run_backup("Incremental")?)?;
    ensure!(incremental.is_ok() && incremental.level == "I" && incremental.files < 5, "{incremental:?}");

    let admin = bacula.wait_job(bacula.run_update_slots_job()?)?;
    ensure!(admin.is_ok() && admin.log.contains("update slots"), "{admin:?}");

    let target = TempDir::new()?;
    let restored = bacula.wait_job(bacula.restore(target.path())?)?;
    ensure!(restored.is_ok(), "{restored:?}");
    let below: PathBuf = target.path().join(tree.path().strip_prefix("/")?);
    for entry in fs::read_dir(tree.path())? {
        let entry = entry?;
        let copy =
            fs::read(below.join(entry.file_name())).with_context(|| format!("read {entry:?} restored"))?;
        ensure!(copy == fs::read(entry.path())?, "{entry:?} differs");
    }
    bacula.stop()
}
