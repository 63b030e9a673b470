//! What a Director, a drive or an argument says reaches the terminal as text, and as no line of ours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs;
use std::process::Output;

use world::{World, shown, text};

const FORGED: &str = "A  plugged, locked: safe to pull";

/// Whether nothing but newlines steers the terminal, and no line is forged.
fn is_harmless(output: &Output) -> bool {
    let said = text(output);
    let steers = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    !said.contains(steers) && !said.lines().any(|line| line.starts_with(FORGED))
}

#[test]
fn a_jobs_name_forges_no_line() {
    let world = World::initialised();
    let fs_uuid = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
    let magazine = format!("[[magazine]]\nname = \"A\"\nfs_uuid = \"{fs_uuid}\"\nfs_type = \"ext4\"\n");
    fs::write(world.path("etc/offsite/site.toml"), magazine).unwrap();
    let name = format!("\u{1b}[2J\n{FORGED}\r\n\u{9b}31m\u{202e}\u{7f}");
    let job = serde_json::json!({ "id": 1, "name": name, "level": "F", "started": "now", "well": true, "volumes": [] });
    let history =
        serde_json::json!({ "version": 2, "asked": [1, 1], "jobs": {}, "drives": { fs_uuid: job } });
    fs::write(world.path("var/lib/offsite/last-jobs.json"), history.to_string()).unwrap();
    let page = world.offsite(&["status"]);
    assert!(text(&page).contains("last backup"), "the name is shown: {}", text(&page));
    assert!(is_harmless(&page), "{:?}", text(&page));
    let json = world.offsite(&["status", "--json"]);
    assert!(is_harmless(&json), "{:?}", text(&json));
    let read: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(read["magazines"][0]["last_job"]["name"], name, "JSON says the same");
}

#[test]
fn a_name_in_an_error_forges_no_line() {
    let world = World::initialised();
    let path = world.path(&format!("x\n{FORGED}\u{1b}[31m"));
    world.fails(&["identify", shown(&path)], 4, &format!("  | {FORGED}"), "");
    for arguments in [&["identify", shown(&path)][..], &["luks", "slots", shown(&path)]] {
        let output = world.offsite(arguments);
        assert!(!output.status.success());
        assert!(is_harmless(&output), "{arguments:?}: {:?}", text(&output));
    }
}
