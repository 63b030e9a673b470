//! Keeping Bacula told: whenever drives come or go, the changer looks at its magazines and updates the catalog.
//!
//! The work is done by `vchanger CONFIG refresh` in a process and a session of its own. It runs as Bacula's
//! user, so what lies on a drive is never read with root's rights, and outside the daemon's process group,
//! so that its looking into a magazine makes the kernel ask for the mount.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::fleet::Fleet;
use super::say;
use crate::{history, status};

/// Events come in bursts; the first update waits this long for the rest of them.
const SETTLE: Duration = Duration::from_millis(300);

/// The pauses between attempts grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// While nothing happens the catalog is looked at this often: a job that was under way when its drive was pulled may
/// have opened a volume that is away, and a job may wait for a drive.
const LOOK: Duration = Duration::from_mins(10);

/// Rings when there may be something to tell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stopped: bool,
    /// The leader of the process group that is at work because of it.
    at_work: Option<Pid>,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.change(|state| state.rung = true);
    }

    /// Ends the thread that waits for it, and what that one has started.
    pub(super) fn stop(&self) {
        self.change(|state| {
            state.stopped = true;
            state.at_work.into_iter().for_each(end_group);
        });
    }

    /// Runs a program that leads a process group of its own until its end, or until [`Bell::stop`].
    fn run(&self, command: &mut Command) -> io::Result<Output> {
        let mut child = command.process_group(0).spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        self.change(|state| {
            state.at_work = Some(pid);
            if state.stopped {
                end_group(pid);
            }
        });
        let mut stderr = Vec::new();
        if let Some(mut pipe) = child.stderr.take() {
            let _ = pipe.read_to_end(&mut stderr); // what was read until an error is all there is to show
        }
        // As long as it hasn't been waited for, its number can't be given to another.
        let ended = loop {
            match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(Errno::EINTR) => {}
                ended => break ended,
            }
        };
        self.change(|state| state.at_work = None);
        ended?;
        Ok(Output { status: child.wait()?, stdout: Vec::new(), stderr })
    }

    fn change(&self, change: impl FnOnce(&mut BellState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_all();
    }

    /// Waits for a ring, or for `limit`; `false` means stop.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut BellState| !state.rung && !state.stopped;
        let waited = self.rung.wait_timeout_while(state, limit, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.rung = false;
        !state.stopped
    }

    fn stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }
}

/// Ends a process group; the changer and the console can be ended at any moment.
fn end_group(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL); // it may have ended by itself just now
}

/// Starts the thread that asks Bacula, whenever a drive has come to rest, which backup was its last.
pub(super) fn start_asking(fleet: Arc<Fleet>) {
    std::thread::spawn(move || {
        while fleet.rested.wait(LOOK) {
            if let Err(failure) = history::look(fleet.root()) {
                say(failure.message());
            }
        }
    });
}

/// Starts the thread that tells Bacula.
pub(super) fn start(fleet: Arc<Fleet>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut pause, mut said, mut wanted) = (LOOK, None, Vec::new());
        while fleet.bell.wait(pause) {
            std::thread::sleep(SETTLE);
            if fleet.bell.stopped() {
                return;
            }
            let result = tell(&fleet);
            if fleet.bell.stopped() {
                return;
            }
            pause = match &result {
                Ok(()) => LOOK,
                Err(_) if said.is_none() => PAUSES.0,
                Err(_) => (pause * 2).min(PAUSES.1),
            };
            let news = result.as_ref().err().cloned();
            if let Some(message) = news.as_ref().filter(|_| news != said) {
                say(&format!("Bacula was not told: {message}"));
            }
            said = news;
            fleet.told(result);
            let now = status::waiting(fleet.root()).unwrap_or_default();
            for wish in now.iter().filter(|wish| !wish.here && !wanted.contains(*wish)) {
                say(&wish.to_string());
            }
            wanted = now;
        }
    })
}

fn tell(fleet: &Fleet) -> Result<(), String> {
    let config = fleet.root().vchanger_conf();
    if !config.exists() {
        return Ok(()); // a site without Bacula: drives are mounted on demand, that is all
    }
    let mut command = Command::new(program());
    command.arg(&config).arg("refresh").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // In a process group of its own: the daemon's would keep the automount point from asking.
    let output = fleet
        .bell
        .run(&mut command)
        .map_err(|error| format!("cannot start {}: {error}", program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.trim().lines().next_back().unwrap_or("the changer gave no reason").to_owned())
}

/// The changer that was installed with this daemon.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("vchanger"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| Path::new("/usr/bin/vchanger").to_owned())
}
