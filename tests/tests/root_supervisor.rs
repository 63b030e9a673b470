//! What becomes of those who wait for a drive when the daemon's worker, or its parent, dies. The real daemon on the
//! kernel's autofs; drives made of loop devices (unencrypted).
//!
//! `OFFSITE_WORKER_KILLS` says how often a worker is killed under waiters (12 unless set). With 200 or more, none of them
//! may have waited longer than 5 seconds.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use offsite_tests::host_daemon::{Daemon, LIMIT, at, is_mounted, list, offsite, wait, write_site};
use offsite_tests::loop_drive::LoopDrive;
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 4] = [
        ("a_worker_killed_at_any_moment_leaves_nobody_waiting", killed_under_waiters),
        ("a_worker_that_hangs_is_replaced", a_worker_that_hangs),
        ("a_killed_parent_leaves_nobody_waiting", a_killed_parent),
        ("workers_that_never_serve_end_the_daemon", workers_that_never_serve),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// Looks at paths again and again until told to end.
struct Waiters {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Looks>>,
}

/// How one of them fared.
struct Looks {
    longest: Duration,
    seen: u32,
    refused: u32,
}

impl Waiters {
    fn start(paths: &[PathBuf]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let threads = paths.iter().map(|path| {
            let (end, path) = (Arc::clone(&end), path.join("lost+found"));
            std::thread::spawn(move || {
                let mut looks = Looks { longest: Duration::ZERO, seen: 0, refused: 0 };
                while !end.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    let seen = fs::metadata(&path).is_ok();
                    looks.longest = looks.longest.max(asked.elapsed());
                    looks.seen += u32::from(seen);
                    looks.refused += u32::from(!seen);
                    std::thread::sleep(Duration::from_micros(200));
                }
                looks
            })
        });
        Self { threads: threads.collect(), end }
    }

    /// Ends them, and returns the longest wait. Fails if one of them doesn't end: it waits in the kernel.
    fn end(self) -> Result<Looks> {
        self.end.store(true, Ordering::SeqCst);
        wait("everybody to have an answer", || Ok(self.threads.iter().all(JoinHandle::is_finished)))?;
        let mut all = Looks { longest: Duration::ZERO, seen: 0, refused: 0 };
        for thread in self.threads {
            let Ok(looks) = thread.join() else { anyhow::bail!("a thread that looks panicked") };
            all.longest = all.longest.max(looks.longest);
            all.seen += looks.seen;
            all.refused += looks.refused;
        }
        Ok(all)
    }
}

/// A number below `limit` that is another one each time.
fn random(limit: u64) -> u64 {
    RandomState::new().hash_one(0) % limit
}

fn killed_under_waiters() -> Result<()> {
    let kills: u32 = std::env::var("OFFSITE_WORKER_KILLS").map_or(Ok(12), |text| text.parse())?;
    let (mut a, mut b) = (LoopDrive::ext4(16)?, LoopDrive::ext4(16)?);
    write_site(1, &[("A", &a), ("B", &b)])?;
    let daemon = Daemon::again()?;
    a.plug()?;
    b.plug()?;
    let waiters = Waiters::start(&[at(&a), at(&b), at(&a), at(&b)]);
    for _ in 0..kills {
        let worker = daemon.worker()?;
        // So that somebody waits for a mount; it may be refused while it is asked for again at once.
        for name in ["A", "B"] {
            Command::new(programs::release("offsite")?).args(["lock", name]).output()?;
        }
        std::thread::sleep(Duration::from_micros(random(15_000)));
        kill(worker, Signal::SIGKILL)?;
    }
    daemon.worker()?;
    let looks = waiters.end()?;
    println!(
        "{kills} workers killed: the longest wait was {:?}; {} looks had the drive, {} were refused",
        looks.longest, looks.seen, looks.refused
    );
    ensure!(kills < 200 || looks.longest < Duration::from_secs(5), "somebody waited {:?}", looks.longest);
    ensure!(looks.seen > 0, "nobody ever had a drive");
    for drive in [&mut a, &mut b] {
        ensure!(list(&at(drive))?.contains("lost+found"), "a drive can't be used any more");
    }
    ensure!(!offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    a.unplug(LIMIT)?;
    b.unplug(LIMIT)
}

fn a_worker_that_hangs() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(1, &[("A", &a)])?;
    let program = programs::release("offsited")?;
    let daemon = Daemon::spawn(&program, Command::new(&program).env("WATCHDOG_USEC", "1000000"))?;
    a.plug()?;
    wait("the drive to be there", || Ok(list(&at(&a)).is_ok()))?;
    let worker = daemon.worker()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(daemon.worker()? == worker, "a sound worker was taken for one that hangs");
    offsite(&["lock", "A"])?;
    kill(worker, Signal::SIGSTOP)?;
    let waiters = Waiters::start(&[at(&a)]);
    wait("the worker to be killed", || Ok(kill(worker, None).is_err()))?;
    ensure!(daemon.worker()? != worker, "no other one");
    waiters.end()?;
    list(&at(&a))?;
    a.unplug(LIMIT)
}

fn a_killed_parent() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(1, &[("A", &a)])?;
    let mut daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive to be there", || Ok(list(&at(&a)).is_ok()))?;
    for _ in 0..3 {
        let waiters = Waiters::start(&[at(&a), at(&a)]);
        Command::new(programs::release("offsite")?).args(["lock", "A"]).output()?;
        std::thread::sleep(Duration::from_micros(random(15_000)));
        daemon.kill()?;
        // Nobody serves any more, and nobody waits.
        waiters.end()?;
        daemon = Daemon::again()?;
        list(&at(&a))?;
    }
    a.unplug(LIMIT)
}

fn workers_that_never_serve() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(3600, &[("A", &a)])?;
    let daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive to be there", || Ok(list(&at(&a)).is_ok()))?;
    let site = fs::read("/etc/offsite/site.toml")?;
    fs::write("/etc/offsite/site.toml", "idle_secnods = 1\n")?;
    kill(daemon.worker()?, Signal::SIGKILL)?;
    ensure!(daemon.ended()?.code() == Some(1), "it should say that it failed");
    ensure!(is_mounted(&a)?, "the drive was taken from those who use it");
    fs::write("/etc/offsite/site.toml", site)?;
    let _daemon = Daemon::again()?;
    offsite(&["lock", "A"])?;
    a.unplug(LIMIT)
}
