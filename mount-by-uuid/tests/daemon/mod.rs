//! A process of its own that serves an automount, to be measured or killed.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::{Automount, AutomountSettings, Passed, Relay, System};
use nix::unistd::Pid;

use crate::keepers::{Blanks, Drives};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(999);

/// The first argument that turns this program into a process that serves an automount.
const ROLE: &str = "--act-as-daemon";

/// The same for one that keeps an automount and has it served by a child.
const RELAY_ROLE: &str = "--act-as-relay";

/// The same for that child.
const SERVER_ROLE: &str = "--act-as-server";

/// Does what the arguments ask for, if it is a role; before anything else, so that it keeps its parent's mounts.
pub(crate) fn act_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, role, rest @ ..] if role == ROLE => Some(act(rest)),
        [_, role, rest @ ..] if role == RELAY_ROLE => Some(relay(rest)),
        [_, role, rest @ ..] if role == SERVER_ROLE => Some(serve(rest)),
        _ => None,
    }
}

/// Keeps the directory `arguments[0]`, and starts a server at each line that it reads; tells what becomes of it.
fn relay(arguments: &[String]) -> ExitCode {
    let [dir, ..] = arguments else { return ExitCode::FAILURE };
    let mut relay = Relay::mount(&System::new(Path::new("/")), Path::new(dir), "offsite").unwrap();
    println!("serving");
    let input = std::io::stdin();
    let mut server: Option<Child> = None;
    loop {
        match relay.pass_on(&[input.as_fd()], None).unwrap() {
            Passed::Woken => {
                if input.read_line(&mut String::new()).unwrap() == 0 {
                    return ExitCode::SUCCESS;
                }
                let link = relay.connect().unwrap();
                let mut command = Command::new("/proc/self/exe");
                let child = command.arg(SERVER_ROLE).args(arguments).stdin(link).spawn().unwrap();
                println!("{}", server.insert(child).id());
            }
            Passed::Said(note) => println!("said {note}"),
            Passed::Gone => {
                server.take().unwrap().wait().unwrap();
                println!("gone");
            }
            Passed::TimedOut => {}
        }
    }
}

/// Serves the directory `arguments[0]` for the relay that is behind its standard input.
fn serve(arguments: &[String]) -> ExitCode {
    let [dir, idle, takes, unmount_takes, devices @ ..] = arguments else { return ExitCode::FAILURE };
    let link = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let settings = AutomountSettings::new(millis(idle));
    let automount = Automount::join(&System::new(Path::new("/")), Path::new(dir), &settings, link).unwrap();
    automount.serve(keeper(takes, unmount_takes, devices)).unwrap();
    automount.tell_relay(7);
    assert!(!automount.wait());
    ExitCode::SUCCESS
}

fn millis(number: &str) -> Duration {
    Duration::from_millis(number.parse().unwrap())
}

fn keeper(takes: &str, unmount_takes: &str, devices: &[String]) -> Arc<Drives> {
    let drives = Drives::default().slow(millis(takes)).slow_to_unmount(millis(unmount_takes));
    for device in devices {
        let (name, path) = device.split_once('=').unwrap();
        drives.plug(name, Path::new(path));
    }
    Arc::new(drives)
}

/// Serves the directory `arguments[0]`, then obeys the lines that it reads.
fn act(arguments: &[String]) -> ExitCode {
    let [dir, idle, takes, unmount_takes, devices @ ..] = arguments else { return ExitCode::FAILURE };
    let automount = Automount::mount(Path::new(dir), millis(idle)).unwrap();
    let drives = keeper(takes, unmount_takes, devices);
    if devices.is_empty() {
        automount.serve(Arc::new(Blanks)).unwrap();
    } else {
        automount.serve(drives.clone()).unwrap();
    }
    println!("serving");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (order, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "resources" => println!("{}", resources()),
            "unmounts" => println!("{}", drives.unmounts()),
            "switches" => println!("{}", switches()),
            "cycles" => {
                for _ in 0..argument.parse().unwrap() {
                    automount.touch_mount("cycle").unwrap();
                    automount.unmount_now("cycle").unwrap();
                }
                println!("done");
            }
            _ => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}

/// Open descriptors, threads, mounts, and resident memory in KiB.
fn resources() -> String {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.split_whitespace().next().unwrap();
    format!("{} {} {mounts} {memory}", count("/proc/self/fd"), count("/proc/self/task"))
}

/// How often the serving threads were given the processor.
fn switches() -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        if status.starts_with("Name:\tautofs-") {
            let switched = status.lines().filter(|line| line.contains("ctxt_switches:"));
            sum +=
                switched.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    sum
}

/// A process that serves an automount, in a process group of its own as a service has.
pub(crate) struct Daemon {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// How a daemon's automount behaves.
pub(crate) struct Pace {
    pub(crate) idle: Duration,
    pub(crate) mount_takes: Duration,
    pub(crate) unmount_takes: Duration,
}

pub(crate) const PROMPT: Pace =
    Pace { idle: LONG, mount_takes: Duration::ZERO, unmount_takes: Duration::ZERO };

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn start(dir: &Path, pace: &Pace, devices: &[(&str, &Path)]) -> Daemon {
        Daemon::start_as(ROLE, dir, pace, devices)
    }

    /// Starts one that keeps the automount for a server, which [`Daemon::next_server`] starts.
    pub(crate) fn start_relay(dir: &Path, pace: &Pace, devices: &[(&str, &Path)]) -> Daemon {
        Daemon::start_as(RELAY_ROLE, dir, pace, devices)
    }

    fn start_as(role: &str, dir: &Path, pace: &Pace, devices: &[(&str, &Path)]) -> Daemon {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(role).arg(dir).process_group(0);
        command
            .args([pace.idle, pace.mount_takes, pace.unmount_takes].map(|time| time.as_millis().to_string()));
        for (name, device) in devices {
            command.arg(format!("{name}={}", device.display()));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Daemon { child, answers };
        assert_eq!(daemon.answer(), "serving");
        daemon
    }

    /// Has a relay start a server, and returns its process when it serves.
    pub(crate) fn next_server(&mut self) -> Pid {
        let server = self.order("serve").parse().unwrap();
        assert_eq!(self.answer(), "said 7");
        Pid::from_raw(server)
    }

    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn order(&mut self, order: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
        self.answer()
    }

    pub(crate) fn resources(&mut self) -> [u64; 4] {
        let numbers: Vec<u64> =
            self.order("resources").split(' ').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
