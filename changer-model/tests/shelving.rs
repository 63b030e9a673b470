//! Closing volumes in the catalog while they are away, with a console that is a script.

#![expect(clippy::expect_used, reason = "a test's surroundings fail by panicking")]

mod director;
mod site;
mod waits;

use std::fs;

use changer_model::{note_checked, remove_marker, write_marker};
use director::{CONSOLE, DIRECTOR};
use site::{Site, label_block};
use waits::waits;

/// A site with the magazines `m0` (volumes `a`, `b`) and `m1` (volume `c`) that Bacula knows.
fn shelving_site() -> Site {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    fs::create_dir_all(site.path("catalog")).expect("makes a directory");
    for (path, status) in [("m0/a", "Append"), ("m0/b", "Full"), ("m1/c", "Used")] {
        site.volume(path);
        set(&site, &path[3..], status);
    }
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
    site
}

fn set(site: &Site, volume: &str, status: &str) {
    fs::write(site.path("catalog").join(volume), status).expect("writes");
}

fn catalog(site: &Site) -> Vec<String> {
    let entries =
        fs::read_dir(site.path("catalog")).expect("lists").map(|entry| entry.expect("lists").path());
    let line = |path: std::path::PathBuf| {
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        format!("{name} {}", fs::read_to_string(&path).expect("reads").trim())
    };
    let mut lines: Vec<String> = entries.map(line).collect();
    lines.sort();
    lines
}

fn pull(site: &Site, magazine: &str) {
    fs::rename(site.path(magazine), site.path(&format!("{magazine}.away"))).expect("renames");
}

fn plug(site: &Site, magazine: &str) {
    fs::rename(site.path(&format!("{magazine}.away")), site.path(magazine)).expect("renames");
}

#[test]
fn volumes_are_closed_while_they_are_away() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Read-Only", "b Read-Only", "c Used"]);
    let said = site.said();
    let (closed, slots) = (said.rfind("volstatus=Read-Only"), said.rfind("update slots"));
    assert!(closed < slots, "closed before the slots are taken away: {said}");
    pull(&site, "m1");
    site.answer("refresh");
    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Read-Only"], "in whatever order");
    let said = site.said();
    assert!(said.rfind("volstatus=Full") > said.rfind("update slots"), "reopened after the slots: {said}");
    plug(&site, "m1");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
    fs::remove_file(site.path("said")).expect("removes");
    site.answer("refresh");
    assert_eq!(site.said(), "list volumes\nversion\n", "with every magazine back no drive is left to watch");
}

/// Each command of a console takes the Director some 40 ms, so many volumes are told of by several consoles.
#[test]
fn many_volumes_are_closed_by_several_consoles_before_their_slots_go() {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    fs::create_dir_all(site.path("catalog")).expect("makes a directory");
    let names: Vec<String> = (0..40).map(|number| format!("v{number:02}")).collect();
    for name in &names {
        site.volume(&format!("m0/{name}"));
        set(&site, name, "Append");
    }
    site.volume("m1/w");
    set(&site, "w", "Used");
    site.answer("refresh");
    let status = |status: &str, w: &str| {
        let lines = names.iter().map(|name| format!("{name} {status}")).chain([format!("w {w}")]);
        lines.collect::<Vec<String>>()
    };
    let consoles = || fs::read_to_string(site.path("arguments")).expect("is there").lines().count();
    let places = |name: &str| fs::read_to_string(site.path("places").join(name)).expect("is there");

    // another magazine stays, so that `update slots` takes the slots away
    let before = (consoles(), site.said().len());
    pull(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), status("Read-Only", "Used"));
    let said = site.said().split_off(before.1);
    assert!(said.rfind("volstatus=Read-Only") < said.find("update slots"), "all are closed before: {said}");
    assert!(consoles() - before.0 >= 5, "{}", consoles() - before.0);
    assert!(names.iter().all(|name| places(name) == "0 0\n"));

    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), status("Append", "Used"));

    // no volume is left: what closes a volume takes its slot away as well
    pull(&site, "m0");
    pull(&site, "m1");
    let before = site.said().len();
    site.answer("refresh");
    assert_eq!(catalog(&site), status("Read-Only", "Read-Only"));
    assert!(names.iter().all(|name| places(name) == "0 0\n"));
    let said = site.said().split_off(before);
    assert_eq!(said.matches("volstatus=Read-Only slot=0 inchanger=no").count(), 41, "{said}");
    assert_eq!(said.matches("update volume=").count(), 41, "{said}");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

