//! What people and machines do to a running daemon: they edit its site.toml, stop it, unmount behind its back, fill what
//! is behind a drive. The real daemon on the kernel's autofs; drives made of loop devices (unencrypted).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use offsite_tests::host_daemon::{
    Daemon, IDLE, LIMIT, at, is_mounted, list, lock_all, offsite, try_offsite, wait, write_site,
};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};
use uuid::Uuid;

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 12] = [
        ("a_restart_begins_no_drive_s_time_again", a_restart_begins_no_time_again),
        ("a_drive_that_is_renamed_while_in_use_is_still_known", a_renamed_drive_is_still_known),
        ("a_drive_that_is_taken_out_of_the_site_is_put_to_rest", a_dropped_drive_is_put_to_rest),
        ("a_flush_that_failed_is_not_forgotten", a_failed_flush_is_not_forgotten),
        ("a_drive_unmounted_behind_the_daemon_s_back_is_locked_only_when_free", unmounted_behind_its_back),
        ("a_drive_that_is_away_is_not_locked_but_away", away_is_not_locked),
        ("an_ejected_drive_stays_so_whoever_asks_during_a_restart", ejected_during_a_restart),
        ("who_only_occupies_the_socket_keeps_nobody_from_it", the_socket_is_not_occupied),
        ("a_new_idle_time_counts_and_a_key_must_be_there", what_is_read_again_counts),
        ("the_end_does_not_wait_for_bacula", the_end_does_not_wait_for_bacula),
        ("only_root_and_bacula_have_drives_unlocked", strangers_unlock_nothing),
        ("a_stop_leaves_drives_mounted_and_the_system_s_shutdown_locks_them", what_a_stop_leaves),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// Runs `offsite`, which must end with this exit code and say these words.
fn ensure_ended(arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let output = try_offsite(arguments)?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code) && said.contains(words),
        "{arguments:?}: {}: {said}",
        output.status
    );
    Ok(())
}

/// A daemon with one drive, which is mounted.
fn with_a_mounted(a: &mut LoopDrive) -> Result<Daemon> {
    let daemon = Daemon::start(&[("A", a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(a)).is_ok()))?;
    Ok(daemon)
}

fn a_renamed_drive_is_still_known() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = with_a_mounted(&mut a)?;
    let written = fs::File::create(at(&a).join("written"))?;
    write_site(IDLE, &[("Blue", &a)])?;
    daemon.signal(Signal::SIGHUP)?;
    wait("the new name", || Ok(offsite(&["status"])?.contains("Blue  in use")))?;
    ensure_ended(&["eject", "Blue"], 3, "Blue is in use")?;
    ensure!(is_mounted(&a)?, "what is in use was unmounted");
    drop(written);
    a.unplug(LIMIT)?; // as it is idle
    wait("the drive to be away", || Ok(offsite(&["status"])?.contains("Blue  away")))?;
    a.plug()?;
    wait("the drive is back", || Ok(list(&at(&a)).is_ok()))?;
    ensure_ended(&["eject", "Blue"], 0, "safe to remove")?;
    ensure!(!is_mounted(&a)?, "called safe while it is mounted");
    a.unplug(LIMIT)
}

fn a_dropped_drive_is_put_to_rest() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = with_a_mounted(&mut a)?;
    let written = fs::File::create(at(&a).join("written"))?;
    write_site(IDLE, &[])?;
    daemon.signal(Signal::SIGHUP)?;
    wait("the drive to leave", || Ok(offsite(&["status"])?.contains("taken out of site.toml")))?;
    ensure_ended(&["lock", "A"], 3, "A is in use")?;
    drop(written);
    a.unplug(LIMIT)?; // as it is idle
    wait("the drive to be forgotten", || Ok(!offsite(&["status"])?.contains("A  ")))?;
    a.plug()?;
    ensure!(list(&at(&a)).is_err(), "a drive that is enrolled no more was opened");
    a.unplug(LIMIT)?;

    // It comes back before it has left, and the daemon can be stopped.
    write_site(IDLE, &[("A", &a)])?;
    daemon.signal(Signal::SIGHUP)?;
    a.plug()?;
    wait("the drive is back", || Ok(list(&at(&a)).is_ok()))?;
    for drives in [&[][..], &[("A", &a)], &[]] {
        write_site(IDLE, drives)?;
        reload(&daemon)?;
    }
    ensure!(daemon.stop()?.success() && lock_all()?.status.success() && !is_mounted(&a)?, "left behind");
    a.unplug(LIMIT)
}

