//! The parent of the daemon's worker: it keeps the automount point, and has a worker serve it at all times.
//!
//! It owns the process group, the kernel's pipe and the list of open requests ([`Relay`]), and does nothing that can fail
//! or take long. A worker that is killed, hangs, or is ended for lack of memory leaves nobody waiting in the kernel: its
//! requests fail, and the next worker takes over what is mounted. What all drives need, a worker does (`serve`).
//!
//! To systemd or OpenRC this is the daemon: it says when it is ready, feeds the watchdog, passes SIGHUP on, and ends with
//! its worker at SIGTERM. The worker's own watchdog is here: a worker that is silent for too long is killed.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use clap::Parser;
use mount_by_uuid::{Passed, Relay, Stop, System};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, setpgid};
use sd_notify::NotifyState;

use super::journal::{Priority, tell};
use super::signs::{ALIVE, READY};
use super::worker;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::drives::automounters;
use crate::site::description::Site;

/// Timeout for a sign of life from a worker, where systemd sets none.
const SILENCE: Duration = Duration::from_mins(1);

/// Timeout for a worker to begin to serve.
const START: Duration = Duration::from_secs(90);

/// A worker that dies within this time died quickly.
const QUICKLY: Duration = Duration::from_secs(10);

/// The pause after a quick death grows from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Maximum number of workers in a row that die before they serve.
const UNREADY: u32 = 5;

/// Unlocks, mounts and locks the enrolled drives, and keeps Bacula's catalog true.
///
/// SIGTERM ends it and leaves what is mounted as it is, for the next offsited to take over.
#[derive(Debug, Parser)]
#[command(name = "offsited", version)]
pub struct Options {
    /// Looks for /etc, /var, /run, /dev, /proc and /sys below DIR.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Lock every drive that a stopped offsited left mounted, and exit; the system's shutdown does this.
    #[arg(long)]
    pub lock: bool,
    /// Mount the drives where process PID sees them, in its mount namespace, for a daemon that has one of its own.
    #[arg(long, value_name = "PID")]
    pub mounts_of: Option<u32>,
    /// Serve the automount point of the parent process.
    #[arg(long, hide = true)]
    pub worker: bool,
}

/// Does what the options ask for; returns the exit code of a worker that failed and said why.
pub fn run(options: &Options) -> Result<u8, Failure> {
    let root = Root::new(options.root.clone());
    let system = options.mounts_of.into_iter().fold(System::new(root.kernel()), System::with_mounts_of);
    if options.worker {
        return worker::run(&root, system).map(|()| 0);
    }
    lead_a_group()?;
    if options.lock {
        return worker::lock_all(&root, system).map(|()| 0);
    }
    let site = Site::load(&root)?;
    let mount_root = worker::prepare_mount_root(&root, &system, &site)?;
    let relay = Relay::mount(&system, &mount_root, automounters::SOURCE)
        .or_fail(format!("cannot make {} an automount point", mount_root.display()))?;
    Supervisor::new(root, relay, options.mounts_of)?.run()
}

/// Makes the process the leader of a group of its own: the kernel knows who serves an automount point by the group,
/// and whoever started this program must not count as the daemon.
fn lead_a_group() -> Result<(), Failure> {
    match setpgid(Pid::from_raw(0), Pid::from_raw(0)) {
        Ok(()) | Err(Errno::EPERM) => Ok(()), // a session's leader leads its group already
        Err(error) => Err(Failure::because(Exit::Failed, "cannot make a process group", &error)),
    }
}

struct Supervisor {
    root: Root,
    relay: Relay,
    /// The process whose mounts count, if not this one's.
    mounts_of: Option<u32>,
    signals: SignalFd,
    /// What the kernel's choice of a victim for lack of memory was for this process; it is for the workers.
    usual_oom_score: Option<String>,
    worker: Option<Worker>,
    /// When the next worker is started, while there is none.
    start_at: Instant,
    deaths: Deaths,
    /// A worker has served, and systemd knows.
    announced: bool,
    stopping: bool,
    /// How often systemd wants a sign of life at least.
    watchdog: Option<Duration>,
    fed: Instant,
}

struct Worker {
    child: Child,
    started: Instant,
    /// The last sign of life.
    heard: Instant,
    ready: bool,
    killed: bool,
}

