//! `offsited`: follows plugging and unplugging, unlocks on access, locks when idle, keeps Bacula told.
//!
//! Four kinds of threads share one `Fleet`: this one waits for the kernel's hot-plug events and for
//! signals; the autofs server asks for mounts and unmounts; the control socket answers people; one
//! thread tells Bacula. Whatever works on a drive holds that drive's lock (`Drive::work`), and nothing
//! waits for one drive while holding what another needs. No work is ever done inside a udev worker.

mod askers;
mod catalog;
mod check;
mod checker;
mod control;
mod custody;
mod director;
mod drive;
mod eject;
mod fleet;
mod flush;
mod health;
mod journal;
mod open;
mod reload;
mod signals;
mod since;
mod take_over;
mod users;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use mount_by_uuid::{Automount, Event, Hotplug, Stop, System};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, setpgid};
use signal_hook::consts::SIGHUP;

use crate::durable::{self, Owner};
use crate::failure::{Exit, Failure, OrFail as _};
use crate::mount_root;
use crate::paths::Root;
use crate::site::Site;

use drive::Plugged;
use fleet::Fleet;
use signals::Signals;

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
    reload::check_key(&root, &site)?;
    let system = System::new(root.kernel());
    let mount_root = root.join(&site.mount_root);
    make_directories(&root)?;
    mount_root::check(&system, &mount_root)?;
    durable::directory(&mount_root, 0o755)?;
    // Signals and events are caught before the first look, so that nothing falls between the two.
    let signals = Signals::catch()?;
    let mut hotplug = Hotplug::listen(&system).or_fail("cannot follow hot-plug events")?;
    let socket = control::bind(&root)?;

    let automount = Automount::mount(&mount_root, site.idle())
        .or_fail(format!("cannot make {} an automount point", mount_root.display()))?;
    let askers = askers::Askers::of(&site);
    automount.set_access(&askers.access()).or_fail("cannot protect the automount point")?;
    let automount = Arc::new(automount);
    let flusher = flush::start(root.clone());
    let fleet = Arc::new(Fleet::new(root, system, site, askers, Arc::clone(&automount), flusher));
    // Who asks for a drive meanwhile waits in the kernel: nothing may be opened before it is known what is ejected.
    fleet.take_over();
    fleet.rescan();
    automount
        .serve(Arc::new(fleet::Keeper::new(Arc::clone(&fleet))))
        .or_fail("cannot serve the automount point")?;
    let teller = catalog::start(Arc::clone(&fleet));
    director::start(Arc::clone(&fleet));
    health::start(Arc::clone(&fleet));
    control::start(socket, Arc::clone(&fleet));
    let lost = stop_when_lost(&automount, &signals)?;
    notify(&[sd_notify::NotifyState::Ready]);
    say("ready");

    let result = follow(&fleet, &mut hotplug, &signals);
    notify(&[sd_notify::NotifyState::Stopping]);
    let ended = if lost.load(Ordering::SeqCst) {
        Err(Failure::new(Exit::Failed, format!("{} was taken away", mount_root.display()))
            .hint("the supervisor starts offsited again, which takes over what is left"))
    } else {
        fleet.stop_telling();
        let _ = teller.join(); // a thread that panicked has nothing more to tell
        let stop = if options.keep_mounts { Stop::KeepMounts } else { Stop::Unmount };
        let stopped = automount.shutdown(stop);
        if !options.keep_mounts {
            fleet.retire();
        }
        stopped.or_fail("the mount point was not left clean").map(|()| say("stopped"))
    };
    fleet.end_work();
    ended.and(result)
}

/// Makes the daemon's directories, or takes them back from whoever could change them.
fn make_directories(root: &Root) -> Result<(), Failure> {
    let open = [root.state_dir(), root.join("/run/offsite"), root.join("/run/offsite/magazines")];
    open.iter().try_for_each(|directory| durable::directory_of(directory, Owner::own(), 0o755))?;
    durable::directory_of(&root.torn_dir(), Owner::own(), 0o700)
}

/// Makes the process the leader of a group of its own: the kernel knows who serves an automount point by the group,
/// and whoever started this program must not count as the daemon.
fn lead_a_group() -> Result<(), Failure> {
    match setpgid(Pid::from_raw(0), Pid::from_raw(0)) {
        Ok(()) | Err(Errno::EPERM) => Ok(()), // a session's leader leads its group already
        Err(error) => Err(Failure::because(Exit::Failed, "cannot make a process group", &error)),
    }
}

/// Ends the daemon when somebody else unmounts its automount point or makes it dumb; the next one begins anew.
fn stop_when_lost(automount: &Arc<Automount>, signals: &Signals) -> Result<Arc<AtomicBool>, Failure> {
    let lost = Arc::new(AtomicBool::new(false));
    let (automount, mark) = (Arc::clone(automount), Arc::clone(&lost));
    let mut waker = signals.waker.try_clone().or_fail("cannot watch over the automount point")?;
    std::thread::spawn(move || {
        if !automount.wait() {
            mark.store(true, Ordering::SeqCst);
            let _ = waker.write(&[0]); // a full pipe wakes as well
        }
    });
    Ok(lost)
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
            take_events(fleet, hotplug)?;
        }
    }
}

/// Takes what has come, but no more than this before signals and the watchdog have their turn.
const EVENTS_AT_A_TIME: usize = 256;

fn take_events(fleet: &Arc<Fleet>, hotplug: &mut Hotplug) -> Result<(), Failure> {
    for _ in 0..EVENTS_AT_A_TIME {
        match hotplug.next(Some(Duration::ZERO)) {
            Ok(Some(event)) => act(fleet, &event, hotplug.is_from_udevd()),
            Ok(None) => break,
            Err(error) => {
                warn(&format!("{}; every drive is looked at anew", crate::failure::chain(&error)));
                *hotplug = Hotplug::listen(&fleet.system).or_fail("cannot follow hot-plug events")?;
                fleet.rescan();
                break;
            }
        }
    }
    Ok(())
}

fn act(fleet: &Arc<Fleet>, event: &Event, from_udevd: bool) {
    match event {
        // The kernel alone doesn't look at what a device carries.
        Event::Added { device } | Event::Changed { device } if !from_udevd => {
            fleet.arrived_unknown(&Plugged::from(device));
        }
        Event::Added { device } | Event::Changed { device } => {
            fleet.carries(&Plugged::from(device), device.tag.as_ref());
        }
        Event::Removed { device } => fleet.left(&Plugged::from(device)),
        _ => {
            warn("events were lost: looking at every drive anew");
            fleet.rescan();
        }
    }
}

fn reload(fleet: &Arc<Fleet>) {
    match fleet.reload() {
        Ok(message) => say(&message),
        Err(failure) => warn(&format!("site.toml was not taken, the old one stays: {}", failure.message())),
    }
}

/// Tells the supervisor; without one nothing happens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn(&format!("the supervisor was not told: {error}"));
    }
}

/// One line for the journal.
fn say(line: &str) {
    journal::tell(journal::Priority::Info, None, line);
}

/// One line about what is wrong.
fn warn(line: &str) {
    journal::tell(journal::Priority::Warning, None, line);
}
