//! An automount that one process keeps and another one serves.

use std::path::Path;
use std::time::Duration;

use mount_by_uuid::{AutofsError, Automount, AutomountSettings, Relay, Stop, System};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

use crate::automount_life::{Drive, FIRST, SECOND, is_mount_point};
use crate::daemon::{Daemon, PROMPT, Pace};
use crate::sandbox::{Visitor, cat, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("when_the_server_dies_those_who_wait_are_released", when_the_server_dies),
    ("what_a_dead_server_mounted_stays_and_the_next_one_serves", what_a_dead_server_mounted_stays),
    ("who_comes_between_two_servers_waits_for_the_next_one", who_comes_between_two_servers),
    ("without_a_server_nobody_waits_long", without_a_server_nobody_waits_long),
    ("a_server_that_takes_nothing_in_holds_nobody_when_it_dies", a_server_that_takes_nothing_in),
    ("when_the_relay_dies_its_server_releases_those_who_wait", when_the_relay_dies),
    ("who_is_not_in_the_relay_s_group_can_t_join_it", who_is_not_in_the_group),
];

const LONG: Duration = Duration::from_secs(999);
const AGAIN: &str = "Resource temporarily unavailable";

/// Waits until a process waits for the automounter.
fn wait_until_waiting(visitor: &Visitor) {
    let waits = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", visitor.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('D')
    };
    wait_for("a visitor to wait", Duration::from_secs(20), waits);
}

fn when_the_server_dies() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let pace = Pace { mount_takes: LONG, ..PROMPT };
    let mut relay = Daemon::start_relay(directory.path(), &pace, &[(FIRST, drive.path())]);
    let path = directory.path().join(FIRST).join("hello");
    for _ in 0..3 {
        let server = relay.next_server();
        let visitors = [(); 3].map(|()| Visitor::start("exec cat \"$1\"", &path));
        visitors.iter().for_each(wait_until_waiting);
        kill(server, Signal::SIGKILL).unwrap();
        assert_eq!(relay.answer(), "gone");
        for visitor in visitors {
            let visit = visitor.finish();
            assert!(visit.error.contains(AGAIN), "{visit:?}");
        }
    }
    take_down(relay, directory.path());
}

fn what_a_dead_server_mounted_stays() {
    let (first, second) = (Drive::new(FIRST), Drive::new(SECOND));
    let devices = [(FIRST, first.path()), (SECOND, second.path())];
    let directory = tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).join("hello");
    let pace = Pace { idle: Duration::from_secs(1), ..PROMPT };
    let mut relay = Daemon::start_relay(directory.path(), &pace, &devices);
    let server = relay.next_server();
    let holder = Visitor::start("exec 3<\"$1\"; read -r _; cat <&3", &path(FIRST));
    holder.wait_until_holding(&path(FIRST));
    kill(server, Signal::SIGKILL).unwrap();
    assert_eq!(relay.answer(), "gone");
    assert_eq!(cat(&path(FIRST)).output, FIRST, "what is mounted stays usable");
    relay.next_server();
    assert_eq!(cat(&path(SECOND)).output, SECOND, "requests are answered again");
    assert_eq!(holder.finish().output, FIRST);
    let idle = || !is_mount_point(path(FIRST).parent().unwrap());
    wait_for("the drive to be unmounted as it is idle", Duration::from_secs(20), idle);
    take_down(relay, directory.path());
}

fn who_comes_between_two_servers() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let mut relay = Daemon::start_relay(directory.path(), &PROMPT, &[(FIRST, drive.path())]);
    let path = directory.path().join(FIRST).join("hello");
    for _ in 0..2 {
        let early = Visitor::start("exec cat \"$1\"", &path);
        wait_until_waiting(&early);
        let server = relay.next_server();
        assert_eq!(early.finish().output, FIRST);
        // The next round has to mount it again.
        nix::mount::umount(path.parent().unwrap()).unwrap();
        kill(server, Signal::SIGKILL).unwrap();
        assert_eq!(relay.answer(), "gone");
    }
    take_down(relay, directory.path());
}

fn without_a_server_nobody_waits_long() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let mut relay = Daemon::start_relay(directory.path(), &PROMPT, &[(FIRST, drive.path())]);
    let path = directory.path().join(FIRST).join("hello");
    for _ in 0..2 {
        let visit = cat(&path);
        assert!(visit.error.contains(AGAIN), "{visit:?}");
    }
    relay.next_server();
    assert_eq!(cat(&path).output, FIRST);
    take_down(relay, directory.path());
}

fn a_server_that_takes_nothing_in() {
    let directory = tempdir().unwrap();
    let mut relay = Daemon::start_relay(directory.path(), &PROMPT, &[]);
    let server = relay.next_server();
    kill(server, Signal::SIGSTOP).unwrap();
    // Far more than the socket and the kernel's pipe take together.
    let crowd = "for n in $(seq 600); do cat \"$1/n$n\" & done 2>&1; wait";
    let visitor = Visitor::start(crowd, directory.path());
    std::thread::sleep(Duration::from_secs(1));
    kill(server, Signal::SIGKILL).unwrap();
    assert_eq!(relay.answer(), "gone");
    let visit = visitor.finish();
    assert_eq!(visit.output.matches(AGAIN).count(), 600, "{visit:?}");
    take_down(relay, directory.path());
}

fn when_the_relay_dies() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let pace = Pace { mount_takes: LONG, ..PROMPT };
    let path = directory.path().join(FIRST).join("hello");
    for stopped in [false, true, false, true] {
        let mut relay = Daemon::start_relay(directory.path(), &pace, &[(FIRST, drive.path())]);
        let server = relay.next_server();
        if stopped {
            // It dies with a request that it has not passed on.
            kill(Pid::from_raw(relay.pid().cast_signed()), Signal::SIGSTOP).unwrap();
        }
        let visitor = Visitor::start("exec cat \"$1\"", &path);
        wait_until_waiting(&visitor);
        relay.kill();
        let visit = visitor.finish();
        assert!(!visit.ok, "{visit:?}");
        wait_for("the server to end as well", Duration::from_secs(20), || kill(server, None).is_err());
    }
    Automount::mount(directory.path(), LONG).unwrap().shutdown(Stop::Unmount).unwrap();
}

fn who_is_not_in_the_group() {
    let (directory, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    let system = System::new(Path::new("/"));
    let mut other = Relay::mount(&system, elsewhere.path(), "offsite").unwrap();
    let mut join = || {
        let link = other.connect().unwrap();
        Automount::join(&system, directory.path(), &AutomountSettings::new(LONG), link).unwrap_err()
    };
    let error = join();
    assert!(matches!(error, AutofsError::NotRelayed { .. }), "{error:?}");
    let mut relay = Daemon::start_relay(directory.path(), &PROMPT, &[]);
    let error = join();
    assert!(matches!(error, AutofsError::ProcessGroup { .. }), "{error:?}");
    relay.next_server();
    assert!(cat(&directory.path().join("n")).error.contains("No such file"), "it doesn't serve");
    take_down(relay, directory.path());
    other.close(Stop::Unmount).unwrap();
    assert!(!is_mount_point(elsewhere.path()));
}

fn take_down(mut relay: Daemon, dir: &Path) {
    relay.kill();
    let taken_over = || match Automount::mount(dir, LONG) {
        Ok(automount) => {
            automount.shutdown(Stop::Unmount).unwrap_or_default();
            true
        }
        Err(AutofsError::InUse { .. }) => false,
        Err(error) => panic!("{error:?}"),
    };
    wait_for("the automount to be free", Duration::from_secs(20), taken_over);
}