impl Supervisor {
    fn new(root: Root, relay: Relay, mounts_of: Option<u32>) -> Result<Self, Failure> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
            mask.add(signal);
        }
        // There is but one thread. A child inherits this, and undoes it.
        mask.thread_block().or_fail("cannot catch signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).or_fail("cannot catch signals")?;
        Ok(Self {
            root,
            relay,
            mounts_of,
            signals,
            usual_oom_score: escape_oom(),
            worker: None,
            start_at: Instant::now(),
            deaths: Deaths::default(),
            announced: false,
            stopping: false,
            watchdog: sd_notify::watchdog_enabled(),
            fed: Instant::now(),
        })
    }

    fn run(mut self) -> Result<u8, Failure> {
        loop {
            if self.worker.is_none() {
                if self.stopping {
                    return self.close(Stop::KeepMounts, 0);
                }
                if self.start_at <= Instant::now() {
                    self.start()?;
                }
            }
            let end = self.next_turn();
            match self.relay.pass_on(&[self.signals.as_fd()], Some(end)) {
                Ok(Passed::Said(READY)) => self.is_ready(),
                Ok(Passed::Said(ALIVE)) => self.heard(),
                Ok(Passed::Woken) => self.take_signals()?,
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error)),
            }
            if let Some(status) = self.ended_worker()?
                && let Some(code) = self.buried(status)?
            {
                let stop = if self.announced { Stop::KeepMounts } else { Stop::Unmount };
                return self.close(stop, code);
            }
            self.watch();
        }
    }

    fn close(self, stop: Stop, code: u8) -> Result<u8, Failure> {
        self.relay.close(stop).or_fail("the automount point was not left clean")?;
        Ok(code)
    }

    /// Starts a worker: this very program, even if another one lies in its place by now.
    fn start(&mut self) -> Result<(), Failure> {
        let failed = "cannot start the worker";
        let link = self.relay.connect().or_fail(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("offsited").arg("--worker").arg("--root").arg(self.root.path()).stdin(link);
        if let Some(pid) = self.mounts_of {
            command.arg("--mounts-of").arg(pid.to_string());
        }
        let limit = self.silence().as_micros().to_string();
        command.env("WATCHDOG_USEC", limit).env_remove("WATCHDOG_PID").env_remove("NOTIFY_SOCKET");
        let child = command.spawn().or_fail(failed)?;
        if let Some(score) = &self.usual_oom_score {
            // A worker that lives on as its parent does is no harm.
            let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), score);
        }
        let now = Instant::now();
        self.worker = Some(Worker { child, started: now, heard: now, ready: false, killed: false });
        Ok(())
    }

    fn silence(&self) -> Duration {
        self.watchdog.unwrap_or(SILENCE)
    }

    /// When there is something to do without anything having come.
    fn next_turn(&self) -> Instant {
        let worker = match &self.worker {
            Some(worker) => self.overdue(worker),
            None => Some(self.start_at),
        };
        let feed = self.watchdog.map(|limit| self.fed + limit / 4);
        let far = Instant::now() + SILENCE;
        [worker, feed].into_iter().flatten().fold(far, Instant::min)
    }

    /// When a worker has been silent for too long. The end takes as long as it takes.
    fn overdue(&self, worker: &Worker) -> Option<Instant> {
        let limit = if worker.ready { self.silence() } else { START };
        (!worker.killed && !self.stopping).then(|| worker.heard + limit)
    }

    fn is_ready(&mut self) {
        self.heard();
        if let Some(worker) = &mut self.worker {
            worker.ready = true;
        }
        if !self.announced {
            notify(&[NotifyState::Ready]);
            self.announced = true;
        }
    }

    fn heard(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.heard = Instant::now();
        }
    }

    fn take_signals(&mut self) -> Result<(), Failure> {
        while let Some(signal) = self.signals.read_signal().or_fail("cannot read signals")? {
            match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGHUP) => self.pass_signal(Signal::SIGHUP),
                Some(Signal::SIGTERM | Signal::SIGINT) => {
                    self.stopping = true;
                    notify(&[NotifyState::Stopping]);
                    self.pass_signal(Signal::SIGTERM);
                }
                _ => {} // a child has ended
            }
        }
        Ok(())
    }

    fn pass_signal(&self, signal: Signal) {
        if let Some(worker) = &self.worker {
            worker.signal(signal);
        }
    }

    fn ended_worker(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let Some(worker) = &mut self.worker else { return Ok(None) };
        worker.child.try_wait().or_fail("cannot wait for the worker")
    }

    /// Answers for a worker that has ended; the code if there is to be no other.
    fn buried(&mut self, status: ExitStatus) -> Result<Option<u8>, Failure> {
        self.relay.cut_off();
        let Some(worker) = self.worker.take() else { return Ok(None) };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        if self.stopping {
            return Ok(Some(code.unwrap_or(Exit::Failed as u8)));
        }
        if !self.relay.is_in_place() {
            let dir = self.relay.dir().display();
            return Err(Failure::new(Exit::Failed, format!("{dir} was taken away"))
                .hint("the supervisor starts offsited again, which takes over what is left"));
        }
        match code {
            Some(code) if !self.announced && code != 0 => return Ok(Some(code)), // it said why it can't start
            _ => {}
        }
        let pid = worker.child.id();
        warn(&format!("the worker (process {pid}) ended: {status}; the next one takes over"));
        match self.deaths.pause(worker.started.elapsed(), worker.ready) {
            Some(pause) => self.start_at = Instant::now() + pause,
            None => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("{UNREADY} workers ended before they served"),
                )
                .hint("their last words are in the journal: journalctl -u offsited"));
            }
        }
        Ok(None)
    }

    /// Kills a worker that hangs, and feeds systemd's watchdog.
    fn watch(&mut self) {
        let now = Instant::now();
        if let Some(worker) = &self.worker
            && self.overdue(worker).is_some_and(|end| end <= now)
        {
            let pid = worker.child.id();
            let silence = worker.heard.elapsed().as_secs();
            warn(&format!("the worker (process {pid}) gave no sign of life for {silence} s: killing it"));
            worker.signal(Signal::SIGKILL);
            // Its threads may hang in the kernel, and it won't end before they do.
            self.relay.cut_off();
            if let Some(worker) = &mut self.worker {
                worker.killed = true;
            }
        }
        if let Some(limit) = self.watchdog
            && self.fed + limit / 4 <= now
        {
            notify(&[NotifyState::Watchdog]);
            self.fed = now;
        }
    }

    /// Ends the worker of an automount point that was taken away.
    fn lost(mut self, error: &mount_by_uuid::RelayError) -> Failure {
        self.relay.cut_off();
        self.pass_signal(Signal::SIGTERM);
        if let Some(worker) = &mut self.worker {
            let _ = worker.child.wait(); // the supervisor's patience is the limit
        }
        Failure::because(Exit::Failed, "offsited can't go on", error)
            .hint("the supervisor starts offsited again, which takes over what is left")
    }
}

