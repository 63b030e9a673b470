//! Filesystems that live on when their drive is unmounted: bind mounts and mount namespaces as containers have them, a
//! frozen filesystem, mounts made by hand. Such a drive is never called safe to pull, its user is named with what lets
//! go of it, and it can be used meanwhile. The real daemon on the kernel's autofs; drives made of loop devices.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::MsFlags;
use offsite_tests::host_daemon::{Daemon, LIMIT, at, is_mounted, list, offsite, try_offsite, wait};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 4] = [
        ("a_bind_mount_keeps_its_drive_from_being_called_safe", a_bind_mount),
        ("a_mount_in_another_namespace_is_named", another_namespace),
        ("a_frozen_filesystem_has_a_way_out", a_frozen_filesystem),
        ("a_drive_that_is_mounted_by_hand_is_not_called_safe", mounted_by_hand),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// A daemon with one drive, which is mounted.
fn with_a_mounted(a: &mut LoopDrive) -> Result<Daemon> {
    let daemon = Daemon::start(&[("A", a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(a)).is_ok()))?;
    Ok(daemon)
}

/// Waits until status calls the drive in use and names what keeps it.
fn wait_until_named(user: &str) -> Result<()> {
    wait(&format!("{user:?} to be named"), || {
        let status = offsite(&["status"])?;
        ensure!(!status.contains("safe to pull"), "called safe: {status}");
        Ok(status.contains("A  in use") && status.contains(user))
    })
}

fn ensure_not_ejected(user: &str, remedy: &str) -> Result<()> {
    let output = try_offsite(&["eject", "A"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let told = said.contains("A is unmounted but not free") && said.contains(user) && said.contains(remedy);
    ensure!(output.status.code() == Some(3) && told, "{output:?}");
    Ok(())
}

/// Restarts the daemon, killed or stopped, with nothing mounted where it belongs.
fn restarts(mut daemon: Daemon, user: &str) -> Result<Daemon> {
    for killed in [true, false] {
        if killed {
            daemon.kill()?;
        } else {
            daemon.stop()?;
        }
        daemon = Daemon::again()?;
        wait_until_named(user)?;
    }
    Ok(daemon)
}

fn ensure_free_at_last(a: &mut LoopDrive, before: &str) -> Result<()> {
    wait("it to be locked", || Ok(offsite(&["status"])?.contains("A  plugged, locked")))?;
    ensure!(offsite(&["eject", "A"])?.contains("safe to remove"), "not ejected");
    a.unplug(LIMIT)?;
    wait("it to be away", || Ok(offsite(&["status"])?.contains("A  away")))?;
    a.plug()?;
    wait("it to be back", || Ok(list(&at(a)).is_ok()))?;
    ensure!(fs::read_to_string(at(a).join("written"))? == before, "what was written is lost");
    ensure!(!offsite(&["status"])?.contains("pulled"), "taken for torn out");
    a.unplug(LIMIT)
}

fn a_bind_mount() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = with_a_mounted(&mut a)?;
    let elsewhere = Path::new("/run/else where");
    fs::create_dir_all(elsewhere)?;
    let none = None::<&str>;
    nix::mount::mount(Some(&at(&a)), elsewhere, none, MsFlags::MS_BIND, none)?;
    let mut written = fs::File::create(elsewhere.join("written"))?;
    written.write_all(b"before\n")?;
    wait("the mount where it belongs to go", || Ok(!is_mounted(&a)?))?;
    wait_until_named("it is mounted at /run/else where")?;
    ensure_not_ejected("it is mounted at /run/else where", "umount '/run/else where'")?;
    // Who looks has it, as it is.
    ensure!(list(&at(&a))?.contains("written"), "not the same filesystem");
    wait("the mount where it belongs to go again", || Ok(!is_mounted(&a)?))?;

    let _daemon = restarts(daemon, "it is mounted at /run/else where")?;
    written.write_all(b"after\n")?;
    ensure!(list(&at(&a))?.contains("written"), "can't be used after a restart");
    written.write_all(b"at last\n")?;
    wait("the mount where it belongs to go at last", || Ok(!is_mounted(&a)?))?;
    drop(written);
    // What the hint says.
    run(Command::new("umount").arg("/run/else where"))?;
    ensure_free_at_last(&mut a, "before\nafter\nat last\n")
}

/// A process with mounts of its own, among them a drive in another place, as a container has it.
struct Container(Child);

impl Container {
    fn start(drive: &Path) -> Result<Self> {
        fs::create_dir_all("/run/inside")?;
        let script = "mount --bind \"$1\" /run/inside; touch /run/contained; exec sleep 600";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", script, "sh"]).arg(drive);
        let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        wait("the container", || Ok(Path::new("/run/contained").exists()))?;
        Ok(Self(child))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("the container was not ended: {error}");
        }
    }
}

fn another_namespace() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = with_a_mounted(&mut a)?;
    let mut written = fs::File::create(at(&a).join("written"))?;
    written.write_all(b"before\n")?;
    let container = Container::start(&at(&a))?;
    drop(written);
    let user = format!("it is mounted at /run/inside for sleep (process {})", container.0.id());
    wait("the mount where it belongs to go", || Ok(!is_mounted(&a)?))?;
    wait_until_named(&user)?;
    let remedy = format!("nsenter --target {} --mount umount /run/inside", container.0.id());
    ensure_not_ejected(&user, &remedy)?;
    let _daemon = restarts(daemon, &user)?;
    ensure!(list(&at(&a))?.contains("written"), "can't be used after a restart");
    wait("the mount where it belongs to go at last", || Ok(!is_mounted(&a)?))?;
    run(Command::new("sh").args(["-c", &remedy]))?;
    drop(container);
    ensure_free_at_last(&mut a, "before\n")
}

fn a_frozen_filesystem() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let daemon = with_a_mounted(&mut a)?;
    fs::write(at(&a).join("written"), "before\n")?;
    run(Command::new("fsfreeze").arg("--freeze").arg(at(&a)))?;
    wait("the mount where it belongs to go", || Ok(!is_mounted(&a)?))?;
    wait_until_named("still in use")?;
    let way_out = format!("offsite unlock A && fsfreeze --unfreeze {}", at(&a).display());
    ensure_not_ejected("is in use", &way_out)?;
    let _daemon = restarts(daemon, "still in use")?;
    // What the hint says.
    let path = programs::release("offsite")?;
    let directory = path.parent().context("the programs' directory")?.display().to_string();
    run(Command::new("sh").args(["-c", &format!("PATH={directory}:$PATH; {way_out}")]))?;
    fs::write(at(&a).join("written"), "after\n")?;
    ensure_free_at_last(&mut a, "after\n")
}

fn mounted_by_hand() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    let device = a.plug()?.to_owned();
    wait("the drive is plugged", || Ok(offsite(&["status"])?.contains("A  plugged, locked")))?;
    fs::create_dir_all("/run/by-hand")?;
    run(Command::new("mount").arg(&device).arg("/run/by-hand"))?;
    fs::write("/run/by-hand/written", "by hand\n")?;
    wait_until_named("it is in use, but not by offsited: it is mounted at /run/by-hand")?;
    ensure_not_ejected("it is mounted at /run/by-hand", "umount /run/by-hand")?;
    run(Command::new("umount").arg("/run/by-hand"))?;
    ensure_free_at_last(&mut a, "by hand\n")
}
