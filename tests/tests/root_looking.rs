//! Whoever looks at a site wakes no drive: the real daemon on the kernel's autofs, a real Bacula, drives made of loop
//! devices. Each mount of an ext4 filesystem is counted in its superblock, so none is overlooked.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::bacula::{Bacula, Dock, Plan};
use offsite_tests::host_daemon::{Daemon, at, is_mounted, offsite, try_offsite, wait};
use offsite_tests::loop_drive::{LoopDrive, lay_volumes, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(Dock::lacking)
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 1] = [("whoever_looks_wakes_no_drive", whoever_looks_wakes_no_drive)];
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// How often a drive was mounted so far.
fn mounts(drive: &LoopDrive) -> Result<u16> {
    let mut count = [0; 2];
    // ext4's superblock begins at 1024; `s_mnt_count` is 52 bytes into it.
    File::open(drive.file())?.read_exact_at(&mut count, 1024 + 52)?;
    Ok(u16::from_le_bytes(count))
}

fn whoever_looks_wakes_no_drive() -> Result<()> {
    let mut a = LoopDrive::ext4(64)?;
    lay_volumes(&a, "A", 4)?;
    let tree = tempfile::tempdir()?;
    fs::write(tree.path().join("file"), vec![7; 3_000_000])?;
    let daemon = Daemon::start(&[("A", &a)])?;
    let plan = Plan::new(programs::release("vchanger")?, [at(&a)], [tree.path()]);
    let bacula = Bacula::start(plan)?;
    symlink(bacula.file("vchanger.conf")?, "/etc/offsite/vchanger.conf")?;
    let configuration = bacula.settings().paths.configuration.display();
    let paths = format!("[bacula.paths]\nconfiguration = \"{configuration}\"\n");
    File::options().append(true).open("/etc/offsite/site.toml")?.write_all(paths.as_bytes())?;
    a.plug()?;
    wait("the volumes to be labelled", || {
        let volumes = bacula.volumes()?;
        Ok(volumes.len() == 4 && volumes.iter().all(|volume| volume.in_changer))
    })?;
    let job = bacula.wait_job(bacula.run_backup("Full")?)?;
    ensure!(job.is_ok(), "{job:?}");
    let link = fs::read_link(bacula.changer_dir().join("0")).context("the job's volume is still loaded")?;
    ensure!(link.starts_with(at(&a)), "loaded from {}", link.display());
    wait("the drive to be idle", || Ok(!is_mounted(&a)?))?;

    let before = mounts(&a)?;
    let unmoved = |what: &str| {
        let now = mounts(&a)?;
        ensure!(now == before && !is_mounted(&a)?, "{what} mounted the drive {} times", now - before);
        anyhow::Ok(())
    };
    for _ in 0..3 {
        offsite(&["status"])?;
        offsite(&["status", "--json"])?;
    }
    unmoved("status")?;
    // It ends by the time limit, which timeout(1) reports by 124.
    let watched = Command::new("timeout")
        .arg("5")
        .arg(programs::release("offsite")?)
        .args(["status", "--watch"])
        .output()?;
    ensure!(watched.status.code() == Some(124), "{watched:?}");
    unmoved("status --watch")?;
    for arguments in [&["doctor"][..], &["doctor", "--json"], &["conf", "--check"]] {
        try_offsite(arguments)?;
        unmoved(&format!("{arguments:?}"))?;
    }
    // What the daemon does by itself, every ten minutes.
    run(Command::new(programs::release("vchanger")?).arg("/etc/offsite/vchanger.conf").arg("refresh"))?;
    unmoved("refresh")?;
    let eject = offsite(&["eject", "A"])?;
    ensure!(eject.contains("safe to remove"), "{eject}");

    drop(daemon);
    fs::remove_file("/etc/offsite/vchanger.conf")?;
    bacula.stop()
}
