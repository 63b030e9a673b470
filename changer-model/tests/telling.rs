//! Telling Bacula, with a console that is a script.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod director;
mod site;
mod waits;

use std::fs;
use std::time::{Duration, Instant};

use director::{CONSOLE, DIRECTOR};
use site::{Site, label_block};
use waits::waits;

#[test]
fn a_change_is_told_once() {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.answer("refresh");
    let update = "update slots storage=\"c0\" drive=0\n";
    let look = "list volumes\nversion\n";
    assert_eq!(site.said(), format!("{look}{update}version\n{look}.status dir running\n"));
    let arguments = fs::read_to_string(site.path("arguments")).expect("was called");
    let config = site.path("bconsole.conf");
    assert!(arguments.starts_with(&format!("-c {} -n\n", config.display())), "{arguments}");
    site.answer("refresh");
    assert_eq!(site.said().matches(update).count(), 1, "nothing changed");
    // the same count of volumes, but others
    fs::rename(site.path("m0/a"), site.path("m0/x")).expect("renames");
    fs::write(site.path("m0/x"), label_block("x")).expect("writes");
    site.answer("refresh");
    assert_eq!(site.said().matches(update).count(), 2);
    site.answer("refresh --force");
    assert_eq!(site.said().matches(update).count(), 3);
    for question in ["list", "slots", "listall", "load 2 dev 0", "unload 2 dev 0", "loaded 2 dev 0"] {
        site.volume("m1/b");
        site.answer(question);
    }
    assert_eq!(site.said().matches(update).count(), 3, "what bacula-sd calls never runs the console");
    let pending = site.changer().pending_catalog().expect("reads").expect("is owed");
    assert_eq!(pending.changed, [site.path("m1").display().to_string()]);
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

#[test]
fn the_last_magazine_leaves_volume_by_volume() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.volume("m0/b");
    site.answer("refresh");
    fs::remove_file(site.path("m0/b")).expect("removes");
    site.answer("list");
    fs::rename(site.path("m0"), site.path("away")).expect("renames");
    fs::remove_file(site.path("said")).expect("removes");
    site.answer("refresh");
    let expected = "update volume=\"a\" slot=0 inchanger=no\nupdate volume=\"b\" slot=0 inchanger=no\n";
    assert!(site.said().contains(expected), "{}", site.said());
    fs::remove_file(site.path("said")).expect("removes");
    site.answer("refresh");
    assert_eq!(
        site.said(),
        "list volumes\nversion\n.status dir running\n",
        "only looks whether all is closed"
    );
}

#[test]
fn new_volumes_are_labelled_by_their_slots() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.labels(&["new0000", "new0001"]);
    let made = site.answer("createvols 0 2 -l new --pool=Other");
    assert!(made.ends_with("Created 2 volume files on magazine 0\n"));
    let said = site.said();
    assert!(said.contains("label storage=\"c0\" pool=\"Other\" drive=0 slots=2-3 barcodes\nyes\n"), "{said}");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
    let status = site.changer().status().expect("reads");
    let volumes = serde_json::to_value(&status.magazines[0].volumes).expect("serialises");
    assert_eq!(
        volumes[1],
        serde_json::json!({"slot": 2, "label": "new0000", "state": "labelled", "in_drive": null})
    );
}

#[test]
fn what_was_not_confirmed_stays_owed() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    let failures = [
        ("echo 'Connection refused'; exit 1", "failed (exit status: 1): Connection refused"),
        ("cat > /dev/null", "did not confirm"),
        ("cat; echo 'Connecting to Storage daemon c0 at 127.0.0.1:9103 ...'", "did not confirm"),
    ];
    for (console, expected) in failures {
        site.console(console);
        let outcome = site.run("refresh");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
        assert!(site.changer().pending_catalog().expect("reads").is_some());
    }
    fs::remove_file(site.path("bconsole")).expect("removes");
    assert!(site.run("refresh").stderr.contains("cannot start Bacula's console"));
    let made = site.run("createvols 0 1");
    assert_eq!(made.code, 1, "without labels they are of no use");
    assert!(made.stdout.ends_with("Created 1 volume files on magazine 0\n"));
    assert!(made.stderr.contains("will be at the next refresh"), "{}", made.stderr);
    site.labels(&["c0_0000_0000"]);
    site.console(DIRECTOR);
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

