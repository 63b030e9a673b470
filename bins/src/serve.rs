//! `offsited`: follows plugging and unplugging, unlocks on access, locks when idle, keeps Bacula told.
//!
//! Four kinds of threads share one `Fleet`: this one waits for the kernel's hot-plug events and for
//! signals; the autofs server asks for mounts and unmounts; the control socket answers people; one
//! thread tells Bacula. Whatever works on a drive holds that drive's lock (`Drive::work`), and nothing
//! waits for one drive while holding what another needs. No work is ever done inside a udev worker.

mod catalog;
mod control;
mod custody;
mod drive;
mod eject;
mod fleet;
mod flush;
mod open;

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use mount_by_uuid::{Automount, Event, EventDevice, Hotplug, Stop, System};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, setpgid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::site::Site;

use drive::Plugged;
use fleet::Fleet;

/// Unlocks, mounts and locks the enrolled drives, and keeps Bacula's catalog true.
#[derive(Debug, Parser)]
#[command(name = "offsited", version)]
pub struct Options {
    /// Looks for /etc, /var, /run, /dev, /proc and /sys below DIR.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Leaves the mounts in place when stopped, for a restart that nobody notices.
    #[arg(long)]
    pub keep_mounts: bool,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(options: &Options) -> Result<(), Failure> {
    let root = Root::new(options.root.clone());
    lead_a_group()?;
    let site = Site::load(&root)?;
    if site.magazines.iter().any(|m| m.luks_uuid.is_some()) {
        crate::keyring::Keyring::load(&root, &site).map(drop)?;
    }
    let system = System::new(root.kernel());
    let mount_root = root.join(&site.mount_root);
    for directory in [&mount_root, &root.join("/run/offsite"), &root.torn_dir()] {
        std::fs::create_dir_all(directory).or_fail(format!("cannot make {}", directory.display()))?;
    }
    // Signals and events are caught before the first look, so that nothing falls between the two.
    let signals = Signals::catch()?;
    let mut hotplug = Hotplug::listen(&system).or_fail("cannot follow hot-plug events")?;
    let socket = control::bind(&root)?;

    let automount = Automount::mount(&mount_root, site.idle())
        .or_fail(format!("cannot make {} an automount point", mount_root.display()))?;
    let automount = Arc::new(automount);
    let flusher = flush::start()?;
    let fleet = Arc::new(Fleet::new(root, system, site, Arc::clone(&automount), flusher));
    automount
        .serve(Arc::new(fleet::Keeper::new(Arc::clone(&fleet))))
        .or_fail("cannot serve the automount point")?;
    fleet.take_over();
    fleet.rescan();
    let teller = catalog::start(Arc::clone(&fleet));
    control::start(socket, Arc::clone(&fleet));
    notify(&[sd_notify::NotifyState::Ready]);
    say("ready");

    let result = follow(&fleet, &mut hotplug, &signals);
    notify(&[sd_notify::NotifyState::Stopping]);
    fleet.stop_telling();
    let _ = teller.join(); // a thread that panicked has nothing more to tell
    let stop = if options.keep_mounts { Stop::KeepMounts } else { Stop::Unmount };
    automount.shutdown(stop).or_fail("the mount point was not left clean")?;
    if !options.keep_mounts {
        fleet.retire();
    }
    say("stopped");
    result
}

/// Makes the process the leader of a group of its own: the kernel knows who serves an automount point by the group,
/// and whoever started this program must not count as the daemon.
fn lead_a_group() -> Result<(), Failure> {
    match setpgid(Pid::from_raw(0), Pid::from_raw(0)) {
        Ok(()) | Err(Errno::EPERM) => Ok(()), // a session's leader leads its group already
        Err(error) => Err(Failure::because(Exit::Failed, "cannot make a process group", &error)),
    }
}

/// Follows events and signals until one of them says stop.
fn follow(fleet: &Arc<Fleet>, hotplug: &mut Hotplug, signals: &Signals) -> Result<(), Failure> {
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut fed = Instant::now();
    loop {
        let wait = watchdog.map(|every| every.saturating_sub(fed.elapsed()));
        let timeout =
            wait.map_or(PollTimeout::NONE, |w| PollTimeout::try_from(w).unwrap_or(PollTimeout::ZERO));
        let (event, signal) = {
            let mut fds = [
                PollFd::new(hotplug.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.stream.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(Failure::because(Exit::Failed, "cannot wait for events", &error)),
            }
            let [event, signal] = &fds;
            (event.any().unwrap_or(false), signal.any().unwrap_or(false))
        };
        if let Some(every) = watchdog
            && fed.elapsed() >= every
        {
            notify(&[sd_notify::NotifyState::Watchdog]);
            fed = Instant::now();
        }
        if signal {
            match signals.take() {
                Some(SIGHUP) => reload(fleet),
                Some(_) => return Ok(()),
                None => {}
            }
        }
        if event {
            // Everything that has come is taken before the next wait.
            loop {
                match hotplug.next(Some(Duration::ZERO)) {
                    Ok(Some(event)) => act(fleet, &event, hotplug.is_from_udevd()),
                    Ok(None) => break,
                    Err(error) => {
                        say(&format!("events were lost ({error}): looking at every drive anew"));
                        fleet.rescan();
                        break;
                    }
                }
            }
        }
    }
}

fn act(fleet: &Arc<Fleet>, event: &Event, from_udevd: bool) {
    let plugged = |d: &EventDevice| Plugged { path: d.path.clone(), devnum: d.devnum };
    match event {
        Event::Added { device } | Event::Changed { device } => match &device.tag {
            Some(tag) => fleet.arrived(tag, &plugged(device)),
            // udevd has looked and found nothing; the kernel alone doesn't look.
            None if from_udevd => {}
            None => fleet.arrived_unknown(&plugged(device)),
        },
        Event::Removed { device } => fleet.left(device.devnum),
        _ => fleet.rescan(),
    }
}

fn reload(fleet: &Arc<Fleet>) {
    match fleet.reload() {
        Ok(message) => say(&message),
        Err(failure) => say(&format!("site.toml was not taken, the old one stays: {}", failure.message())),
    }
}

/// Signals as bytes of a stream, so that they can be waited for beside the events.
struct Signals {
    stream: UnixStream,
    hangup: UnixStream,
}

impl Signals {
    fn catch() -> Result<Self, Failure> {
        let failed = "cannot catch signals";
        let (stream, waker) = UnixStream::pair().or_fail(failed)?;
        let (hangup, marker) = UnixStream::pair().or_fail(failed)?;
        for end in [&stream, &hangup] {
            end.set_nonblocking(true).or_fail(failed)?;
        }
        // SIGHUP leaves its mark first, then wakes.
        signal_hook::low_level::pipe::register(SIGHUP, marker).or_fail(failed)?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let waker = waker.try_clone().or_fail(failed)?;
            signal_hook::low_level::pipe::register(signal, waker).or_fail(failed)?;
        }
        Ok(Self { stream, hangup })
    }

    /// The signal that came, SIGTERM standing for SIGINT too.
    fn take(&self) -> Option<i32> {
        let mut byte = [0];
        let mut one = |mut end: &UnixStream| matches!(end.read(&mut byte), Ok(1));
        one(&self.stream).then(|| if one(&self.hangup) { SIGHUP } else { SIGTERM })
    }
}

/// Tells the supervisor; without one nothing happens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        say(&format!("the supervisor was not told: {error}"));
    }
}

/// One line for the journal.
fn say(line: &str) {
    eprintln!("offsited: {line}");
}
