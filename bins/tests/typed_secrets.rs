//! Secrets that are typed: what is accepted, and what becomes of the terminal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use luks_core::{Container, FormatOptions, KeySlot, SecretKind, load_key_file};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use world::{World, shown, text};

fn drive(world: &World) -> std::path::PathBuf {
    let drive = world.path("drive");
    File::create_new(&drive).unwrap().set_len(4 << 20).unwrap();
    let key = load_key_file(&world.path("etc/offsite/key")).unwrap();
    let options = FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() };
    Container::format(&drive, &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
    drive
}

#[test]
fn a_new_passphrase_that_anybody_guesses_gets_no_slot() {
    let world = World::initialised();
    let (drive, key) = (drive(&world), world.path("etc/offsite/key"));
    let before = fs::read(&drive).unwrap();
    for (typed, expected) in
        [("\n", "has 0 characters"), ("eleven char\n", "has 11 characters"), ("", "nothing")]
    {
        fs::write(world.path("typed"), typed).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_offsite"))
            .args(["luks", "add", shown(&drive), "--key-file", shown(&key), "--new-passphrase"])
            .stdin(File::open(world.path("typed")).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{typed:?}: {}", text(&output));
        assert!(text(&output).contains(expected), "{typed:?}: {}", text(&output));
    }
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
    let absent = ["luks", "add", "/dev/no-such-drive", "--key-file", shown(&key), "--new-passphrase"];
    world.fails(&absent, 4, "is not there", ""); // before anything is asked
}

#[test]
fn a_terminal_shows_again_what_is_typed_when_the_prompt_is_interrupted() {
    let world = World::initialised();
    let drive = drive(&world);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let terminal = openpty(None, None).unwrap();
        let shows = || tcgetattr(terminal.slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO);
        // whatever is ignored where the tests run
        let mut child = Command::new("/usr/bin/env")
            .args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_offsite")])
            .args(["luks", "test", shown(&drive), "--passphrase"])
            .stdin(terminal.slave.try_clone().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while shows() {
            assert!(Instant::now() < deadline, "it never asked");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let ended = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(shows(), "it was left hidden: {said}");
        assert_eq!(ended.signal(), Some(signal as i32), "{said}");
    }
}
