//! What outlives the process that serves an automount, and what that process costs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::{AutofsError, Automount, AutomountSettings, Stop, System};
use tempfile::tempdir;

use crate::automount_life::{Drive, FIRST, SECOND, is_mount_point};
use crate::keepers::{Blanks, Drives};
use crate::sandbox::{Visit, Visitor, cat, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("after_kill_9_the_mounts_are_taken_over_and_kept", after_kill_9_the_mounts_are_kept),
    ("after_kill_9_those_who_waited_are_released", after_kill_9_those_who_waited_are_released),
    ("after_kill_9_in_the_midst_of_unmounting_all_is_well", after_kill_9_in_the_midst_of_unmounting),
    ("an_automount_in_use_is_not_taken_over", an_automount_in_use_is_not_taken_over),
    ("a_foreign_automount_is_not_touched", a_foreign_automount_is_not_touched),
    ("a_stop_that_keeps_the_mounts_can_be_taken_over", a_stop_that_keeps_the_mounts),
    ("while_nothing_is_mounted_no_thread_wakes_up", while_nothing_is_mounted_no_thread_wakes_up),
    ("mounting_and_unmounting_leaks_nothing", mounting_and_unmounting_leaks_nothing),
];

/// The first argument that turns this program into a process that serves an automount.
pub(crate) const ROLE: &str = "--act-as-daemon";

/// Serves the directory `arguments[0]`, then obeys the lines that it reads.
pub(crate) fn act(arguments: &[String]) -> ExitCode {
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
struct Daemon {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// How a daemon's automount behaves.
struct Pace {
    idle: Duration,
    mount_takes: Duration,
    unmount_takes: Duration,
}

const PROMPT: Pace = Pace { idle: LONG, mount_takes: Duration::ZERO, unmount_takes: Duration::ZERO };

impl Daemon {
    fn start(dir: &Path, pace: &Pace, devices: &[(&str, &Path)]) -> Daemon {
        Daemon::run(Command::new(std::env::current_exe().unwrap()), dir, pace, devices)
    }

    /// Starts one whose mounts nobody else sees, and which doesn't see others'.
    fn start_secluded(dir: &Path) -> Daemon {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        Daemon::run(command, dir, &PROMPT, &[])
    }

    /// Runs a script with the directory as argument where the daemon's mounts are seen.
    fn visit(&self, script: &str, dir: &Path) -> Visit {
        let inside = format!("exec nsenter --target {} --mount sh -c '{script}' sh \"$1\"", self.child.id());
        Visitor::start(&inside, dir).finish()
    }

    fn run(mut command: Command, dir: &Path, pace: &Pace, devices: &[(&str, &Path)]) -> Daemon {
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

    fn order(&mut self, order: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
        self.answer()
    }

    fn resources(&mut self) -> [u64; 4] {
        let numbers: Vec<u64> =
            self.order("resources").split(' ').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    fn kill(&mut self) {
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

const LONG: Duration = Duration::from_secs(999);

fn after_kill_9_the_mounts_are_kept() {
    let (first, second) = (Drive::new(FIRST), Drive::new(SECOND));
    let devices = [(FIRST, first.path()), (SECOND, second.path())];
    let directory = tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &devices);
    let holder = Visitor::start("exec 3<\"$1\"; read -r _; cat <&3", &path(FIRST).join("hello"));
    wait_for("the drive to be mounted", Duration::from_secs(5), || is_mount_point(&path(FIRST)));
    daemon.kill();
    assert_eq!(cat(&path(FIRST).join("hello")).output, FIRST, "what is mounted stays usable");
    let visit = cat(&path(SECOND).join("hello"));
    assert!(!visit.ok && visit.took < Duration::from_secs(2), "the dead mount nothing: {visit:?}");

    let automount = Automount::mount(directory.path(), Duration::from_secs(1)).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    let drives = Arc::new(Drives::of(&devices));
    automount.serve(drives.clone()).unwrap();
    assert_eq!(cat(&path(SECOND).join("hello")).output, SECOND, "requests are answered again");
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_mount_point(&path(FIRST)), "a busy drive is left untouched");
    assert_eq!(holder.finish().output, FIRST);
    wait_for("idle drives to be unmounted", Duration::from_secs(8), || automount.mounted().is_empty());
    assert_eq!(drives.unmounts(), 2);
    automount.shutdown(Stop::Unmount).unwrap();
    assert!(!is_mount_point(directory.path()));
}

fn after_kill_9_those_who_waited_are_released() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let mut daemon =
        Daemon::start(directory.path(), &Pace { mount_takes: LONG, ..PROMPT }, &[(FIRST, drive.path())]);
    let path = directory.path().join(FIRST).join("hello");
    let mut waiter = Visitor::start("exec cat \"$1\"", &path);
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();
    assert!(waiter.is_waiting());
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    let visit = waiter.finish();
    assert!(visit.error.contains("No such file or directory"), "{visit:?}");
    assert!(automount.mounted().is_empty());
    automount.serve(Arc::new(Drives::of(&[(FIRST, drive.path())]))).unwrap();
    assert_eq!(cat(&path).output, FIRST);
    automount.shutdown(Stop::Unmount).unwrap();
}

fn after_kill_9_in_the_midst_of_unmounting() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let path = directory.path().join(FIRST).join("hello");
    let pace = Pace { idle: Duration::from_secs(1), unmount_takes: LONG, ..PROMPT };
    let mut daemon = Daemon::start(directory.path(), &pace, &[(FIRST, drive.path())]);
    assert!(cat(&path).ok);
    wait_for("unmounting to begin", Duration::from_secs(8), || daemon.order("unmounts") == "1");
    assert_eq!(cat(&path).output, FIRST, "until it is unmounted it can be used");
    daemon.kill();
    assert_eq!(cat(&path).output, FIRST);
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    automount.serve(Arc::new(Drives::of(&[(FIRST, drive.path())]))).unwrap();
    automount.unmount_now(FIRST).unwrap();
    assert_eq!(cat(&path).output, FIRST);
    automount.shutdown(Stop::Unmount).unwrap();
}

fn an_automount_in_use_is_not_taken_over() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &[]);
    match Automount::mount(directory.path(), LONG) {
        Err(AutofsError::InUse { owner, .. }) => {
            assert!(owner.contains(&daemon.child.id().to_string()), "{owner}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Visitor::start("ls \"$1/a/.\"", directory.path()).finish().ok, "it goes on to serve");
    daemon.kill();
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    automount.serve(Arc::new(Blanks)).unwrap();
    assert!(matches!(automount.serve(Arc::new(Blanks)), Err(AutofsError::NotIdle { .. })));
    automount.shutdown(Stop::Unmount).unwrap();
}

fn a_foreign_automount_is_not_touched() {
    let directory = tempdir().unwrap();
    let settings = AutomountSettings { source: "other".to_owned(), ..AutomountSettings::new(LONG) };
    let system = System::new(Path::new("/"));
    let foreign = Automount::mount_with(&system, directory.path(), &settings).unwrap();
    let error = Automount::mount(directory.path(), LONG).unwrap_err();
    assert!(matches!(&error, AutofsError::Foreign { owner, .. } if owner == "other"), "{error:?}");
    drop(foreign);
    assert!(!is_mount_point(directory.path()), "dropping an empty automount removes it");
}

fn a_stop_that_keeps_the_mounts() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let path = directory.path().join(FIRST).join("hello");
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    automount.serve(drives.clone()).unwrap();
    assert!(cat(&path).ok);
    automount.shutdown(Stop::KeepMounts).unwrap();
    drop(automount);
    assert_eq!(cat(&path).output, FIRST);
    let visit = cat(&directory.path().join(SECOND));
    assert!(!visit.ok && visit.took < Duration::from_secs(1), "{visit:?}");
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    automount.serve(drives.clone()).unwrap();
    automount.shutdown(Stop::Unmount).unwrap();
    assert_eq!((drives.mounts(), drives.unmounts()), (1, 1));
    assert!(!is_mount_point(directory.path()));
}

