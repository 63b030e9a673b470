//! The worker of `offsited`: follows plugging and unplugging, unlocks on access, locks when idle, keeps Bacula told.
//!
//! It serves the automount point that its parent keeps ([`supervise`](crate::daemon::supervise)), and may die at any moment.
//!
//! Four kinds of threads share one `Fleet`: this one waits for the kernel's hot-plug events and for
//! signals; the autofs server asks for mounts and unmounts; the control socket answers people; one
//! thread tells Bacula. Whatever works on a drive holds that drive's lock (`Drive::work`), and nothing
//! waits for one drive while holding what another needs. No work is ever done inside a udev worker.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mount_by_uuid::{AutofsError, Automount, AutomountSettings, Event, Hotplug, Stop, System};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::unistd::dup2_stdin;
use signal_hook::consts::SIGHUP;

use super::drive::Plugged;
use super::fleet::Fleet;
use super::journal::{say, warn};
use super::signals::Signals;
use super::signs::{ALIVE, READY};
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::mount_root;
use crate::base::paths::Root;
use crate::drives::automounters::{self, SOURCE};
use crate::site::description::Site;

/// How long drives may stay busy when all are to be locked.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// Serves the automount point of the parent process until SIGTERM or SIGINT, and leaves what is mounted as it is.
pub(crate) fn run(root: &Root, system: System) -> Result<(), Failure> {
    let link = take_link()?;
    // The parent waits for these signals otherwise, and a child inherits that.
    SigSet::all().thread_unblock().or_fail("cannot catch signals")?;
    prctl::set_name(c"offsited").or_fail("cannot set the name of this process")?;
    let site = Site::load(root)?;
    super::reload::check_key(root, &site)?;
    let mount_root = root.join(&site.mount_root);
    make_directories(root)?;
    // Signals and events are caught before the first look, so that nothing falls between the two.
    let signals = Signals::catch()?;
    let mut hotplug = Hotplug::listen(&system).or_fail("cannot follow hot-plug events")?;
    let socket = super::control::bind(root)?;

    let settings = AutomountSettings { source: SOURCE.to_owned(), ..AutomountSettings::new(site.idle()) };
    let automount = Automount::join(&system, &mount_root, &settings, link)
        .or_fail(format!("cannot serve {}", mount_root.display()))
        .map_err(|failure| failure.hint("if mount_root was changed: systemctl restart offsited"))?;
    let (fleet, automount) = fleet_of(root, system, site, automount)?;
    // Who asks for a drive meanwhile waits in the kernel: nothing may be opened before it is known what is ejected.
    fleet.take_over();
    fleet.rescan();
    automount
        .serve(Arc::new(super::fleet::Keeper::new(Arc::clone(&fleet))))
        .or_fail("cannot serve the automount point")?;
    let teller = super::catalog::start(Arc::clone(&fleet));
    super::director_thread::start(Arc::clone(&fleet));
    super::health::start(Arc::clone(&fleet));
    super::control::start(socket, Arc::clone(&fleet));
    let lost = stop_when_lost(&automount, &signals)?;
    automount.tell_relay(READY);
    say("ready");

    let result = follow(&fleet, &mut hotplug, &signals);
    let ended = if lost.load(Ordering::SeqCst) {
        let what = format!("{} was taken away, or the parent process ended", mount_root.display());
        Err(Failure::new(Exit::Failed, what)
            .hint("the supervisor starts offsited again, which takes over what is left"))
    } else {
        fleet.stop_telling();
        let _ = teller.join(); // a thread that panicked has nothing more to tell
        let stopped = automount.shutdown(Stop::KeepMounts);
        stopped.or_fail("the mount point was not left clean").map(|()| match fleet.mounted().as_slice() {
            [] => say("stopped"),
            names => say(&format!("stopped; mounted until the next start: {}", names.join(", "))),
        })
    };
    fleet.end_work();
    ended.and(result)
}

