//! `offsited` on this machine, in a system of its own ([`crate::own_system`]), with drives made of loop devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::loop_drive::{LoopDrive, run};
use crate::programs;

/// An unused drive is unmounted after this many seconds, unless a test says otherwise.
pub const IDLE: u64 = 2;

/// Whatever is waited for comes within this time.
pub const LIMIT: Duration = Duration::from_mins(1);

/// A running offsited; when dropped it is stopped, and what it left mounted is locked.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    program: PathBuf,
}

impl Daemon {
    /// Writes site.toml for these drives, starts the daemon, and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn start(drives: &[(&str, &LoopDrive)]) -> Result<Self> {
        write_site(IDLE, drives)?;
        Self::again()
    }

    /// Starts it with the site.toml that is there.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn again() -> Result<Self> {
        Self::run(&programs::release("offsited")?)
    }

    /// Starts this program in its place.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn run(program: &Path) -> Result<Self> {
        Self::spawn(program, &mut Command::new(program))
    }

    /// Starts it in a mount namespace of its own that follows this one, as its unit for systemd does: there it can't
    /// write below /usr.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn confined() -> Result<Self> {
        let program = programs::release("offsited")?;
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation", "slave", "/bin/sh", "-ec"]);
        command.arg("mount --bind /usr /usr; mount -o remount,bind,ro /usr; exec \"$@\"");
        command.arg("sh").arg(&program).arg("--mounts-of").arg(std::process::id().to_string());
        Self::spawn(&program, &mut command)
    }

    /// Starts it by this command.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn spawn(program: &Path, command: &mut Command) -> Result<Self> {
        let daemon = Self { child: command.spawn()?, program: program.to_owned() };
        daemon.worker()?;
        Ok(daemon)
    }

    /// Waits until a worker serves, and returns its process.
    ///
    /// # Errors
    /// When none does.
    pub fn worker(&self) -> Result<Pid> {
        let mut worker = None;
        wait("offsited answers", || {
            // One that dies while it is asked gives no answer.
            let status = serde_json::from_slice::<Value>(&try_offsite(&["status", "--json"])?.stdout);
            worker = status.ok().and_then(|status| status.get("daemon_pid")?.as_i64());
            Ok(worker.is_some())
        })?;
        Ok(Pid::from_raw(i32::try_from(worker.context("no worker")?)?))
    }

    /// The parent process, which is the daemon to whoever started it.
    ///
    /// # Errors
    /// When the number is none of a process.
    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid()?, signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Kills the parent process, and waits for the end of its worker.
    ///
    /// # Errors
    /// When that fails.
    pub fn kill(mut self) -> Result<()> {
        let worker = self.worker()?;
        self.child.kill()?;
        self.child.wait()?;
        std::mem::forget(self);
        wait("the worker to end as well", || Ok(kill(worker, None).is_err()))
    }

    /// Asks it to stop, and waits for its end; what is mounted stays so.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn stop(self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn ended(mut self) -> Result<ExitStatus> {
        let end = Instant::now() + LIMIT;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => bail!("offsited did not stop within {LIMIT:?}"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        std::mem::forget(self);
        Ok(status)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.signal(Signal::SIGTERM) {
            eprintln!("offsited was not stopped: {error:#}");
        }
        if let Err(error) = self.child.wait() {
            eprintln!("offsited was not awaited: {error}");
        }
        match Command::new(&self.program).arg("--lock").output() {
            Ok(output) if output.status.success() => {}
            output => eprintln!("what was mounted was not locked: {output:?}"),
        }
    }
}

/// Writes a site.toml with these drives by their names.
///
/// # Errors
/// When it can't be written.
pub fn write_site(idle: u64, drives: &[(&str, &LoopDrive)]) -> Result<()> {
    let mut site = format!("idle_seconds = {idle}\n");
    for (name, drive) in drives {
        site.push_str(&format!(
            "[[magazine]]\nname = \"{name}\"\nfs_uuid = \"{}\"\nfs_type = \"ext4\"\n",
            drive.uuid()
        ));
    }
    fs::create_dir_all("/etc/offsite")?;
    Ok(fs::write("/etc/offsite/site.toml", site)?)
}

/// Runs `offsite`.
///
/// # Errors
/// When it fails.
pub fn offsite(arguments: &[&str]) -> Result<String> {
    run(Command::new(programs::release("offsite")?).args(arguments))
}

/// Runs `offsite`, however it ends.
///
/// # Errors
/// When it can't be started.
pub fn try_offsite(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(programs::release("offsite")?).args(arguments).output()?)
}

/// Locks what a stopped offsited left mounted; returns how that ended.
///
/// # Errors
/// When the program can't be started.
pub fn lock_all() -> Result<Output> {
    Ok(Command::new(programs::release("offsited")?).arg("--lock").output()?)
}

/// Where a drive appears.
pub fn at(drive: &LoopDrive) -> PathBuf {
    Path::new("/srv/offsite").join(drive.uuid())
}

/// Whether a drive is mounted where it appears, without looking into it.
///
/// # Errors
/// When the mount table can't be read.
pub fn is_mounted(drive: &LoopDrive) -> Result<bool> {
    Ok(fs::read_to_string("/proc/self/mounts")?.contains(&format!(" {} ", at(drive).display())))
}

/// Waits until something holds.
///
/// # Errors
/// When it doesn't within [`LIMIT`].
pub fn wait(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !holds()? {
        if Instant::now() > end {
            bail!("waited {LIMIT:?} in vain: {what}\n{}", offsite(&["status"])?);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Reads a directory in a process of its own.
///
/// # Errors
/// When it can't be read.
pub fn list(path: &Path) -> Result<String> {
    run(Command::new("ls").arg(path))
}