/// The Director's consoles are for others as well.
#[test]
fn where_the_director_has_no_room_for_several_consoles_one_does_it_all() {
    let site = Site::with("m0", CONSOLE);
    let busy = "ln -s x $root/busy 2>/dev/null || exit 1\ntrap 'rm -f $root/busy' EXIT\n";
    fs::create_dir_all(site.path("catalog")).expect("makes a directory");
    let names: Vec<String> = (0..40).map(|number| format!("v{number:02}")).collect();
    for name in &names {
        site.volume(&format!("m0/{name}"));
        set(&site, name, "Append");
    }
    site.console(DIRECTOR);
    site.answer("refresh");
    site.console(&format!("{busy}{DIRECTOR}"));
    pull(&site, "m0");
    site.answer("refresh");
    assert!(catalog(&site).iter().all(|line| line.ends_with("Read-Only")), "{:?}", catalog(&site));
}

#[test]
fn what_somebody_set_while_a_magazine_was_away_stays() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    set(&site, "a", "Archive");
    set(&site, "b", "Append");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Archive", "b Read-Only", "c Used"], "no job may start on b");
    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Archive", "b Append", "c Used"]);
}

#[test]
fn volumes_that_vanish_while_away_disturb_nothing() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    fs::remove_file(site.path("catalog/a")).expect("deletes it from the catalog");
    fs::remove_file(site.path("m0.away/b")).expect("deletes its file");
    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["b Read-Only", "c Used"], "nobody has b's file, so no job may start on it");
    let shelf = fs::read_to_string(site.path("work/shelf.json")).expect("is there");
    assert!(
        !shelf.contains("\"a\"") && shelf.contains("\"b\""),
        "the catalog said that it has no a: {shelf}"
    );
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
    site.volume("m1/b");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["b Full", "c Used"], "it turned up on another magazine");
}

#[test]
fn what_the_director_did_not_do_stays_owed() {
    let site = shelving_site();
    pull(&site, "m0");
    fs::write(site.path("deaf"), "").expect("writes");
    let outcome = site.run("refresh");
    assert!(
        outcome.stderr.contains("did not confirm 'update volume=\"a\" volstatus=Read-Only'"),
        "{}",
        outcome.stderr
    );
    assert!(site.changer().pending_catalog().expect("reads").is_some());
    assert!(site.said().contains("update slots"), "the slots are told all the same");
    fs::remove_file(site.path("deaf")).expect("removes");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Read-Only", "b Read-Only", "c Used"]);
    plug(&site, "m0");
    fs::write(site.path("deaf"), "").expect("writes");
    assert_eq!(site.run("refresh").code, 1);
    fs::remove_file(site.path("deaf")).expect("removes");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
}

#[test]
fn a_catalog_that_cannot_be_read_makes_nothing_forgotten() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    let shelf = fs::read(site.path("work/shelf.json")).expect("is there");
    fs::write(site.path("no-database"), "").expect("writes");
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("Could not open catalog database"), "{}", outcome.stderr);
    assert_eq!(fs::read(site.path("work/shelf.json")).expect("is there"), shelf);
    plug(&site, "m0");
    assert_eq!(site.run("refresh").code, 1);
    fs::remove_file(site.path("no-database")).expect("removes");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
}

#[test]
fn a_console_that_ends_at_any_command_loses_nothing() {
    // listing, closing or reopening two volumes, looking whether they are, and the slots
    for steps in 0..7 {
        let site = shelving_site();
        // ends like a Director that is restarted in the middle of the dialogue
        let dying = DIRECTOR.replace(
            "while read -r line; do",
            &format!(
                "left=$root/left; test -f $left || echo {steps} > $left\nwhile read -r line; do\n\
             n=$(cat $left); test $n = 0 && kill -9 $$; echo $((n-1)) > $left"
            ),
        );
        for (change, expected) in [
            (pull as fn(&Site, &str), ["a Read-Only", "b Read-Only", "c Used"]),
            (plug, ["a Append", "b Full", "c Used"]),
        ] {
            change(&site, "m0");
            let _ = fs::remove_file(site.path("left"));
            site.console(&dying);
            assert_eq!(site.run("refresh").code, 1, "{steps}");
            site.console(DIRECTOR);
            site.answer("refresh");
            assert_eq!(catalog(&site), expected, "after {steps} commands");
        }
    }
}