impl Worker {
    fn signal(&self, signal: Signal) {
        // Until it was waited for, its number can't be another's.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// How workers died of late.
#[derive(Debug, Default)]
struct Deaths {
    /// So many in a row died quickly.
    quick: u32,
    /// So many in a row died before they served.
    unready: u32,
}

impl Deaths {
    /// Notes a death, and says how long to wait with the next worker; none when there should be no other.
    fn pause(&mut self, lived: Duration, ready: bool) -> Option<Duration> {
        self.quick = if lived < QUICKLY { self.quick.saturating_add(1) } else { 0 };
        self.unready = if ready { 0 } else { self.unready + 1 };
        if self.unready >= UNREADY {
            return None;
        }
        let doubled = 1u32.checked_shl(self.quick.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = PAUSES.0.saturating_mul(doubled).min(PAUSES.1);
        Some(if self.quick == 0 { Duration::ZERO } else { pause })
    }
}

/// Keeps the kernel from choosing this process when memory is lacking; returns what it was before.
fn escape_oom() -> Option<String> {
    let path = "/proc/self/oom_score_adj";
    let usual = std::fs::read_to_string(path).ok()?;
    std::fs::write(path, "-1000").ok().map(|()| usual)
}

/// Tells systemd; without it nothing happens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn(&format!("systemd was not told: {error}"));
    }
}

fn warn(line: &str) {
    tell(Priority::Warning, None, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_with_quick_deaths_and_end_with_a_long_life() {
        let mut deaths = Deaths::default();
        let pauses: Vec<_> = (0..7).map(|_| deaths.pause(SOON, true).unwrap().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        for _ in 0..100 {
            assert_eq!(deaths.pause(SOON, true), Some(PAUSES.1));
        }
        assert_eq!(deaths.pause(QUICKLY, true), Some(Duration::ZERO));
        assert_eq!(deaths.pause(SOON, true), Some(PAUSES.0));
    }

    #[test]
    fn workers_that_never_serve_come_to_an_end() {
        let mut deaths = Deaths::default();
        for _ in 1..UNREADY {
            assert!(deaths.pause(SOON, false).is_some());
        }
        assert!(deaths.pause(SOON, true).is_some(), "one that served begins the count again");
        for _ in 1..UNREADY {
            assert!(deaths.pause(SOON, false).is_some());
        }
        assert_eq!(deaths.pause(SOON, false), None);
    }
}