#[test]
fn long_output_does_not_block_and_a_silent_console_is_ended() {
    let mut site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.console(&format!(
        "i=0; while [ $i -lt 20000 ]; do echo \"line $i of much more\"; i=$((i+1)); done\n{DIRECTOR}"
    ));
    site.answer("refresh");
    site.volume("m0/b");
    site.env.console_limit = Duration::from_millis(300);
    for (silent, expected) in [
        ("sleep 30 & sleep 30", "was cut off after 0 s"),
        ("trap '' TERM; sleep 30; sleep 30", "was cut off after 0 s"),
        ("exec >&- 2>&-; sleep 30", "was cut off after 0 s"),
        ("while echo more; do sleep 0.05; done", "was cut off after 0 s"),
        ("yes", "was cut off"),
    ] {
        site.console(silent);
        let begun = Instant::now();
        let outcome = site.run("refresh");
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(outcome.stderr.contains(expected), "{silent}: {}", outcome.stderr);
        assert_eq!(site.run("list").code, 0, "the changer's lock is free meanwhile");
    }
}

#[test]
fn what_a_console_leaves_behind_holds_nothing_up() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    // it keeps the pipes open
    site.console(&format!("sleep 30 &\n{DIRECTOR}"));
    let begun = Instant::now();
    site.answer("refresh");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn names_never_become_commands() {
    for lines in ["Storage Resource = \"c0\"\nDefault Pool = 'P\" yes\nquit'", "Default Pool = \"P;quit\""] {
        let config = format!("Work Dir = /w\n{lines}\nMagazine = /m\n");
        let parsed = changer_model::Config::parse("c.conf".as_ref(), &config);
        assert!(parsed.is_err(), "{lines}");
    }
    // a medium may carry any names and labels
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    for name in
        ["b\"\nquit", "c; quit", "d$(touch x)", "@e", "@|f", "g\\", "h\" volstatus=Append", "\u{1b}[2J"]
    {
        fs::write(site.path("m0").join(name), "").expect("creates");
        fs::write(site.path("m0").join(format!("{}.", name.len())), label_block(name)).expect("creates");
    }
    site.run("refresh");
    fs::rename(site.path("m0"), site.path("away")).expect("renames");
    site.run("refresh");
    let commands = [
        "list volumes",
        "version",
        "update slots storage=\"c0\" drive=0",
        ".status dir running",
        "update volume=\"a\" slot=0 inchanger=no",
    ];
    for line in site.said().lines() {
        assert!(commands.contains(&line), "{line:?} was said");
    }
}

/// What the catalog says of a volume's slot and of whether it is in the changer.
fn place(site: &Site, volume: &str) -> String {
    fs::read_to_string(site.path("places").join(volume)).expect("is known").trim().to_owned()
}

/// A site with volumes on two magazines that the catalog has in the slots 1, 2 and 3.
fn site_with_a_catalog() -> Site {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    fs::create_dir(site.path("catalog")).expect("makes a directory");
    for path in ["m0/a", "m0/b", "m1/c"] {
        site.volume(path);
        fs::write(site.path("catalog").join(&path[3..]), "Append").expect("writes");
    }
    site.answer("refresh");
    assert_eq!(["a", "b", "c"].map(|name| place(&site, name)), ["1 1", "2 1", "3 1"]);
    site
}

