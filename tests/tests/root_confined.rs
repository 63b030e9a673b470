//! A daemon with a mount namespace of its own: what it mounts is seen where it belongs, and who uses it there counts. The
//! real daemon on the kernel's autofs; drives made of loop devices.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use offsite_tests::host_daemon::{Daemon, IDLE, LIMIT, at, is_mounted, list, offsite, wait, write_site};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| {
            own_system::enter().and_then(|()| own_system::share_mounts()).err().map(|e| format!("{e:#}"))
        });
    let tests: [Test; 4] = [
        ("what_a_confined_daemon_mounts_is_seen_and_expires_by_its_use_here", seen_and_expired),
        ("a_confined_daemon_takes_over_from_an_unconfined_one_and_back", taken_over),
        ("a_confined_daemon_names_what_keeps_a_drive", a_bind_mount),
        ("a_confined_daemon_notices_that_its_automount_point_was_taken_away", taken_away),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

fn wait_for_rest(a: &LoopDrive) -> Result<()> {
    wait("it to be locked", || Ok(!is_mounted(a)? && offsite(&["status"])?.contains("A  plugged, locked")))
}

fn seen_and_expired() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(IDLE, &[("A", &a)])?;
    let daemon = Daemon::confined()?;
    let theirs = fs::read_link(format!("/proc/{}/ns/mnt", daemon.worker()?))?;
    ensure!(theirs != fs::read_link("/proc/self/ns/mnt")?, "it has no namespace of its own");
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    ensure!(is_mounted(&a)?, "it isn't mounted here");
    // Used here, it stays; the daemon's own view of it is never used.
    let mut held = File::create(at(&a).join("held"))?;
    let end = Instant::now() + Duration::from_secs(IDLE) * 3;
    while Instant::now() < end {
        ensure!(is_mounted(&a)?, "it was unmounted under its user");
        std::thread::sleep(Duration::from_millis(50));
    }
    writeln!(held, "written")?;
    drop(held);
    wait_for_rest(&a)?;
    ensure!(fs::read_to_string(at(&a).join("held"))? == "written\n", "what was written is lost");
    wait_for_rest(&a)?;
    ensure!(!offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    a.unplug(LIMIT)
}

fn taken_over() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(IDLE, &[("A", &a)])?;
    let mut daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    let mut held = File::create(at(&a).join("held"))?;
    for (confined, killed) in [(true, false), (true, true), (false, true), (true, false)] {
        if killed {
            daemon.kill()?;
        } else {
            daemon.stop()?;
        }
        daemon = if confined { Daemon::confined()? } else { Daemon::again()? };
        ensure!(is_mounted(&a)? && offsite(&["status"])?.contains("A  in use"), "it was not taken over");
        writeln!(held, "written").context("who uses it noticed")?;
    }
    drop(held);
    wait_for_rest(&a)?;
    ensure!(offsite(&["eject", "A"])?.contains("safe to remove"), "not ejected");
    a.unplug(LIMIT)
}

fn a_bind_mount() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(IDLE, &[("A", &a)])?;
    let _daemon = Daemon::confined()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    fs::create_dir_all("/run/elsewhere")?;
    run(Command::new("mount").arg("--bind").arg(at(&a)).arg("/run/elsewhere"))?;
    wait("its user to be named", || {
        let status = offsite(&["status"])?;
        ensure!(!status.contains("safe to pull"), "called safe: {status}");
        Ok(status.contains("it is mounted at /run/elsewhere") && status.contains("umount /run/elsewhere"))
    })?;
    let status = offsite(&["status"])?;
    ensure!(!status.contains("offsited (process"), "its own view is named as well: {status}");
    run(Command::new("umount").arg("/run/elsewhere"))?;
    wait_for_rest(&a)?;
    a.unplug(LIMIT)
}

fn taken_away() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(IDLE, &[("A", &a)])?;
    let daemon = Daemon::confined()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    run(Command::new("umount").args(["-l", "/srv/offsite"]))?;
    ensure!(!daemon.ended()?.success(), "it took no notice");
    let _daemon = Daemon::confined()?;
    wait("the drive is there again", || Ok(list(&at(&a)).is_ok()))?;
    wait_for_rest(&a)?;
    a.unplug(LIMIT)
}
