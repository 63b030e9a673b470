//! What a process that serves an automount costs. Apart from the other tests, whose mounting it would take note of.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod keepers;
mod sandbox;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use daemon::{Daemon, PROMPT};
use mount_by_uuid::{Automount, Stop};
use sandbox::{Visitor, wait_for};
use tempfile::tempdir;

fn main() -> ExitCode {
    if let Some(code) = daemon::act_if_asked() {
        return code;
    }
    let lacking = sandbox::enter().or_else(sandbox::lacking_autofs);
    let tests: &[(&'static str, fn())] = &[
        ("while_nothing_is_mounted_no_thread_wakes_up", while_nothing_is_mounted_no_thread_wakes_up),
        ("mounting_and_unmounting_leaks_nothing", mounting_and_unmounting_leaks_nothing),
    ];
    // One after the other, so that neither measures what the other does.
    let arguments =
        libtest_mimic::Arguments { test_threads: Some(1), ..libtest_mimic::Arguments::from_args() };
    libtest_mimic::run(&arguments, sandbox::trials(lacking, tests)).exit_code()
}

fn while_nothing_is_mounted_no_thread_wakes_up() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &[]);
    let visit = Visitor::start("ls \"$1/a/.\" && umount \"$1/a\"", directory.path()).finish();
    assert!(visit.ok, "{visit:?}");
    // Looking at the name itself would mount it again.
    let gone = || std::fs::read_dir(directory.path()).unwrap().next().is_none();
    wait_for("the name to be cleaned up", Duration::from_secs(5), gone);
    // The last look for idle names may have been about to begin.
    std::thread::sleep(Duration::from_millis(1500));
    let before = daemon.order("switches");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.order("switches"), before);
    take_down(daemon, directory.path());
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
    assert_eq!(mounts_now, mounts);
    assert!(memory_now <= memory + 2048, "memory grew from {memory} to {memory_now} KiB");
    assert!(memory_now < 20 << 10, "{memory_now} KiB are in use");
    take_down(daemon, directory.path());
}

fn take_down(mut daemon: Daemon, dir: &Path) {
    daemon.kill();
    Automount::mount(dir, Duration::from_secs(999)).unwrap().shutdown(Stop::Unmount).unwrap();
}
