//! What the console inherits, and that nothing of it is left behind, with a console that is a script.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod director;
mod site;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use director::CONSOLE;
use site::Site;

const VICTIM: &str = "CHANGER_TEST_VICTIM";

/// Refreshes the site of its caller; does nothing as a test.
#[test]
fn victim_that_refreshes() {
    let Some(root) = std::env::var_os(VICTIM) else { return };
    let root = Path::new(&root);
    let mut env = changer_model::Environment::new(root);
    env.privileges = changer_model::Privileges::Keep;
    let arguments = [root.join("c.conf").into_os_string(), "refresh".into()];
    let outcome = changer_model::run_command_line(&arguments, &env);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

/// Runs the victim from a shell that says `before` something.
fn victim(site: &Site, before: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("{before}; exec \"$0\" --exact victim_that_refreshes --test-threads=1")])
        .arg(std::env::current_exe().expect("has a path"))
        .env(VICTIM, site.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process whose number a console wrote, once it has ended.
fn has_ended(file: &Path) -> bool {
    let pid = fs::read_to_string(file).expect("was written");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn a_console_ends_with_the_changer() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.console("echo $$ > $root/pid.new; mv $root/pid.new $root/pid; exec sleep 600");
    let mut changer = victim(&site, ":");
    wait_for("the console was not started", || site.path("pid").exists());
    changer.kill().expect("is there");
    changer.wait().expect("ends");
    wait_for("the console was left behind", || has_ended(&site.path("pid")));
}

#[test]
fn what_a_console_started_ends_with_it() {
    let mut site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.env.console_limit = Duration::from_millis(500);
    let start = "(trap '' TERM HUP; echo $$ > /dev/null; exec sleep 600) & echo $! > $root/pid";
    for end in ["exec sleep 600", "exit 0", "exit 1"] {
        site.console(&format!("{start}\n{end}"));
        assert_eq!(site.run("refresh").code, 1, "{end}");
        wait_for("its child was left behind", || has_ended(&site.path("pid")));
    }
}

#[test]
fn a_console_inherits_no_descriptors_and_no_ignored_signals() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    fs::write(site.path("secret"), "").expect("writes");
    // The shell itself reads its masks: while it waits for a program it blocks all signals.
    let look = "ls -l /proc/$$/fd > $root/descriptors
        while read -r name mask; do case $name in SigIgn:|SigBlk:) echo \"$name\t$mask\";; esac; done < /proc/$$/status > $root/signals";
    site.console(&format!("{look}\n{}", director::DIRECTOR));
    let before = format!("trap '' HUP INT TERM; exec 7< {}", site.path("secret").display());
    let changer = victim(&site, &before).wait().expect("ends");
    assert!(changer.success());
    let descriptors = fs::read_to_string(site.path("descriptors")).expect("was written");
    assert!(!descriptors.contains("secret"), "{descriptors}");
    let signals = fs::read_to_string(site.path("signals")).expect("was written");
    for line in signals.lines() {
        let (_, mask) = line.split_once(":\t").expect("a mask");
        let mask = u64::from_str_radix(mask, 16).expect("a number");
        assert_eq!(mask & 0x7fff_ffff, 0, "the signals that have names: {signals}");
    }
    assert_eq!(signals.lines().count(), 2, "{signals}");
}

#[test]
fn a_hung_console_is_not_asked_again() {
    let mut site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.env.console_limit = Duration::from_millis(500);
    site.console("echo called >> $root/calls; exec sleep 600");
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("cut off after"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(site.path("calls")).expect("was called"), "called\n");
}