/// Has site.toml read again, and waits until it was.
fn reload(daemon: &Daemon) -> Result<()> {
    daemon.signal(Signal::SIGHUP)?;
    std::thread::sleep(Duration::from_millis(300));
    offsite(&["status"]).map(drop)
}

fn a_failed_flush_is_not_forgotten() -> Result<()> {
    let room = tempfile::tempdir()?;
    let resize = |options: &str| {
        let none = None::<&str>;
        let flags = if options.contains("24m") { MsFlags::empty() } else { MsFlags::MS_REMOUNT };
        nix::mount::mount(none, room.path(), Some("tmpfs"), flags, Some(options))
    };
    resize("size=24m")?;
    let mut a = LoopDrive::ext4_below(room.path(), 200)?;
    let daemon = with_a_mounted(&mut a)?;
    // The drive takes less than it says, and tells only when it is flushed.
    fs::write(at(&a).join("volume"), vec![7; 60 << 20])?;
    wait("the failed flush to be told", || {
        Ok(offsite(&["status"])?.contains("not all that was written is on it"))
    })?;
    for _ in 0..2 {
        ensure_ended(&["eject", "A"], 1, "A is locked, but not all that was written is on it")?;
        ensure_ended(&["lock", "A"], 1, "not all that was written is on it")?;
    }
    drop(daemon);
    resize("size=300m")?;
    let daemon = Daemon::again()?;
    ensure_ended(&["eject", "A"], 1, "not all that was written is on it")?;
    // It is checked, and then as good as any.
    list(&at(&a))?;
    ensure_ended(&["eject", "A"], 0, "safe to remove")?;
    drop(daemon);
    a.unplug(LIMIT)?;
    drop(a);
    Ok(nix::mount::umount(room.path())?)
}

fn unmounted_behind_its_back() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = with_a_mounted(&mut a)?;
    let mut written = fs::File::create(at(&a).join("written"))?;
    run(Command::new("umount").arg("-l").arg(at(&a)))?;
    wait("it to be seen", || Ok(!is_mounted(&a)?))?;
    std::thread::sleep(Duration::from_secs(IDLE + 1));
    ensure!(offsite(&["status"])?.contains("A  in use"), "{}", offsite(&["status"])?);
    ensure_ended(&["lock", "A"], 3, "is unmounted but not free")?;
    // Whoever looks has it back as it is: it can't be checked, and needn't be.
    written.write_all(b"before\n")?;
    ensure!(list(&at(&a))?.contains("written"), "not the same filesystem");
    ensure!(!offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    ensure_ended(&["lock", "A"], 3, "is unmounted but not free")?;
    drop(written);
    wait("its last user's end to be seen", || Ok(offsite(&["status"])?.contains("A  plugged, locked")))?;
    ensure_ended(&["eject", "A"], 0, "safe to remove")?;
    a.unplug(LIMIT)
}

fn away_is_not_locked() -> Result<()> {
    let a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    for command in ["lock", "unlock", "eject"] {
        ensure_ended(&[command, "A"], 4, "A is not plugged")?;
    }
    Ok(())
}

