//! The programs that seal and split keys can't leave a core file, whatever ends them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const READING: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Core files of this test would lie in the directories that it makes.
    let possible = setrlimit(Resource::RLIMIT_CORE, u64::MAX, u64::MAX).is_ok() && control_dumps();
    let trial = Trial::test("a_program_that_has_a_key_in_its_hands_leaves_no_core_file", || {
        no_core_file();
        Ok::<(), Failed>(())
    });
    let trial = if possible { trial } else { trial.with_ignored_flag(true).with_kind("no-core-dumps-here") };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// Whether a program without secrets would leave one.
fn control_dumps() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let child =
        Command::new("/bin/cat").current_dir(&directory).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    aborted_with_core(child.unwrap())
}

fn aborted_with_core(mut child: Child) -> bool {
    // It waits for its input, so it is beyond its first steps.
    let pid = child.id();
    let end = Instant::now() + READING;
    while !fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("pipe"))
        && !fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("0 0x0 "))
        && Instant::now() < end
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGABRT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
    status.core_dumped()
}

fn offsite(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
    command.arg("--root").arg(root).args(arguments).current_dir(root);
    command
}

fn no_core_file() {
    let root = tempfile::tempdir().unwrap();
    assert!(offsite(root.path(), &["init"]).output().unwrap().status.success());
    let sealed = root.path().join("sealed");
    // The key is loaded by then; the passphrase is waited for.
    let mut child = offsite(root.path(), &["key", "export", "sealed", "--passphrase"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"a passphr").unwrap();
    assert!(!aborted_with_core(child), "the kernel says that a core file was written");
    let key = fs::read(root.path().join("etc/offsite/key")).unwrap();
    for entry in fs::read_dir(root.path()).unwrap() {
        let path = entry.unwrap().path();
        let whole = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        assert!(!whole.windows(24).any(|window| key.starts_with(window)), "{} has the key", path.display());
    }
    assert!(!sealed.exists());
}
