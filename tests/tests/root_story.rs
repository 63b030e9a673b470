//! The main job on this machine: the real daemon on the kernel's autofs, a real Bacula, drives made of loop
//! devices (unencrypted: that needs no device-mapper). Drives are swapped while it runs; nothing is typed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::bacula::{Bacula, Dock, JobId, JobResult, Plan};
use offsite_tests::host_daemon::{Daemon, LIMIT, at, list, offsite, wait};
use offsite_tests::loop_drive::{LoopDrive, lay_volumes, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(Dock::lacking)
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 4] = [
        ("backup_swap_restore", backup_swap_restore),
        ("an_unused_drive_is_let_go_and_comes_back", an_unused_drive_is_let_go_and_comes_back),
        ("a_clone_is_not_used", a_clone_is_not_used),
        ("a_killed_daemon_is_replaced_without_a_trace", a_killed_daemon_is_replaced_without_a_trace),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

fn tree() -> Result<tempfile::TempDir> {
    let tree = tempfile::tempdir()?;
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
    for number in 0..300_u32 {
        let directory = tree.path().join(format!("d{}", number % 7));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("file {number}")), format!("{number}\n").repeat(number as usize))?;
    }
    let large: Vec<u8> =
        (0..8_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(tree.path().join("large"), large)?;
    symlink("large", tree.path().join("link"))?;
    Ok(tree)
}

fn backup_swap_restore() -> Result<()> {
    let (mut a, mut b) = (LoopDrive::ext4(64)?, LoopDrive::ext4(64)?);
    lay_volumes(&a, "A", 5)?;
    lay_volumes(&b, "B", 5)?;
    let tree = tree()?;
    let _daemon = Daemon::start(&[("A", &a), ("B", &b)])?;
    let plan = Plan::new(programs::release("vchanger")?, [at(&a), at(&b)], [tree.path()]);
    let bacula = Bacula::start(plan)?;
    symlink(bacula.file("vchanger.conf")?, "/etc/offsite/vchanger.conf")?;

    a.plug()?;
    in_changer(&bacula, "c0_A_")?;
    let full = ended(&bacula, bacula.run_backup("Full")?)?;
    ensure!(full.level == "F" && full.bytes > 30_000_000, "{full:?}");
    ensure!(volumes_of(&bacula, full.id)?.iter().all(|v| v.starts_with("c0_A_")), "not on A");

    a.unplug(LIMIT)?;
    b.plug()?;
    in_changer(&bacula, "c0_B_")?;
    fs::write(tree.path().join("d1/new"), "new")?;
    fs::remove_file(tree.path().join("d2/file 2"))?;
    let incremental = ended(&bacula, bacula.run_backup("Incremental")?)?;
    ensure!(incremental.level == "I" && incremental.files < 20, "{incremental:?}");
    ensure!(volumes_of(&bacula, incremental.id)?.iter().all(|v| v.starts_with("c0_B_")), "not on B");

    // The restorer has a box of drives and an empty dock.
    b.unplug(LIMIT)?;
    wait("no volume in the changer", || Ok(!bacula.volumes()?.iter().any(|v| v.in_changer)))?;
    let target = bacula.directory().join("back");
    let job = bacula.restore(&target)?;
    let mut asked_for = Vec::new();
    wait("the restore", || {
        if bacula.job(job)?.is_some_and(|j| j.has_ended()) {
            return Ok(true);
        }
        let status = bacula.console("status storage=c0")?;
        let line = status.lines().find(|l| l.contains("waiting for mount of volume"));
        let Some(volume) = line.and_then(|l| l.split('"').nth(1)) else { return Ok(false) };
        let (wanted, other) = if volume.starts_with("c0_B_") { (&mut b, &mut a) } else { (&mut a, &mut b) };
        if !wanted.is_plugged() {
            if other.is_plugged() {
                other.unplug(LIMIT)?;
            }
            let drive = Dock::drive_of(volume).context("a drive in the volume's name")?;
            // `status` doesn't wait for Bacula: it tells of a wait that has just begun a moment later.
            let words = format!("Bacula waits for {volume}: plug in drive {drive}");
            wait(&words, || Ok(offsite(&["status"])?.contains(&words)))?;
            wanted.plug()?;
            asked_for.push(volume.to_owned());
        }
        Ok(false)
    })?;
    let restored = ended(&bacula, job)?;
    ensure!(asked_for.len() == 2, "each drive is asked for once: {asked_for:?}");
    ensure!(restored.files >= 300, "{restored:?}");
    let back = target.join(tree.path().strip_prefix("/")?);
    run(Command::new("diff").args(["-r", "--no-dereference"]).arg(tree.path()).arg(back))?;
    fs::remove_file("/etc/offsite/vchanger.conf")?;
    bacula.stop()
}

