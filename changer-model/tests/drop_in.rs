//! What a call of the storage daemon leaves to be done, and how it is started, with programs that are scripts.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod director;
mod site;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use changer_model::start_refresh;
use director::{CONSOLE, DIRECTOR};
use site::Site;

/// Whether a call leaves a refresh to be done.
fn is_due(site: &Site, line: &str) -> bool {
    let outcome = site.run(line);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
    match outcome.refresh_due {
        Some(config) => {
            assert_eq!(config, site.path("c.conf"));
            true
        }
        None => false,
    }
}

const LIST: &str = "list 0 dev 0";

#[test]
fn a_list_for_the_daemon_leaves_a_refresh_behind_while_something_is_owed() {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    assert!(is_due(&site, LIST));
    assert!(is_due(&site, LIST), "it is still owed");
    for line in ["list", "slots 0 dev 0", "listall 0 dev 0", "loaded 1 dev 0", "refresh --if-owed"] {
        assert!(!is_due(&site, line), "{line}");
    }
    assert!(site.said().contains("update slots"));
    assert!(!is_due(&site, LIST), "it has been told");
    fs::rename(site.path("m0"), site.path("away")).expect("pulls");
    assert!(is_due(&site, LIST), "with an empty dock too");
    site.answer("refresh");
    assert!(!is_due(&site, LIST));
}

#[test]
fn no_refresh_is_left_behind_beside_another() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    let wait = "touch $root/asked; until test -e $root/go; do sleep 0.01; done";
    site.console(&format!("{wait}\n{DIRECTOR}"));
    thread::scope(|scope| {
        let refresh = scope.spawn(|| site.run("refresh"));
        while !site.path("asked").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!is_due(&site, LIST), "the one that is at work sees what there is");
        assert!(!is_due(&site, "refresh --if-owed"), "and this one leaves it to that");
        fs::write(site.path("go"), "").expect("writes");
        assert_eq!(refresh.join().expect("ends").code, 0);
    });
    assert_eq!(site.said().matches("update slots").count(), 1);
}

#[test]
fn labels_are_left_to_who_made_the_volumes() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.labels(&["new"]);
    site.volume("m0/a");
    site.answer("refresh");
    fs::write(site.path("m0/new"), "").expect("creates");
    assert!(is_due(&site, LIST), "the catalog has to know of its slot");
    site.answer("refresh --if-owed");
    assert!(!site.said().contains("label "), "somebody may be labelling it just now: {}", site.said());
    assert!(!is_due(&site, LIST));
    site.answer("refresh");
    assert!(site.said().contains("label "));
}

#[test]
fn without_a_console_nothing_is_left_behind() {
    let site = Site::new("m0");
    site.volume("m0/a");
    assert!(!is_due(&site, LIST));
}

#[test]
fn a_drive_that_was_never_looked_into_is_worth_a_refresh() {
    let uuid = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
    let site = Site::with("", &format!("{CONSOLE}Magazine = UUID:{uuid}\n"));
    site.console(DIRECTOR);
    assert!(!is_due(&site, LIST), "it is away");
    changer_model::write_marker(site.root(), uuid, &site.path("auto").join(uuid)).expect("writes");
    assert!(is_due(&site, LIST));
}

fn wait_for(file: &Path) -> String {
    let end = Instant::now() + Duration::from_mins(1);
    while !file.exists() {
        assert!(Instant::now() < end, "{} was not written", file.display());
        thread::sleep(Duration::from_millis(5));
    }
    fs::read_to_string(file).expect("reads")
}

#[test]
fn a_refresh_that_is_left_behind_has_nothing_of_its_callers() {
    let site = Site::new("m0");
    let program = site.path("bconsole");
    site.console(
        "echo \"$@\" > $root/arguments
         open=$(for fd in /proc/$$/fd/*; do echo \"${fd##*/} $(readlink $fd)\"; done)
         echo \"$open\" > $root/descriptors
         cut -d' ' -f1,6 /proc/$$/stat > $root/session.new
         mv $root/session.new $root/session",
    );
    symlink("c.conf", site.path("link.conf")).expect("links");
    let secret = fs::File::create(site.path("secret")).expect("creates");
    let _inherited = nix::unistd::dup(&secret).expect("duplicates, to be inherited");
    start_refresh(&program, &site.path("link.conf")).expect("starts");
    let session = wait_for(&site.path("session"));
    let arguments = fs::read_to_string(site.path("arguments")).expect("reads");
    assert_eq!(arguments, format!("{}/link.conf refresh --if-owed\n", site.root().display()));
    let descriptors = fs::read_to_string(site.path("descriptors")).expect("reads");
    assert!(!descriptors.contains("secret"), "{descriptors}");
    for number in [0, 1, 2] {
        assert!(descriptors.lines().any(|line| line == format!("{number} /dev/null")), "{descriptors}");
    }
    let (process, leader) = session.trim().split_once(' ').expect("two numbers");
    assert_eq!(process, leader, "it leads a session of its own");
    assert!(start_refresh(&site.path("nothing"), &site.path("c.conf")).is_err());
}
