//! `offsite wipe` as a person and a script meet it: signals, several drives, SMART, the line that resumes. No root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Large enough to be met in the middle of the work.
const LONG: u64 = 512 << 20;

/// A system of its own below a temporary root whose name a shell doesn't take for one word.
struct World {
    base: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { base: tempfile::tempdir().unwrap() };
        std::fs::create_dir(world.root()).unwrap();
        world
    }

    fn root(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("it's a root")
    }

    fn file(&self, name: &str, size: u64) -> String {
        let path = self.root().join(name);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn wipe(&self, files: &[&str], options: &[&str]) -> Command {
        // whatever is ignored where the tests run
        self.wipe_with("--default-signal=HUP,INT,TERM", files, options)
    }

    /// A wipe that env(1) starts with signals as its option says.
    fn wipe_with(&self, signals: &str, files: &[&str], options: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.args([signals, env!("CARGO_BIN_EXE_offsite")]);
        command.arg("--root").arg(self.root()).arg("wipe").args(files).args(options);
        for file in files {
            command.args(["--yes-destroy", file]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn filled(path: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks(4096).all(|page| page.iter().any(|byte| *byte != 0))
}

/// A running wipe that has said its first line.
fn begun(mut command: Command) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    (child, said, line)
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn rest(mut said: BufReader<ChildStderr>) -> String {
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_stopped_wipe_prints_the_very_line_that_resumes_it() {
    let world = World::new();
    let (long, short) = (world.file("long", LONG), world.file("short", 1 << 20));
    let (mut child, said, first) = begun(world.wipe(&[&long, &short], &["--verify", "sample", "--json"]));
    assert!(first.contains("% writing"), "{first}");
    // The short one is done by now, or soon: only the long one is to go on.
    let state = world.root().join("var/lib/offsite/wipe");
    let journal = state.join(journal_name(&short));
    let free = || std::fs::File::open(&short).unwrap().try_lock().is_ok();
    while !journal.exists() || !free() {
        std::thread::yield_now();
    }
    send(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let said = rest(said);
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("hint: to go on: "))
        .unwrap_or_else(|| panic!("{said}"));
    let reports: Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    assert_eq!((&reports[0]["outcome"], &reports[0]["resumable"]), (&"cancelled".into(), &true.into()));
    assert_eq!(reports[1]["outcome"], "complete");

    let programs = Path::new(env!("CARGO_BIN_EXE_offsite")).parent().unwrap();
    let resumed = Command::new("/bin/sh").args(["-c", line]).env("PATH", programs).output().unwrap();
    assert!(resumed.status.success(), "{line}: {}", text(&resumed));
    let report: Value = serde_json::from_slice(&resumed.stdout).unwrap();
    assert!(report["resumed_from"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["outcome"], &report["verification"]["mode"]), (&"complete".into(), &"sample".into()));
    assert!(filled(&long) && filled(&short));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "no journal is left");
}

#[test]
fn sigusr1_asks_for_progress_as_it_asks_dd() {
    let world = World::new();
    let long = world.file("long", LONG);
    let (mut child, mut said, _) = begun(world.wipe(&[&long], &[]));
    let mut lines = 0;
    let mut line = String::new();
    send(&child, Signal::SIGUSR1);
    while said.read_line(&mut line).unwrap() > 0 {
        if line.contains(&format!(" of {LONG} bytes) ")) {
            assert!(line.starts_with(&long) && line.contains('%') && line.contains("/s, mean "), "{line}");
            lines += 1;
        }
        line.clear();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(lines, 1);
    assert!(filled(&long));
}

#[test]
fn one_drives_failure_leaves_the_others_alone() {
    let world = World::new();
    let files: Vec<String> = ["a", "b", "c"].iter().map(|name| world.file(name, 8 << 20)).collect();
    // The journal of b can't be made: something is in its place.
    let journal = world.root().join("var/lib/offsite/wipe").join(journal_name(&files[1]));
    std::fs::create_dir_all(journal.join("in the way")).unwrap();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = world.wipe(&names, &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    // One element for each drive, in their order.
    let outcomes: Vec<_> = reports.as_array().unwrap().iter().map(|report| &report["outcome"]).collect();
    assert_eq!(outcomes, ["complete", "failed", "complete"]);
    assert_eq!(
        (&reports[1]["device"], &reports[1]["id"]),
        (&files[1].as_str().into(), &files[1].as_str().into())
    );
    assert!(reports[1]["errors"][0].as_str().unwrap().contains("can't write the journal"), "{reports}");
    assert!(filled(&files[0]) && filled(&files[2]) && !filled(&files[1]));
    let said = text(&output);
    assert!(said.contains(&format!("error: {}: can't write the journal", files[1])), "{said}");
}

#[test]
fn who_is_refused_tells_a_script_so() {
    let world = World::new();
    let (good, empty) = (world.file("good", 1 << 20), world.file("empty", 0));
    let told = |files: &[&str], code: i32| -> Value {
        let output = world.wipe(files, &["--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let one = told(&[&empty], 3);
    assert_eq!((&one["device"], &one["id"]), (&empty.as_str().into(), &empty.as_str().into()));
    assert_eq!(one["outcome"], "refused");
    assert!(one["errors"][0].as_str().unwrap().contains("it holds no bytes"), "{one}");
    let absent = told(&["/no/such/drive"], 4);
    assert_eq!((&absent["outcome"], &absent["id"]), (&"failed".into(), &Value::Null));
    let both = told(&[&good, &empty], 3);
    let outcomes: Vec<_> = both.as_array().unwrap().iter().map(|drive| &drive["outcome"]).collect();
    assert_eq!(outcomes, ["refused", "refused"]);
    assert!(both[0]["errors"][0].as_str().unwrap().contains("another drive is in the way"), "{both}");
    assert!(!filled(&good));
}

#[test]
fn a_terminal_that_went_away_ends_no_wipe() {
    let world = World::new();
    let long = world.file("long", LONG);
    let (mut child, said, _) = begun(world.wipe(&[&long], &["--json"]));
    drop(said);
    // It is asked for words that nobody hears.
    send(&child, Signal::SIGUSR1);
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(child.wait().unwrap().success());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "complete");
    assert!(filled(&long));
}

#[test]
fn a_report_that_nobody_heard_can_be_had_again() {
    let world = World::new();
    let file = world.file("drive", 8 << 20);
    let mut child = world.wipe(&[&file], &["--json"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(
        said.contains("error: cannot write to stdout: Broken pipe") && said.contains("--resume"),
        "{said}"
    );
    let before = std::fs::read(&file).unwrap();
    let output = world.wipe(&[&file], &["--json", "--resume"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["bytes_written"]), (&"complete".into(), &0.into()));
    assert!(std::fs::read(&file).unwrap() == before, "nothing is written again");
    let state = world.root().join("var/lib/offsite/wipe");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "no journal is left");
    // Without a journal, who resumes is told that it begins anew.
    let output = world.wipe(&[&file], &["--resume"]).output().unwrap();
    assert!(output.status.success() && text(&output).contains("begins anew, since there is no journal"));
    assert!(std::fs::read(&file).unwrap() != before);
}

#[test]
fn a_pipe_that_closes_early_ends_in_an_exit_code() {
    let world = World::new();
    let file = world.file("drive", 1 << 20);
    let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
    command.arg("--root").arg(world.root()).args(["identify", &file]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(1), ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).starts_with("error: cannot write to stdout: No space left"), "{}", text(&output));
}

#[test]
fn a_lost_connection_stops_a_wipe_as_ctrl_c_does() {
    let world = World::new();
    let long = world.file("long", LONG);
    let (mut child, said, _) = begun(world.wipe(&[&long], &["--json"]));
    send(&child, Signal::SIGHUP);
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let said = rest(said);
    assert!(said.contains("hint: to go on: ") && said.contains("--resume"), "{said}");

    // Who asked for it isn't stopped: nohup(1) ignores the one, a script's `&` the other.
    for (option, signal) in [("--ignore-signal=HUP", Signal::SIGHUP), ("--ignore-signal=INT", Signal::SIGINT)]
    {
        let short = world.file(option, LONG / 4);
        let (child, said, _) = begun(world.wipe_with(option, &[&short], &[]));
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{option}: {}{}", text(&output), rest(said));
        assert!(filled(&short));
    }
}

#[test]
fn the_key_stays_below_the_root() {
    // It is kept in memory only: not where the system swaps, nor on a disk.
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count() > 1;
    for (place, kept) in [("/dev/shm", !swaps), (env!("CARGO_TARGET_TMPDIR"), false)] {
        let Ok(base) = tempfile::tempdir_in(place) else { continue };
        let world = World { base };
        std::fs::create_dir(world.root()).unwrap();
        let long = world.file("long", LONG / 4);
        let (mut child, said, _) = begun(world.wipe(&[&long], &[]));
        let keys = || std::fs::read_dir(world.root().join("run/media-wipe")).map_or(0, Iterator::count);
        assert_eq!(keys(), usize::from(kept), "{place}: while it is needed");
        rest(said);
        assert!(child.wait().unwrap().success());
        assert_eq!(keys(), 0);
    }
}

fn journal_name(file: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    file.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("_{b:02x}") })
        .collect::<String>()
        + ".json"
}

#[test]
fn on_a_terminal_each_drive_has_a_bar() {
    let world = World::new();
    let files = [world.file("a", 64 << 20), world.file("b", 32 << 20)];
    let log = world.root().join("screen");
    let root = world.root();
    let command =
        [env!("CARGO_BIN_EXE_offsite"), "--root", root.to_str().unwrap(), "wipe", &files[0], &files[1]];
    let confirmed = ["--yes-destroy", &files[0], "--yes-destroy", &files[1]];
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let words: Vec<String> = command.into_iter().chain(confirmed).map(quoted).collect();
    // script(1) gives the program a terminal.
    let output = Command::new("script")
        .args(["-qec", &words.join(" ")])
        .arg(&log)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let screen = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    for file in &files {
        let bar = |part: &str| part.contains(file.as_str()) && part.contains('%');
        assert!(screen.split(['\n', '\r', '\x1b']).any(bar), "{file}: {screen:?}");
    }
    assert!(screen.contains("100%") && screen.contains("verifying"), "{screen:?}");
}

#[test]
fn a_line_names_what_was_destroyed_and_nothing_resumes_what_is_done() {
    let world = World::new();
    let file = world.file("drive", 1 << 20);
    let output = world.wipe(&[&file], &[]).output().unwrap();
    assert!(output.status.success());
    let page = String::from_utf8_lossy(&output.stdout);
    for words in ["Erasure report: COMPLETE", "Verified       all as written", &file] {
        assert!(page.contains(words), "{page}");
    }
    assert!(!text(&output).contains("--resume"));
}

/// A smartctl of the site's own, which answers from a file.
#[test]
fn smart_is_asked_of_drives_only() {
    let world = World::new();
    let programs = world.root().join("usr/sbin");
    std::fs::create_dir_all(&programs).unwrap();
    let smartctl = programs.join("smartctl");
    std::fs::write(&smartctl, "#!/bin/sh\necho asked >>\"${0%/*}/asked\"\necho '{}'\n").unwrap();
    std::fs::set_permissions(&smartctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = world.file("drive", 1 << 20);
    let output = world.wipe(&[&file], &["--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["health"], serde_json::json!({"before": null, "after": null}));
    assert!(!programs.join("asked").exists(), "a file has no SMART to ask for");
}