/// Waits until the catalog has just this drive's volumes in the changer, each with a label.
fn in_changer(bacula: &Bacula, prefix: &str) -> Result<()> {
    wait(&format!("{prefix} in the catalog"), || {
        let volumes = bacula.volumes()?;
        let here: Vec<_> = volumes.iter().filter(|v| v.in_changer).collect();
        Ok(here.len() == 5 && here.iter().all(|v| v.name.starts_with(prefix)))
    })
    .with_context(|| format!("{:?}", bacula.volumes()))
}

fn ended(bacula: &Bacula, job: JobId) -> Result<JobResult> {
    let result = bacula.wait_job(job)?;
    ensure!(result.is_ok(), "{result:?}");
    Ok(result)
}

fn volumes_of(bacula: &Bacula, job: JobId) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Row {
        name: String,
    }
    let rows: Vec<Row> = bacula.query(&format!(
        "select distinct VolumeName as name from JobMedia natural join Media where JobId={}",
        job.0
    ))?;
    ensure!(!rows.is_empty(), "job {} is on no volume", job.0);
    Ok(rows.into_iter().map(|r| r.name).collect())
}

fn an_unused_drive_is_let_go_and_comes_back() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    ensure!(list(&at(&a)).is_err(), "a drive that is away has a directory");
    a.plug()?;
    wait("the drive is seen", || Ok(offsite(&["status"])?.contains("plugged, locked")))?;
    ensure!(list(&at(&a))?.contains("lost+found"), "not the drive's own directory");
    ensure!(offsite(&["status"])?.contains("in use"));
    a.unplug(LIMIT)?; // succeeds only when the idle drive was unmounted
    wait("the drive is gone", || Ok(offsite(&["status"])?.contains("away")))?;
    ensure!(list(&at(&a)).is_err(), "a drive that was unplugged still has a directory");
    a.plug()?;
    wait("the drive is back", || Ok(list(&at(&a)).is_ok()))?;
    ensure!(offsite(&["eject", "A"])?.contains("safe to remove"));
    ensure!(list(&at(&a)).is_err(), "an ejected drive was opened again");
    ensure!(offsite(&["unlock", "A"])?.contains("is mounted"));
    ensure!(list(&at(&a)).is_ok());
    offsite(&["lock", "A"])?;
    a.unplug(LIMIT)
}

fn a_clone_is_not_used() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    let copy = tempfile::NamedTempFile::new()?;
    fs::copy(a.file(), copy.path())?;
    let original = a.plug()?.display().to_string();
    let second = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(copy.path()))?;
    let refused = list(&at(&a));
    let status = offsite(&["status"])?;
    run(Command::new("/usr/sbin/losetup").args(["-d", second.trim()]))?;
    ensure!(refused.is_err(), "one of two clones was mounted");
    ensure!(status.contains(&original) && status.contains(second.trim()), "both must be named: {status}");
    wait("the original alone is used again", || Ok(list(&at(&a)).is_ok()))?;
    a.unplug(LIMIT)
}

fn a_killed_daemon_is_replaced_without_a_trace() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    let open = fs::File::open(at(&a).join("lost+found"))?;
    daemon.kill()?;
    let daemon = Daemon::again()?;
    ensure!(list(&at(&a))?.contains("lost+found"), "the mount that was in use is gone");
    drop(open);
    a.unplug(LIMIT)?; // the new daemon lets go of what the old one mounted
    drop(daemon);
    let table = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!table.contains("/srv/offsite"), "left behind: {table}");
    Ok(())
}
