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
use crate::sandbox::{Visitor, cat, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("after_kill_9_the_mounts_are_taken_over_and_kept", after_kill_9_the_mounts_are_kept),
    ("after_kill_9_those_who_waited_are_released", after_kill_9_those_who_waited_are_released),
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
    let [dir, takes_ms, devices @ ..] = arguments else { return ExitCode::FAILURE };
    let takes = Duration::from_millis(takes_ms.parse().unwrap());
    let automount = Automount::mount(Path::new(dir), Duration::from_secs(999)).unwrap();
    if devices.is_empty() {
        automount.serve(Arc::new(Blanks)).unwrap();
    } else {
        let drives = Drives::default().slow(takes);
        for device in devices {
            let (name, path) = device.split_once('=').unwrap();
            drives.plug(name, Path::new(path));
        }
        automount.serve(Arc::new(drives)).unwrap();
    }
    println!("serving");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (order, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "resources" => println!("{}", resources()),
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

impl Daemon {
    fn start(dir: &Path, takes: Duration, devices: &[(&str, &Path)]) -> Daemon {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).arg(dir).arg(takes.as_millis().to_string()).process_group(0);
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
    let mut daemon = Daemon::start(directory.path(), Duration::ZERO, &devices);
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
    let mut daemon = Daemon::start(directory.path(), LONG, &[(FIRST, drive.path())]);
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

fn an_automount_in_use_is_not_taken_over() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), Duration::ZERO, &[]);
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
    let mut daemon = Daemon::start(directory.path(), Duration::ZERO, &[]);
    assert!(Visitor::start("ls \"$1/a/.\" && umount \"$1/a\"", directory.path()).finish().ok);
    // Looking at the name itself would mount it again.
    let gone = || std::fs::read_dir(directory.path()).unwrap().next().is_none();
    wait_for("the name to be cleaned up", Duration::from_secs(5), gone);
    // The last look for idle names may have been about to begin.
    std::thread::sleep(Duration::from_millis(1500));
    let before = daemon.order("switches");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.order("switches"), before);
    daemon.kill();
    Automount::mount(directory.path(), LONG).unwrap().shutdown(Stop::Unmount).unwrap();
}

fn mounting_and_unmounting_leaks_nothing() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), Duration::ZERO, &[]);
    daemon.order("cycles 20");
    let [descriptors, threads, mounts, memory] = daemon.resources();
    daemon.order("cycles 500");
    // The last worker may still be on its way out.
    let mut now = daemon.resources();
    wait_for("threads to end", Duration::from_secs(5), || {
        now = daemon.resources();
        now.get(1) <= Some(&threads)
    });
    let [descriptors_now, _, mounts_now, memory_now] = now;
    assert_eq!(descriptors_now, descriptors);
    // Other tests mount meanwhile, but not hundreds.
    assert!(mounts_now < mounts + 100, "mounts grew from {mounts} to {mounts_now}");
    assert!(memory_now <= memory + 2048, "memory grew from {memory} to {memory_now} KiB");
    assert!(memory_now < 20 << 10, "{memory_now} KiB are in use");
    daemon.kill();
    Automount::mount(directory.path(), LONG).unwrap().shutdown(Stop::Unmount).unwrap();
}