#[test]
fn a_magazine_that_leaves_while_it_is_reopened_is_closed_again() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    plug(&site, "m0");
    // pulled when the slots have been told
    let pulling = DIRECTOR.replace(
        "3306 Issuing autochanger \"list\" command.'",
        "3306 Issuing autochanger \"list\" command.'\n    test -e $root/m0.away || mv $root/m0 $root/m0.away",
    );
    site.console(&pulling);
    let _ = site.run("refresh");
    site.console(DIRECTOR);
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Read-Only", "b Read-Only", "c Used"]);
    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
}

#[test]
fn a_site_that_was_never_shelved_is_at_the_first_refresh() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    // as an earlier version left it: told that m0 is away, nothing closed
    fs::remove_file(site.path("work/shelf.json")).expect("removes");
    for (volume, status) in [("a", "Append"), ("b", "Full")] {
        set(&site, volume, status);
    }
    let pending = site.changer().pending_catalog().expect("reads").expect("is owed");
    assert_eq!(pending.changed, [site.path("m0").display().to_string()]);
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Read-Only", "b Read-Only", "c Used"]);
}

#[test]
fn a_magazine_that_left_the_configuration_is_let_go() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Read-Only", "b Read-Only", "c Used"]);
    let whole = fs::read_to_string(site.path("c.conf")).expect("reads");
    let line = format!("Magazine = {}\n", site.path("m0").display());
    fs::write(site.path("c.conf"), whole.replace(&line, "")).expect("writes");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append", "b Full", "c Used"]);
    set(&site, "a", "Used");
    fs::remove_file(site.path("said")).expect("removes");
    site.answer("refresh");
    assert_eq!(
        (catalog(&site)[0].as_str(), site.said().as_str()),
        ("a Used", "list volumes\nversion\n"),
        "whoever has it now decides"
    );
    fs::write(site.path("c.conf"), whole).expect("writes");
    site.answer("refresh");
    assert_eq!(
        catalog(&site),
        ["a Read-Only", "b Read-Only", "c Used"],
        "it is back in the configuration, and away"
    );
    plug(&site, "m0");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Used", "b Full", "c Used"]);
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:c\n"));
}

/// What the changer says besides.
fn notices(site: &Site) -> Vec<String> {
    let notices = site.changer().status().expect("reads").notices;
    notices
        .into_iter()
        .map(|notice| format!("{}: {}", notice.magazine.unwrap_or_default(), notice.message))
        .collect()
}

#[test]
fn empty_volumes_that_an_error_closed_are_told_and_opened_after_a_check() {
    let site = shelving_site();
    fs::create_dir_all(site.path("bytes")).expect("makes a directory");
    for (volume, status, bytes) in [("a", "Error", "0"), ("b", "Full", "229"), ("c", "Error", "701,383")] {
        set(&site, volume, status);
        fs::write(site.path("bytes").join(volume), bytes).expect("writes");
    }
    assert!(notices(&site).is_empty());
    site.answer("refresh");
    let expected = "2 empty volume(s) are closed because a write to them failed: a, b";
    assert_eq!(notices(&site), [format!("{}: {expected}", site.path("m0").display())]);
    assert_eq!(catalog(&site), ["a Error", "b Full", "c Error"], "nobody said that it was checked");
    fs::write(site.path("deaf"), "").expect("writes");
    let outcome = site.run("refresh --checked");
    assert!(outcome.stderr.contains("volume=\"a\" volstatus=Append"), "{}", outcome.stderr);
    assert_eq!(notices(&site).len(), 1);
    fs::remove_file(site.path("deaf")).expect("removes");
    site.answer("refresh --checked");
    assert_eq!(catalog(&site), ["a Append", "b Append", "c Error"], "c has something written to it");
    assert!(notices(&site).is_empty());
}