/// Locks whatever an offsited that was stopped has left mounted or unlocked.
pub(crate) fn lock_all(root: &Root, system: System) -> Result<(), Failure> {
    let site = Site::load(root)?;
    make_directories(root)?;
    let mount_root = prepare_mount_root(root, &system, &site)?;
    let settings = AutomountSettings { source: SOURCE.to_owned(), ..AutomountSettings::new(site.idle()) };
    let automount = Automount::mount_with(&system, &mount_root, &settings).map_err(|error| {
        let failure = Failure::because(Exit::Failed, "the drives can't be locked", &error);
        match error {
            AutofsError::InUse { .. } => failure.hint(
                "offsited is running: stop it first (systemctl stop offsited), or lock one drive: offsite lock",
            ),
            _ => failure,
        }
    })?;
    let (fleet, automount) = fleet_of(root, system, site, automount)?;
    fleet.take_over();
    fleet.rescan();
    automount
        .serve(Arc::new(super::fleet::Keeper::new(Arc::clone(&fleet))))
        .or_fail("cannot serve the automount point")?;
    let end = Instant::now() + BUSY_LIMIT;
    let mut stopped = automount.shutdown(Stop::Unmount);
    // What is unmounted may be in use elsewhere.
    while Instant::now() < end && (stopped.is_err() || !fleet.mounted().is_empty()) {
        std::thread::sleep(Duration::from_millis(200));
        stopped = automount.shutdown(Stop::Unmount);
    }
    fleet.retire();
    let left = fleet.mounted();
    fleet.end_work();
    stopped.or_fail("not every drive was locked")?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("still in use, and not locked: {}", left.join(", ")))
        .hint("end what uses them: fuser -vm DEVICE"))
}

/// Makes the daemon's directories, or takes them back from whoever could change them.
fn make_directories(root: &Root) -> Result<(), Failure> {
    let open = [root.state_dir(), root.join("/run/offsite"), root.join("/run/offsite/magazines")];
    open.iter().try_for_each(|directory| atomic_file::directory_of(directory, Owner::own(), 0o755))?;
    atomic_file::directory_of(&root.torn_dir(), Owner::own(), 0o700)
}

/// Makes the directory of the automount point, unless it would hide something.
pub(crate) fn prepare_mount_root(root: &Root, system: &System, site: &Site) -> Result<PathBuf, Failure> {
    let mount_root = root.join(&site.mount_root);
    // The mount table knows it by this name.
    let real = mount_root.canonicalize().unwrap_or_else(|_| mount_root.clone());
    automounters::refuse(root, system, &real, SOURCE)?;
    mount_root::check(system, &real)?;
    atomic_file::directory(&mount_root, 0o755)?;
    Ok(mount_root)
}

/// The drives of a site at an automount point.
fn fleet_of(
    root: &Root,
    system: System,
    site: Site,
    automount: Automount,
) -> Result<(Arc<Fleet>, Arc<Automount>), Failure> {
    let askers = super::askers::Askers::of(&site);
    automount.set_access(&askers.access()).or_fail("cannot protect the automount point")?;
    let automount = Arc::new(automount);
    let flusher = super::flush::start(root.clone(), system.clone());
    let fleet = Fleet::new(root.clone(), system, site, askers, Arc::clone(&automount), flusher);
    Ok((Arc::new(fleet), automount))
}

/// Takes the parent's socket from where it is handed over, so that no child of this process inherits it.
fn take_link() -> Result<OwnedFd, Failure> {
    let failed = "cannot take the parent's socket";
    let link = std::io::stdin().as_fd().try_clone_to_owned().or_fail(failed)?;
    let nothing = File::open("/dev/null").or_fail(failed)?;
    dup2_stdin(nothing).or_fail(failed)?;
    Ok(link)
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
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 4);
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
            fleet.automount.tell_relay(ALIVE);
            fed = Instant::now();
        }
        if signal {
            match signals.take() {
                Some(SIGHUP) => drop(fleet.reload()), // it says how that ended
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
                warn(&format!("{}; every drive is looked at anew", crate::base::failure::chain(&error)));
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
