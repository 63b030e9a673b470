//! Where the key lies while a wipe runs: in locked memory that no core dump holds, and nowhere once it is over.
//!
//! This program is its own victim: with `--victim` it wipes, and the test searches its memory for the key.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use media_wipe::{System, Target, Verify, Wipe};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid};

/// Large enough to be met in the middle of the work.
const SIZE: u64 = 192 << 20;

/// Only what the owner may write can hold a copy; `dd`: left out of core dumps, `lo`: locked (proc_pid_smaps(5)).
struct Mapping {
    start: u64,
    end: u64,
    dumped: bool,
    locked: bool,
}

fn mappings(pid: u32) -> Result<Vec<Mapping>, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(second)) = (words.next(), words.next()) else { continue };
        if let Some((start, end)) = range.split_once('-') {
            let address = |digits| u64::from_str_radix(digits, 16).ok();
            let (Some(start), Some(end)) = (address(start), address(end)) else { continue };
            found.push((second.starts_with("rw"), Mapping { start, end, dumped: true, locked: false }));
        } else if let (true, Some((_, mapping))) = (range == "VmFlags:", found.last_mut()) {
            let flags: Vec<&str> = line.split_ascii_whitespace().collect();
            (mapping.dumped, mapping.locked) = (!flags.contains(&"dd"), flags.contains(&"lo"));
        }
    }
    Ok(found.into_iter().filter(|(writable, _)| *writable).map(|(_, mapping)| mapping).collect())
}

/// How often the key was found, in memory that is locked and not dumped, and elsewhere.
fn search(pid: u32, key: &[u8]) -> Result<(usize, usize), Failed> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut safe, mut leaked) = (0, 0);
    for mapping in mappings(pid)? {
        let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start)?];
        if memory.read_exact_at(&mut bytes, mapping.start).is_err() {
            continue;
        }
        let count = bytes.windows(key.len()).filter(|window| *window == key).count();
        // Who isn't root may lock little (RLIMIT_MEMLOCK).
        let locked = mapping.locked || !Uid::effective().is_root();
        if locked && !mapping.dumped { safe += count } else { leaked += count }
    }
    Ok((safe, leaked))
}

fn key_file(root: &Path) -> Option<PathBuf> {
    fs::read_dir(root.join("run/media-wipe")).ok()?.find_map(|entry| Some(entry.ok()?.path()))
}

/// Ends the victim however the test ends.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Victim {
    /// Searches while the victim stands still.
    fn search(&self, key: &[u8]) -> Result<(usize, usize), Failed> {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGSTOP)?;
        waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
        let found = search(self.0.id(), key);
        kill(pid, Signal::SIGCONT)?;
        found
    }
}

fn the_key_lies_in_locked_memory_only() -> Result<(), Failed> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir_in("/dev/shm")?];
    let (base, root) = (dirs[0].path().canonicalize()?, dirs[1].path().canonicalize()?);
    fs::create_dir_all(root.join("sys/block"))?;
    fs::create_dir_all(root.join("proc"))?;
    fs::write(root.join("proc/swaps"), "Filename Type Size Used Priority\n")?;
    File::create(base.join("disk"))?.set_len(SIZE)?;
    let mut victim = Victim(
        Command::new(std::env::current_exe()?)
            .arg("--victim")
            .args([&base, &root])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let begun = Instant::now();
    let file = loop {
        if let Some(file) = key_file(&root) {
            break file;
        }
        if begun.elapsed() > Duration::from_secs(20) {
            return Err("no key below /run".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut key = fs::read(&file)?;
    while key.len() < 32 {
        key = fs::read(&file)?;
    }
    let mut most = 0;
    while file.exists() {
        let (safe, leaked) = victim.search(&key)?;
        if leaked > 0 {
            return Err(format!("{leaked} copies of the key where a core dump would hold them").into());
        }
        most = most.max(safe);
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that the threads share, and one that begins each thread's own schedule.
    if most < 2 {
        return Err(format!("the key was seen {most} times in locked memory while it was in use").into());
    }
    let stdout = victim.0.stdout.take().ok_or("no stdout")?;
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said)?;
    if said != "done\n" {
        return Err(format!("the victim said {said:?}").into());
    }
    match victim.search(&key)? {
        (0, 0) => Ok(()),
        found => Err(format!("the wipe is over, and copies of its key are left: {found:?}").into()),
    }
}

fn be_victim(base: &Path, root: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let disk = base.join("disk");
    let target = Target::open(&System::new(root), &disk, &disk.to_string_lossy())?;
    Wipe::new(target).verify(Verify::Full).journal(base.join("journal")).run()?;
    println!("done");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, mode, base, root] = arguments.as_slice()
        && mode == "--victim"
    {
        return match be_victim(base.as_ref(), root.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let name = "the_key_lies_in_locked_memory_only";
    let trial = if Path::new("/dev/shm").is_dir() {
        Trial::test(name, the_key_lies_in_locked_memory_only)
    } else {
        Trial::test(name, || Ok(()))
            .with_kind("needs a memory filesystem at /dev/shm")
            .with_ignored_flag(true)
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