fn while_nothing_is_mounted_no_thread_wakes_up() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start_secluded(directory.path());
    let visit = daemon.visit("ls \"$1/a/.\" && umount \"$1/a\"", directory.path());
    assert!(visit.ok, "{visit:?}");
    // Looking at the name itself would mount it again.
    let gone = || daemon.visit("ls -A \"$1\"", directory.path()).output.is_empty();
    wait_for("the name to be cleaned up", Duration::from_secs(5), gone);
    // The last look for idle names may have been about to begin.
    std::thread::sleep(Duration::from_millis(1500));
    let before = daemon.order("switches");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.order("switches"), before);
}

fn mounting_and_unmounting_leaks_nothing() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &[]);
    daemon.order("cycles 20");
    let [descriptors, threads, mounts, memory] = daemon.resources();
    daemon.order("cycles 500");
    // The last worker may still be on its way out, or the mount table being read.
    let mut now = daemon.resources();
    wait_for("threads and descriptors to go", Duration::from_secs(5), || {
        now = daemon.resources();
        now.first() <= Some(&descriptors) && now.get(1) <= Some(&threads)
    });
    let [_, _, mounts_now, memory_now] = now;
    // Other tests mount meanwhile, but not hundreds.
    assert!(mounts_now < mounts + 100, "mounts grew from {mounts} to {mounts_now}");
    assert!(memory_now <= memory + 2048, "memory grew from {memory} to {memory_now} KiB");
    assert!(memory_now < 20 << 10, "{memory_now} KiB are in use");
    daemon.kill();
    Automount::mount(directory.path(), LONG).unwrap().shutdown(Stop::Unmount).unwrap();
}