fn ejected_during_a_restart() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let mut daemon = with_a_mounted(&mut a)?;
    ensure_ended(&["eject", "A"], 0, "safe to remove")?;
    let (path, end) = (at(&a), Arc::new(AtomicBool::new(false)));
    let ends = Arc::clone(&end);
    let polls = std::thread::spawn(move || {
        while !ends.load(Ordering::SeqCst) {
            let _ = fs::read_dir(&path); // fails, as it should
        }
    });
    let restarts = || -> Result<()> {
        for killed in [true, false, true, false] {
            if killed {
                daemon.kill()?;
            } else {
                daemon.stop()?;
            }
            daemon = Daemon::again()?;
            std::thread::sleep(Duration::from_millis(300));
            ensure!(offsite(&["status"])?.contains("A  ejected"), "{}", offsite(&["status"])?);
            ensure!(!is_mounted(&a)?, "an ejected drive was opened");
        }
        Ok(())
    };
    let restarted = restarts();
    end.store(true, Ordering::SeqCst);
    ensure!(polls.join().is_ok(), "the thread that polls panicked");
    restarted?;
    a.unplug(LIMIT)
}

fn the_socket_is_not_occupied() -> Result<()> {
    let a = LoopDrive::ext4(16)?;
    let daemon = Daemon::start(&[("A", &a)])?;
    fs::set_permissions("/run/offsite/control", fs::Permissions::from_mode(0o666))?;
    let worker = daemon.worker()?;
    let occupy = r#"use IO::Socket::UNIX;
        $SIG{PIPE} = "IGNORE"; for (1..80) { my $s = IO::Socket::UNIX->new(Peer => "/run/offsite/control"); $s->syswrite("{"); push @s, $s }
        $| = 1; print "sits\n"; sleep 600"#;
    let mut guest = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", occupy])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut watched = || -> Result<()> {
        let mut said = String::new();
        BufReader::new(guest.stdout.take().context("its words")?).read_line(&mut said)?;
        ensure!(said == "sits\n", "{said:?}");
        let threads = || Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{worker}/task"))?.count());
        wait("all but a few to be turned away", || Ok((16..=16 + 10).contains(&threads()?)))?;
        let asked = Instant::now();
        ensure!(offsite(&["status"])?.contains("A  away"), "root is not heard");
        ensure!(asked.elapsed() < Duration::from_secs(8), "root had to wait for guests");
        wait("time to be up for the others", || Ok(threads()? < 16))
    };
    let watched = watched();
    guest.kill()?;
    guest.wait()?;
    watched
}

fn what_is_read_again_counts() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(3600, &[("A", &a)])?;
    let daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    let luks = Uuid::new_v4();
    let encrypted = format!(
        "key_file = \"/etc/offsite/nowhere\"\n[[magazine]]\nname = \"L\"\nluks_uuid = \"{luks}\"\nfs_uuid = \"{luks}\"\nfs_type = \"ext4\"\n"
    );
    fs::write("/etc/offsite/site.toml", encrypted)?;
    reload(&daemon)?;
    ensure!(offsite(&["status"])?.contains("A  in use"), "a site without its key was taken");
    write_site(1, &[("A", &a)])?;
    reload(&daemon)?;
    a.unplug(LIMIT) // as it is idle
}

fn the_end_does_not_wait_for_bacula() -> Result<()> {
    let a = LoopDrive::ext4(16)?;
    // A console that hangs, where Bacula's user can run it.
    let directory = Path::new("/run/console");
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
    let (console, sleeps) = (directory.join("bconsole"), directory.join("sleeps"));
    fs::write(&console, "#!/bin/sh\ncd /run/console; echo $$ >new && mv new sleeps; exec sleep 600\n")?;
    fs::set_permissions(&console, fs::Permissions::from_mode(0o755))?;
    write_site(IDLE, &[("A", &a)])?;
    let config = format!(
        "Storage Resource = c0\nWork Dir = /run/console/work\nbconsole = {}\nbconsole config = /run/console/bconsole.conf\nMagazine = UUID:{}\n",
        console.display(),
        a.uuid()
    );
    fs::write("/etc/offsite/vchanger.conf", config)?;
    let daemon = Daemon::again()?;
    wait("Bacula to be asked", || Ok(sleeps.exists()))?;
    let asleep = fs::read_to_string(&sleeps)?;
    ensure!(daemon.stop()?.success(), "it did not end well");
    fs::remove_file("/etc/offsite/vchanger.conf")?;
    wait("what it started to end", || {
        let state = fs::read_to_string(format!("/proc/{}/stat", asleep.trim()));
        Ok(state.map_or(true, |state| state.contains(") Z ")))
    })
}