#[test]
fn what_others_say_of_slots_is_mended_at_the_next_look() {
    let site = site_with_a_catalog();
    // as the storage daemon writes it after a restore that asked for a drive, and what somebody may type
    for wrong in ["0 0", "2 0", "0 1", "7 1"] {
        fs::write(site.path("places/b"), wrong).expect("writes");
        assert_eq!(site.changer().pending_catalog().expect("reads"), None, "nothing of ours is owed");
        site.answer("refresh");
        assert_eq!(place(&site, "b"), "2 1", "{wrong}");
    }
    fs::rename(site.path("m0"), site.path("away")).expect("pulls");
    site.answer("refresh");
    assert_eq!(["a", "b", "c"].map(|name| place(&site, name)), ["0 0", "0 0", "3 1"]);
    for wrong in ["0 1", "1 1", "1 0"] {
        fs::write(site.path("places/a"), wrong).expect("writes");
        site.answer("refresh");
        assert_eq!(place(&site, "a"), "0 0", "{wrong}");
    }
    fs::rename(site.path("m1"), site.path("away too")).expect("pulls");
    site.answer("refresh");
    // `update slots` typed with an empty dock changes nothing, and what was told before may be anything
    for name in ["a", "b", "c"] {
        fs::write(site.path("places").join(name), "3 1").expect("writes");
    }
    site.answer("refresh");
    assert_eq!(["a", "b", "c"].map(|name| place(&site, name)), ["0 0", "0 0", "0 0"]);
    let said = site.said();
    site.answer("refresh");
    let look = "list volumes\nversion\n.status dir running\n";
    assert_eq!(site.said(), format!("{said}{look}"), "what is right is left alone");
}

#[test]
fn what_update_slots_leaves_wrong_is_told_by_volume() {
    let site = site_with_a_catalog();
    site.console(&DIRECTOR.replace("echo \"$slot 1\" > $root/places/$name\n", ":\n"));
    fs::write(site.path("places/b"), "0 0").expect("writes");
    site.answer("refresh");
    assert_eq!(place(&site, "b"), "2 1");
    assert!(site.said().contains("update volume=\"b\" slot=2 inchanger=yes\n"), "{}", site.said());
    // one that does nothing of what it is told is named
    fs::write(site.path("places/b"), "0 0").expect("writes");
    fs::write(site.path("stubborn"), "").expect("writes");
    let outcome = site.run("refresh");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("did not confirm 'update volume'"), "{}", outcome.stderr);
}

/// The Director goes on with what it was at when its console ends.
const GOES_ON: &str = "setsid sh -c";

#[test]
fn a_director_that_goes_on_updating_slots_is_waited_for() {
    let mut site = site_with_a_catalog();
    fs::rename(site.path("m0"), site.path("away")).expect("pulls");
    site.env.console_limit = Duration::from_secs(2);
    site.env.console_limit_per_volume = Duration::ZERO;
    let slow = format!(
        "{GOES_ON} \"for name in a b; do sleep 1; echo 0 0 > $root/places/\\$name; done\" > /dev/null 2>&1 &\n\
         sleep 600"
    );
    let hanging = DIRECTOR.replacen("echo '3306 Issuing autochanger \"list\" command.'", &slow, 1);
    site.console(&hanging);
    assert_eq!(site.answer("refresh"), "");
    assert_eq!(["a", "b", "c"].map(|name| place(&site, name)), ["0 0", "0 0", "3 1"]);
    assert_eq!(site.said().matches("update slots").count(), 2, "it was told once");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);

    // one that does nothing any more is not
    fs::rename(site.path("away"), site.path("m0")).expect("plugs");
    site.console(&hanging.replace("in a b;", "in;"));
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("was cut off after 2 s"), "{}", outcome.stderr);
    assert!(site.changer().pending_catalog().expect("reads").is_some());
}

#[test]
fn half_an_answer_to_update_slots_confirms_nothing() {
    let site = site_with_a_catalog();
    fs::rename(site.path("m0"), site.path("away")).expect("pulls");
    // it ends with exit status 0 behind the line that was enough once
    site.console(&DIRECTOR.replacen(
        "  'update slots storage=\"c0\" drive=0')\n",
        "  'update slots storage=\"c0\" drive=0') echo '3306 Issuing autochanger \"list\" command.'; \
         echo 'Catalog record for Volume \"c\" is up to date.'; exit 0\n",
        1,
    ));
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("did not confirm 'update slots'"), "{}", outcome.stderr);
    assert!(site.changer().pending_catalog().expect("reads").is_some());
}

