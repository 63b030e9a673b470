//! What a process that serves an automount costs. Apart from the other tests, whose mounting it would take note of.
//!
//! `OFFSITE_EXPIRE_CYCLES` says how often a loop filesystem is mounted and expires (200 times unless set).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod keepers;
mod sandbox;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use daemon::{Daemon, PROMPT, Pace};
use mount_by_uuid::{Automount, Stop};
use sandbox::{Loop, Visitor, ext4_image, wait_for};
use tempfile::tempdir;

fn main() -> ExitCode {
    if let Some(code) = daemon::act_if_asked() {
        return code;
    }
    let lacking = sandbox::enter().or_else(sandbox::lacking_autofs);
    let tests: &[(&'static str, fn())] = &[
        ("while_nothing_is_mounted_no_thread_wakes_up", while_nothing_is_mounted_no_thread_wakes_up),
        ("mounting_and_unmounting_leaks_nothing", mounting_and_unmounting_leaks_nothing),
        ("a_loop_filesystem_that_expires_again_and_again_leaks_nothing", expiring_leaks_nothing),
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

/// Each of many names is a mount of one of a few loop filesystems; the kernel finds them idle and has them unmounted.
fn expiring_leaks_nothing() {
    const NAMES: u64 = 100;
    let cycles: u64 = std::env::var("OFFSITE_EXPIRE_CYCLES").map_or(2 * NAMES, |text| text.parse().unwrap());
    let (images, directory) = (tempdir().unwrap(), tempdir().unwrap());
    let loops = [(); 4].map(|()| Loop::attach(&ext4_image(images.path(), &uuid::Uuid::new_v4().to_string())));
    let names: Vec<String> = (0..NAMES).map(|n| format!("n{n}")).collect();
    let devices: Vec<(&str, &Path)> =
        names.iter().zip(loops.iter().cycle()).map(|(name, device)| (&**name, &*device.path)).collect();
    let pace = Pace { idle: Duration::from_secs(1), ..PROMPT };
    let mut daemon = Daemon::start(directory.path(), &pace, &devices);
    let mut first = None;
    let mut expired = 0;
    while expired < cycles {
        let visit =
            Visitor::start("cd \"$1\" && cat $(seq -f n%g/hello 0 99) | wc -c", directory.path()).finish();
        assert_eq!(visit.output, (NAMES * 36).to_string(), "{visit:?}");
        expired += NAMES;
        wait_for("all to expire", Duration::from_mins(1), || {
            std::thread::sleep(Duration::from_millis(50));
            daemon.order("unmounts").parse::<u64>().unwrap() >= expired && daemon.resources()[1] == 3
        });
        let now = daemon.resources();
        let first = *first.get_or_insert(now);
        assert_eq!(now[..3], first[..3], "descriptors, threads and mounts after {expired} cycles");
        assert!(
            now[3] <= first[3] + 2048,
            "memory grew from {} to {} KiB in {expired} cycles",
            first[3],
            now[3]
        );
    }
    println!(
        "{expired} cycles: descriptors, threads, mounts, KiB {:?}, after the first {NAMES}: {first:?}",
        daemon.resources()
    );
    take_down(daemon, directory.path());
}

fn take_down(mut daemon: Daemon, dir: &Path) {
    daemon.kill();
    Automount::mount(dir, Duration::from_secs(999)).unwrap().shutdown(Stop::Unmount).unwrap();
}