fn strangers_unlock_nothing() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive is plugged", || Ok(offsite(&["status"])?.contains("A  plugged, locked")))?;
    let as_user = |id: &str, more: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]).args(more);
        command.arg("stat").arg(at(&a).join(".")).output()
    };
    // By the mount root's mode; past it, by the kernel's word of who asks.
    let past_it = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
    for more in [&[][..], &past_it[..]] {
        for id in ["65534", "4711"] {
            let said = String::from_utf8(as_user(id, more)?.stderr)?;
            ensure!(said.contains("Permission denied"), "{id} {more:?}: {said}");
        }
    }
    ensure!(offsite(&["status"])?.contains("A  plugged, locked"), "{}", offsite(&["status"])?);
    let bacula = as_user("bacula", &[])?;
    ensure!(bacula.status.success(), "Bacula's user is refused: {bacula:?}");
    ensure!(is_mounted(&a)?, "and nothing is mounted for it");
    a.unplug(LIMIT)
}

fn what_a_stop_leaves() -> Result<()> {
    let (mut a, mut b) = (LoopDrive::ext4(16)?, LoopDrive::ext4(16)?);
    write_site(3600, &[("A", &a), ("B", &b)])?;
    let daemon = Daemon::again()?;
    a.plug()?;
    b.plug()?;
    let marked = |drive: &LoopDrive| Path::new("/run/offsite/magazines").join(drive.uuid()).exists();
    wait("both to be there", || Ok(list(&at(&a)).is_ok() && list(&at(&b)).is_ok() && marked(&b)))?;
    let held = fs::File::open(at(&a).join("lost+found"))?;
    ensure!(daemon.stop()?.success(), "it did not end well");
    for drive in [&a, &b] {
        ensure!(is_mounted(drive)? && marked(drive), "a job between two volumes could not go on");
    }
    let daemon = Daemon::again()?;
    ensure!(offsite(&["status"])?.matches("in use").count() == 2, "{}", offsite(&["status"])?);
    ensure_ended(&["lock", "B"], 0, "B is locked")?;
    list(&at(&b))?;
    let running = lock_all()?;
    let said = String::from_utf8_lossy(&running.stderr);
    ensure!(!running.status.success() && said.contains("offsited is running"), "{running:?}");

    ensure!(daemon.stop()?.success(), "it did not end well");
    let release = std::thread::spawn(move || {
        // Whoever ends a moment later than offsited is waited for.
        std::thread::sleep(Duration::from_secs(2));
        drop(held);
    });
    let locked = lock_all()?;
    ensure!(release.join().is_ok() && locked.status.success(), "{locked:?}");
    for drive in [&a, &b] {
        ensure!(!is_mounted(drive)? && !marked(drive), "it can't be used without offsited");
    }
    let table = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!table.contains("/srv/offsite"), "left behind: {table}");
    a.unplug(LIMIT)?;
    b.unplug(LIMIT)
}

fn a_restart_begins_no_time_again() -> Result<()> {
    let (mut a, b) = (LoopDrive::ext4(16)?, LoopDrive::ext4(16)?);
    let since = || -> Result<String> {
        let status: serde_json::Value = serde_json::from_str(&offsite(&["status", "--json"])?)?;
        let of = |drive: usize| status.pointer(&format!("/magazines/{drive}/since")).cloned();
        Ok(format!("{:?}", [of(0), of(1)]))
    };
    let daemon = Daemon::start(&[("A", &a), ("B", &b)])?;
    let away = since()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    wait("its event", || Ok(since()? != away))?;
    let before = since()?;
    ensure!(daemon.stop()?.success(), "it did not end well");
    let daemon = Daemon::again()?;
    ensure!(since()? == before, "a stop: {before} became {}", since()?);
    daemon.kill()?;
    let _daemon = Daemon::again()?;
    ensure!(since()? == before, "a kill: {before} became {}", since()?);
    a.unplug(LIMIT)?;
    wait("the drive to be away", || Ok(since()? != before))
}