/// Volumes on magazine `m0`, with the labels that the Director will write.
fn to_label(site: &Site, count: usize) {
    let names: Vec<String> = (0..count).map(|number| format!("new{number:04}")).collect();
    site.labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn labels_are_made_in_portions() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    to_label(&site, 250);
    assert!(site.answer("createvols 0 250 -l new").ends_with("Created 250 volume files on magazine 0\n"));
    let said = site.said();
    let slots: Vec<&str> =
        said.lines().filter_map(|line| line.split_once(" slots=")).map(|(_, s)| s).collect();
    assert_eq!(slots, ["1-100 barcodes", "101-200 barcodes", "201-250 barcodes"]);
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

#[test]
fn a_director_that_goes_on_labelling_is_waited_for() {
    let mut site = Site::with("m0", CONSOLE);
    to_label(&site, 120);
    site.env.console_limit = Duration::from_secs(2);
    site.env.console_limit_per_volume = Duration::ZERO;
    let slow = format!(
        "{GOES_ON} \"sleep 1; for file in $root/m0/new00*; do cp $root/labels/\\${{file##*/}} \\$file; done\" \
         > /dev/null 2>&1 &\n sleep 600"
    );
    let first = "'label storage=\"c0\" pool=\"P\" drive=0 slots=1-100 barcodes')";
    let hanging = DIRECTOR.replacen("  'label '*)", &format!("  {first} {slow};;\n  'label '*)"), 1);
    site.console(&hanging);
    assert!(site.answer("createvols 0 120 -l new").ends_with("Created 120 volume files on magazine 0\n"));
    assert_eq!(site.said().matches("label storage").count(), 2, "each portion once");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);

    // one that does nothing any more is not, and what is left is said
    let mut site = Site::with("m0", CONSOLE);
    to_label(&site, 120);
    site.env.console_limit = Duration::from_secs(2);
    site.env.console_limit_per_volume = Duration::ZERO;
    site.console(&hanging.replace("/m0/new00*", "/m0/new003*"));
    let outcome = site.run("createvols 0 120 -l new");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("left 110 new volume(s) without a label"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("was cut off after 2 s"), "{}", outcome.stderr);
    assert_eq!(site.said().matches("label storage").count(), 1, "not in its way");
}

#[test]
fn a_waiting_drive_is_woken() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.volume("m0/b");
    waits(&site, false, Some("b"));
    site.answer("refresh");
    assert!(site.said().ends_with("mount storage=\"c0\" slot=2 drive=1\n"), "{}", site.said());
}

#[test]
fn what_fails_besides_keeps_no_drive_waiting() {
    let woken = "mount storage=\"c0\" slot=1 drive=1\n";
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    fs::write(site.path("m0/blank"), "").expect("creates");
    waits(&site, false, Some("a"));
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("left 1 new volume(s) without a label"), "{}", outcome.stderr);
    assert!(site.said().ends_with(woken), "{}", site.said());

    let site = Site::with("m0", CONSOLE);
    site.console(&DIRECTOR.replacen(
        "  'list volumes')\n",
        "  'list volumes') echo 'list: is an invalid command.'; continue\n",
        1,
    ));
    site.labels(&["blank"]);
    site.volume("m0/a");
    fs::write(site.path("m0/blank"), "").expect("creates");
    waits(&site, false, Some("a"));
    let outcome = site.run("refresh");
    assert!(outcome.stderr.contains("did not confirm 'list volumes'"), "{}", outcome.stderr);
    assert_eq!(fs::read(site.path("m0/blank")).expect("reads"), label_block("blank"));
    assert!(site.said().ends_with(woken), "{}", site.said());
}

#[test]
fn volumes_may_change_while_the_console_talks() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.answer("list");
    site.console(&DIRECTOR.replacen(
        "  'list volumes')\n",
        "  'list volumes')\n    touch $root/listing; until test -e $root/go; do sleep 0.01; done\n",
        1,
    ));
    let outcome = std::thread::scope(|scope| {
        let refresh = scope.spawn(|| site.run("refresh"));
        while !site.path("listing").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // two commits, so that the list of volumes that was read at first is swept
        for name in ["m0/b", "m0/c"] {
            site.volume(name);
            site.answer("list");
        }
        fs::write(site.path("go"), "").expect("writes");
        refresh.join().expect("ends")
    });
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

#[test]
fn without_an_explicit_console_nothing_is_owed_where_there_is_none() {
    let site = Site::with("m0", "");
    site.volume("m0/a");
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
    fs::rename(site.path("m0"), site.path("away")).expect("renames");
    assert_eq!(site.run("load 1 dev 0").code, 1, "nobody would end the waiting for a stand-in");
}