#[test]
fn volumes_in_error_are_opened_once_for_each_check_of_their_drive() {
    let uuid = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
    let site = Site::with("", &format!("{CONSOLE}Magazine = UUID:{uuid}\n"));
    site.console(DIRECTOR);
    let at = format!("auto/{uuid}");
    fs::create_dir_all(site.path(&at)).expect("makes a directory");
    fs::create_dir_all(site.path("proc/self")).expect("makes a directory");
    let table = format!("31 1 7:1 / /{at} rw - ext4 /dev/loop1 rw\n");
    fs::write(site.path("proc/self/mountinfo"), table).expect("writes");
    write_marker(site.root(), uuid, format!("/{at}").as_ref()).expect("marks");
    // as the fake Director looks for them
    std::os::unix::fs::symlink(site.path(&at), site.path("m0")).expect("links");
    fs::create_dir_all(site.path("catalog")).expect("makes a directory");
    site.volume(&format!("{at}/a"));
    set(&site, "a", "Append");
    fs::create_dir_all(site.path("bytes")).expect("makes a directory");
    fs::write(site.path("bytes/a"), "0").expect("writes");
    note_checked(site.root(), uuid).expect("marks");
    site.answer("refresh");
    for check in [false, true, false, true] {
        set(&site, "a", "Error");
        if check {
            note_checked(site.root(), uuid).expect("marks");
        }
        for _ in 0..2 {
            site.answer("refresh");
            assert_eq!(catalog(&site), [if check { "a Append" } else { "a Error" }]);
        }
    }
    // what could not be done is tried again
    set(&site, "a", "Error");
    note_checked(site.root(), uuid).expect("marks");
    fs::write(site.path("deaf"), "").expect("writes");
    assert_eq!(site.run("refresh").code, 1);
    fs::remove_file(site.path("deaf")).expect("removes");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append"]);
    // while the drive is away it waits
    set(&site, "a", "Error");
    note_checked(site.root(), uuid).expect("marks");
    remove_marker(site.root(), uuid).expect("unmarks");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Error"]);
    write_marker(site.root(), uuid, format!("/{at}").as_ref()).expect("marks");
    site.answer("refresh");
    assert_eq!(catalog(&site), ["a Append"]);
}

#[test]
fn a_damaged_shelf_is_named() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    fs::write(site.path("work/shelf.json"), "{").expect("writes");
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("shelf.json, is damaged"), "{}", outcome.stderr);
    assert_eq!(site.run("list").code, 0, "the storage daemon is served");
}

#[test]
fn bacula_gets_a_stand_in_for_a_volume_that_is_away() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("load 1 device 0");
    let shown = fs::read(site.path("work/0")).expect("leads somewhere");
    assert_eq!(shown, label_block("drive-is-away"));
    assert_eq!(site.answer("loaded 1 device 0"), "0\n", "so that it is loaded again when it is there");
    assert!(site.path("work/0").exists(), "a question takes nothing away");
    plug(&site, "m0");
    site.answer("load 1 device 0");
    assert_eq!(fs::read(site.path("work/0")).expect("leads somewhere"), label_block("a"));
    assert_eq!(site.answer("loaded 1 device 0"), "1\n");
    assert_eq!(site.run("load 9 device 1").code, 1, "a slot that never had a volume is empty");
}

#[test]
fn what_waits_is_told_with_its_magazine() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    waits(&site, true, Some("a"));
    let waiting = site.changer().waiting().expect("asks");
    let shown = serde_json::to_value(&waiting).expect("serialises");
    let magazine = site.path("m0").display().to_string();
    let expected = serde_json::json!([
        {"drive": 1, "job_id": 3, "job": "J", "reading": true, "volume": "a", "magazine": magazine, "here": false}
    ]);
    assert_eq!(shown, expected);
    plug(&site, "m0");
    site.answer("refresh");
    assert!(site.said().ends_with("mount storage=\"c0\" slot=1 drive=1\n"), "{}", site.said());
}

#[test]
fn bacula_is_asked_for_everything_at_once() {
    let site = shelving_site();
    pull(&site, "m0");
    site.answer("refresh");
    set(&site, "c", "Read-Only");
    set(&site, "stranger", "Append");
    fs::copy("tests/transcripts/llist_jobs.txt", site.path("jobs")).expect("copies");
    waits(&site, true, Some("a"));
    fs::remove_file(site.path("said")).expect("removes");
    let answer = site.changer().ask_bacula().expect("answers").expect("is asked");
    let volumes: Vec<_> =
        answer.volumes.iter().map(|volume| (&*volume.name, &*volume.status, volume.stuck)).collect();
    let closed = "Read-Only";
    assert_eq!(
        volumes,
        [("a", closed, false), ("b", closed, false), ("c", closed, true)],
        "c was closed by somebody else, and the stranger is on no magazine"
    );
    assert_eq!(answer.jobs.iter().filter(|job| job.well).count(), 2);
    assert_eq!(answer.waiting.first().and_then(|drive| drive.volume.as_deref()), Some("a"));
    assert_eq!(
        site.said(),
        ".status dir running\n.status dir header\nllist jobs limit=100 order=desc\nlist volumes\nversion\n\
         .status storage=\"c0\" running\n"
    );
    fs::write(site.path("no-database"), "").expect("writes");
    assert!(site.changer().ask_bacula().is_err(), "nothing is known, which is not an empty list");
}
