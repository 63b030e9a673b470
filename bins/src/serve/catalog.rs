//! Keeping Bacula told: whenever drives come or go, the changer looks at its magazines and updates the catalog.
//!
//! The work is done by `vchanger CONFIG refresh` in a process and a session of its own. It runs as Bacula's
//! user, so what lies on a drive is never read with root's rights, and outside the daemon's process group,
//! so that its looking into a magazine makes the kernel ask for the mount.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::fleet::Fleet;
use super::say;

/// Events come in bursts; the first update waits this long for the rest of them.
const SETTLE: Duration = Duration::from_millis(300);

/// The pauses between attempts grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

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
}

impl Bell {
    pub(super) fn ring(&self) {
        self.change(|state| state.rung = true);
    }

    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut BellState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_all();
    }

    /// Waits for a ring, or for `limit`; `false` means stop.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut BellState| !state.rung && !state.stopped;
        let mut state = match limit {
            None => self.rung.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.rung.wait_timeout_while(state, limit, idle).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.rung = false;
        !state.stopped
    }

    fn stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }
}

/// Starts the thread that tells Bacula.
pub(super) fn start(fleet: Arc<Fleet>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut retry = None;
        while fleet.bell.wait(retry) {
            std::thread::sleep(SETTLE);
            if fleet.bell.stopped() {
                return;
            }
            let result = tell(&fleet);
            retry = match &result {
                Ok(()) => None,
                Err(message) => {
                    say(&format!("Bacula was not told: {message}"));
                    Some(retry.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1)))
                }
            };
            fleet.told(result);
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
    // A process group of its own, or the daemon's would keep the automount point from asking.
    command.process_group(0);
    let output =
        command.output().map_err(|error| format!("cannot start {}: {error}", program().display()))?;
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
