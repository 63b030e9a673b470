//! A process of its own that serves an automount, to be measured or killed.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::Automount;

use crate::keepers::{Blanks, Drives};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(999);

/// The first argument that turns this program into a process that serves an automount.
const ROLE: &str = "--act-as-daemon";

/// Does what the arguments ask for, if it is this role; before anything else, so that it keeps its parent's mounts.
pub(crate) fn act_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, role, rest @ ..] if role == ROLE => Some(act(rest)),
        _ => None,
    }
}

/// Serves the directory `arguments[0]`, then obeys the lines that it reads.
fn act(arguments: &[String]) -> ExitCode {
    let [dir, idle, takes, unmount_takes, devices @ ..] = arguments else { return ExitCode::FAILURE };
    let [idle, takes, unmount_takes] =
        [idle, takes, unmount_takes].map(|millis| Duration::from_millis(millis.parse().unwrap()));
    let automount = Automount::mount(Path::new(dir), idle).unwrap();
    let drives = Arc::new(Drives::default().slow(takes).slow_to_unmount(unmount_takes));
    for device in devices {
        let (name, path) = device.split_once('=').unwrap();
        drives.plug(name, Path::new(path));
    }
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
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).arg(dir).process_group(0);
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

    fn answer(&mut self) -> String {
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
