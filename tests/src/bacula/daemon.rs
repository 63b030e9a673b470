//! One daemon, ended when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::plan::{Account, Installed};
use super::program::sbin;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub(super) struct Daemon {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon in the foreground and waits until it takes connections.
    pub(super) fn start(
        program: &'static str,
        config: &Path,
        installed: &Installed,
        port: u16,
        library: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let log = installed.log(&format!("{program}.out"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(sbin(program));
        if installed.account == Account::Packaged && program != "bacula-fd" {
            // As the units do it: the storage daemon has the other group besides, and its changer needs it.
            let accounts = &installed.settings.accounts;
            let group = if program == "bacula-sd" { &accounts.storage_group } else { &accounts.group };
            command = Command::new("/usr/bin/setpriv");
            command.args(["--reuid", accounts.user.as_str(), "--regid", group.as_str()]);
            command.args(["--groups", &format!("{group},{}", accounts.group)]).arg(sbin(program));
        }
        // In the foreground, without a file for its process id.
        command.args(["-f", "-P", "-c"]).arg(config);
        if let Some(path) = library.filter(|_| program == "bacula-dir") {
            command.env("LD_LIBRARY_PATH", path);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let mut daemon = Self { program, child, log };
        daemon.wait_for_port(port)?;
        Ok(daemon)
    }

    fn wait_for_port(&mut self, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !listens(port)? {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.program, self.said());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen on port {port} after {START_LIMIT:?}: {}",
                    self.program,
                    self.said()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub(super) fn is(&self, program: &str) -> bool {
        self.program == program
    }

    /// Sends the daemon a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The child has not been waited for, so the number is still its own.
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Ends the daemon without a warning.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends the daemon; an error if it had ended before.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended on its own with {status}: {}", self.program, self.said());
        }
        self.end();
        Ok(())
    }

    /// Asks the daemon to end, and ends it when it does not.
    fn end(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // The child has not been waited for, so the number is still its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Whether somebody listens on a port of 127.0.0.1, without a connection that the daemon would take for an attack.
fn listens(port: u16) -> anyhow::Result<bool> {
    // proc(5), /proc/net/tcp: local address and port in hexadecimal, remote address, state; 0A is listening.
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").context("read /proc/net/tcp")?;
    Ok(table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A")
    }))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
