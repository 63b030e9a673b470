//! The changer's contract as bacula-sd and administrators see it: command lines on plain directories.

#![expect(clippy::expect_used, reason = "a test's surroundings fail by panicking")]

mod site;

use std::fs;
use std::os::unix::net::UnixDatagram;

use site::{Site, label_block};

#[test]
fn an_empty_library_has_ten_empty_slots() {
    let site = Site::new("m0");
    assert_eq!(site.answer("slots"), "10\n");
    assert_eq!(site.answer("LIST"), "1:\n2:\n3:\n4:\n5:\n6:\n7:\n8:\n9:\n10:\n");
    assert_eq!(site.answer("listmags"), format!("0:0:0:{}\n", site.path("m0").display()));
    assert_eq!(site.answer("loaded 1 dev 5"), "0\n");
}

#[test]
fn volumes_are_listed_loaded_and_unloaded() {
    let site = Site::new("m0");
    site.volume("m0/b");
    fs::write(site.path("m0/a"), "").expect("writes");
    assert!(site.answer("list 0 dev 0").starts_with("1:a\n2:b\n3:\n"));
    assert_eq!(site.answer("load 2 dev 1"), "");
    assert_eq!(fs::read_link(site.path("work/1")).expect("is a link"), site.path("m0/b"));
    assert_eq!(site.answer("loaded 2 dev 1"), "2\n");
    assert_eq!(site.answer("load 2 dev 1"), "", "loading it again changes nothing");
    let all = site.answer("listall");
    assert!(all.starts_with("D:0:E\nD:1:F:2:b\nS:1:F:a\nS:2:E\nS:3:E\n"), "{all}");
    assert!(site.answer("list").contains("2:b\n"), "a loaded volume stays listed");
    for refused in ["load 1 dev 1", "load 2 dev 0", "load 7 dev 0", "load 11 dev 0", "load 0 dev 0"] {
        let outcome = site.run(refused);
        assert_eq!(outcome.code, 1, "{refused}");
        assert!(!outcome.stderr.is_empty(), "{refused}");
    }
    assert_eq!(site.answer("unload 9 dev 1"), "", "the slot does not matter");
    assert_eq!(site.answer("unload 9 dev 1"), "", "an empty drive stays empty");
    assert_eq!(site.answer("loaded 2 dev 1"), "0\n");
    assert!(!site.path("work/1").exists());
}

/// As on a filesystem that stopped writing after an error, where every flush fails.
#[test]
fn a_flush_that_fails_is_said_once() {
    let site = Site::new("m0");
    site.volume("m0/a");
    site.volume("m0/b");
    site.answer("load 1 dev 0");
    let drives = fs::read_to_string(site.path("work/drives.json")).expect("reads");
    // a file that can be read and not be flushed
    let path = site.path("m0/a").display().to_string();
    fs::write(site.path("work/drives.json"), drives.replace(&path, "/proc/self/mountinfo")).expect("writes");
    let failed = site.run("unload 1 dev 0");
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    assert!(failed.stderr.contains("volume a could not be flushed"), "{}", failed.stderr);
    assert_eq!(site.answer("unload 1 dev 0"), "", "the storage daemon goes on with another drive's volumes");
    assert_eq!(site.answer("load 2 dev 0"), "");
    assert_eq!(site.answer("unload 2 dev 0"), "");
}

#[test]
fn slots_stay_with_their_volumes() {
    let site = Site::new("m0 m1");
    for name in ["m0/a", "m0/b", "m1/x"] {
        site.volume(name);
    }
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:x\n"));
    site.volume("m0/0first");
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:x\n4:0first\n"), "the new one moves nobody");
    fs::rename(site.path("m0"), site.path("away")).expect("renames");
    assert!(site.answer("list").starts_with("1:\n2:\n3:x\n4:\n"));
    site.volume("m1/y");
    assert!(
        site.answer("list").starts_with("1:\n2:\n3:x\n4:\n5:y\n"),
        "the slots of the absent one are kept"
    );
    assert_eq!(site.answer("listmags"), format!("0:::\n1:2:3:{}\n", site.path("m1").display()));
    fs::rename(site.path("away"), site.path("m0")).expect("renames");
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:x\n4:0first\n5:y\n"));
    fs::remove_file(site.path("m0/a")).expect("removes");
    fs::rename(site.path("m0/b"), site.path("m1/b")).expect("moves");
    assert!(site.answer("list").starts_with("1:\n2:b\n3:x\n"), "a volume that moved takes its slot along");
}

#[test]
fn the_label_inside_counts_not_the_name() {
    let site = Site::new("m0");
    site.volume("m0/a");
    assert!(site.answer("list").starts_with("1:a\n2:\n"));
    fs::rename(site.path("m0/a"), site.path("m0/renamed")).expect("renames");
    assert!(site.answer("list").starts_with("1:a\n2:\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    assert_eq!(fs::read_link(site.path("work/0")).expect("is a link"), site.path("m0/renamed"));
    site.answer("unload 1 dev 0");
    // exchanged behind the changer's back, within the same directory entry
    fs::write(site.path("m0/renamed"), label_block("other")).expect("writes");
    let outcome = site.run("load 1 dev 0");
    assert_eq!(outcome.code, 1);
    assert!(site.answer("list").starts_with("1:\n2:other\n"), "and the truth is told from now on");
}

#[test]
fn files_that_are_no_volumes_are_told() {
    let site = Site::with("m0 m1", "bconsole = ''\nLogfile = ROOT/log\n");
    for name in ["m0/a", "m0/b", "m1/c"] {
        site.volume(name);
    }
    site.answer("list");
    fs::create_dir(site.path("m0/lost+found")).expect("makes a directory");
    fs::create_dir(site.path("m0/.offsite")).expect("makes a directory");
    for hidden in [".hidden", "index", "loaded0"] {
        fs::write(site.path(&format!("m0/{hidden}")), "x").expect("writes");
    }
    site.answer("list");
    assert_eq!(site.changer().status().expect("reads").notices, [], "nobody means these as volumes");
    let mut damaged = label_block("b");
    damaged[60] ^= 1;
    fs::write(site.path("m0/b"), damaged).expect("writes");
    fs::write(site.path("m0/two words"), "").expect("writes");
    fs::write(site.path("m0/B\u{fc}ro\n1"), label_block("x")).expect("writes");
    fs::write(site.path("m0/readme"), "hello").expect("writes");
    fs::copy(site.path("m1/c"), site.path("m1/copy")).expect("copies");
    for _ in 0..3 {
        assert!(site.answer("list").starts_with("1:a\n2:\n3:c\n4:\n"));
    }
    let notices = site.changer().status().expect("reads").notices;
    let told: Vec<(Option<&str>, &str)> =
        notices.iter().map(|notice| (notice.magazine.as_deref(), notice.message.as_str())).collect();
    let (m0, m1) = (site.path("m0").display().to_string(), site.path("m1").display().to_string());
    let expected = [
        (Some(m0.as_str()), "2 file(s) have names that Bacula refuses for volumes: B\u{fc}ro\\n1, two words"),
        (Some(m0.as_str()), "1 volume(s) have a damaged label: b"),
        (Some(m0.as_str()), "1 file(s) hold no label of Bacula's: readme"),
        (Some(m1.as_str()), "1 file(s) have the label of another file there: copy"),
    ];
    assert_eq!(told, expected);
    let log = fs::read_to_string(site.path("log")).expect("is there");
    for (_, message) in expected {
        assert_eq!(log.matches(message).count(), 1, "{message}: {log}");
    }
    // mended
    site.volume("m0/b");
    for gone in ["m0/two words", "m0/B\u{fc}ro\n1", "m0/readme", "m1/copy"] {
        fs::remove_file(site.path(gone)).expect("removes");
    }
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:c\n"));
    assert_eq!(site.changer().status().expect("reads").notices, []);
}

#[test]
fn a_file_in_the_place_of_a_drive_is_never_deleted() {
    let site = Site::new("m0");
    site.volume("m0/a");
    site.answer("list");
    fs::write(site.path("work/0"), label_block("precious")).expect("writes");
    assert_eq!(site.run("load 1 dev 0").code, 1);
    assert_eq!(site.answer("unload 1 dev 0"), "");
    assert_eq!(fs::read(site.path("work/0")).expect("is there"), label_block("precious"));
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
}

#[test]
fn a_drive_is_empty_when_its_magazine_is_away() {
    let site = Site::new("m0 m1");
    site.volume("m0/same");
    site.volume("m1/other");
    site.answer("list");
    site.answer("load 1 dev 0");
    site.answer("load 2 dev 1");
    fs::rename(site.path("m0"), site.path("away")).expect("renames");
    site.volume("m1/same");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    assert!(!site.path("work/0").is_symlink(), "no link leads where the magazine should be");
    assert_eq!(site.answer("loaded 2 dev 1"), "2\n");
    assert_eq!(site.answer("unload 1 dev 0"), "");
}

#[test]
fn volumes_are_created_with_the_peers_names() {
    let site = Site::new("m0 m1");
    let made = site.answer("createvols 1 2");
    assert_eq!(
        made,
        "creating label 'c0_0001_0000'\ncreating label 'c0_0001_0001'\nCreated 2 volume files on magazine 1\n"
    );
    assert!(site.answer("createvols 1 1").starts_with("creating label 'c0_0001_0002'\n"));
    assert!(site.answer("createvols 1 2 1 -l c0_0001_").contains("'c0_0001_0004'"));
    fs::write(site.path("m0/vol0007"), "kept").expect("writes");
    assert!(site.answer("createvols 0 1 7 --label=vol").contains("'vol0008'"), "no file is overwritten");
    assert_eq!(fs::read(site.path("m0/vol0007")).expect("is there"), b"kept");
    assert!(site.answer("list").starts_with("1:c0_0001_0000\n2:c0_0001_0001\n"));
    assert_eq!(site.answer("slots"), "10\n");
    for refused in ["createvols 2 1", "createvols 0 1 -l ../x"] {
        assert_eq!(site.run(refused).code, 255, "{refused}");
    }
    fs::remove_dir_all(site.path("m1")).expect("removes");
    let outcome = site.run("createvols 1 1");
    assert_eq!(outcome.code, 255);
    assert!(outcome.stderr.contains("is away"), "{}", outcome.stderr);
}

#[test]
fn slots_never_shrink_and_list_stays_below_what_was_answered() {
    let site = Site::new("m0");
    site.answer("createvols 0 12");
    assert_eq!(site.answer("slots 0 dev 0"), "12\n");
    site.volume("m0/late");
    assert_eq!(site.answer("list 0 dev 0").lines().count(), 12, "bacula-sd has a table of twelve");
    assert_eq!(site.answer("slots 0 dev 0"), "13\n");
    assert_eq!(site.answer("list 0 dev 0").lines().count(), 13);
    for entry in fs::read_dir(site.path("m0")).expect("lists") {
        fs::remove_file(entry.expect("entry").path()).expect("removes");
    }
    assert_eq!(site.answer("slots"), "13\n");
    site.volume("m0/again");
    assert!(site.answer("list").starts_with("1:again\n"));
}

#[test]
fn wrong_lines_print_the_help_and_wrong_configurations_say_where() {
    let site = Site::new("m0");
    let outcome = site.run("transfer 1 dev 0");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.starts_with("Usage:"), "{}", outcome.stdout);
    assert_eq!(outcome.stderr.lines().count(), 1);
    fs::write(site.path("c.conf"), "Magazine = /m\nMagzine = /n\n").expect("writes");
    let outcome = site.run("list");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.contains("c.conf:2:1: unknown key \"Magzine\"; did you mean \"Magazine\"?"));
}

#[test]
fn a_bare_mount_point_is_absent_not_empty() {
    let site = Site::new("m0");
    site.volume("m0/a");
    site.answer("list");
    fs::create_dir_all(site.path("etc")).expect("makes a directory");
    let line = format!("UUID=1 {} ext4 defaults 0 2\n", site.path("m0").display());
    fs::write(site.path("etc/fstab"), line).expect("writes");
    assert!(site.answer("list").starts_with("1:\n"));
    assert_eq!(site.answer("listmags"), "0:::\n");
    assert_eq!(site.run("createvols 0 1").code, 255);
    assert_eq!(site.run("load 1 dev 0").code, 1);
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before() {
    let site = Site::new("m0");
    site.answer("createvols 0 3");
    site.answer("createvols 0 1");
    let list = site.answer("list");
    for damage in [&b""[..], b"{", b"\0\0\0\0"] {
        fs::write(site.path("work/state.json"), damage).expect("writes");
        assert_eq!(site.answer("list"), list);
        site.answer("refresh");
        assert_eq!(site.answer("list"), list);
    }
    fs::write(site.path("work/state.json"), "{").expect("writes");
    fs::write(site.path("work/state.json.previous"), "{").expect("writes");
    let outcome = site.run("list");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("damaged"), "{}", outcome.stderr);
    let newer = "{\"version\":99}";
    fs::write(site.path("work/state.json"), newer).expect("writes");
    assert!(site.run("list").stderr.contains("use the newer program"));
    fs::write(site.path("work/drives.json"), "junk").expect("writes");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
}

#[test]
fn magazine_paths_may_have_commas_quotes_and_blanks() {
    let site = Site::new("");
    let directory = site.path("a, \"b\" c");
    let escaped = directory.to_string_lossy().replace('"', "\\\"");
    fs::create_dir_all(&directory).expect("makes a directory");
    let text =
        format!("Work Dir = {}\nbconsole = \"\"\nMagazine = \"{escaped}\"\n", site.path("work").display());
    fs::write(site.path("c.conf"), text).expect("writes");
    fs::write(directory.join("v"), label_block("v")).expect("writes");
    assert!(site.answer("list").starts_with("1:v\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    for _ in 0..3 {
        site.answer("refresh");
        assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
    }
}

#[test]
fn a_site_of_vchanger_keeps_its_slots() {
    let site = Site::new("m0 m1");
    for name in ["m0/b", "m0/c", "m1/a", "m1/d"] {
        site.volume(name);
    }
    fs::create_dir(site.path("work")).expect("makes a directory");
    let bay = |name: &str, tail: &str| format!("{},{tail}\n", site.path(name).display());
    fs::write(site.path("work/bay_state-0"), bay("m0", "2,13")).expect("writes");
    fs::write(site.path("work/bay_state-1"), bay("m1", "2,4")).expect("writes");
    fs::write(site.path("work/dynamic.conf"), "max_used_slot=20\n").expect("writes");
    assert_eq!(site.answer("slots"), "20\n");
    let list = site.answer("list");
    assert!(list.contains("\n4:a\n5:d\n6:\n") && list.contains("\n13:b\n14:c\n15:\n"), "{list}");
    site.volume("m0/new");
    assert!(site.answer("list").starts_with("1:new\n2:\n"));
}

#[test]
fn the_log_is_written_as_vchanger_writes_it() {
    let site = Site::with("m0", "bconsole = ''\nLogfile = ROOT/log\nLog Level = 5\n");
    site.run("load 3 dev 0");
    site.answer("unload 3 dev 0");
    let log = fs::read_to_string(site.path("log")).expect("is there");
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].ends_with("]: vchanger: slot 3 is empty"), "{log}");
    assert!(lines[1].ends_with(&format!(":  [{}]: unload drive 0: done", std::process::id())), "{log}");
}

/// The system's log of a site.
fn system_log(site: &Site) -> UnixDatagram {
    fs::create_dir_all(site.path("dev")).expect("makes a directory");
    let socket = UnixDatagram::bind(site.path("dev/log")).expect("binds");
    socket.set_nonblocking(true).expect("does not wait");
    socket
}

fn messages(log: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 4096];
    let next = || {
        log.recv(&mut bytes)
            .ok()
            .map(|read| String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned())
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn a_log_that_cannot_be_written_stops_no_command() {
    let site = Site::with("m0", "bconsole = ''\nLogfile = ROOT/nowhere/log\n");
    let log = system_log(&site);
    site.volume("m0/a");
    assert!(
        site.answer("list 0 dev 0").starts_with("1:a\n"),
        "nothing else is in the storage daemon's answer"
    );
    let [told] = messages(&log).try_into().expect("it is told once");
    assert!(told.starts_with("<27>vchanger[") && told.contains("cannot open the log file"), "{told}");
    for line in
        ["load 1 dev 0", "loaded 1 dev 0", "slots", "listall", "unload 1 dev 0", "refresh", "createvols 0 1"]
    {
        site.answer(line);
    }
    assert_eq!(messages(&log), Vec::<String>::new(), "it was told");
    let notices = site.changer().status().expect("reads").notices;
    assert!(notices[0].message.contains("cannot open the log file"), "{notices:?}");
    fs::create_dir(site.path("nowhere")).expect("makes a directory");
    site.answer("list");
    assert_eq!(site.changer().status().expect("reads").notices, []);
    fs::remove_dir_all(site.path("nowhere")).expect("removes");
    let outcome = site.run("refresh");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
    assert!(outcome.stderr.contains("cannot open the log file"), "a person is told: {}", outcome.stderr);
    assert_eq!(messages(&log).len(), 1, "it is another failure");
}

#[test]
fn a_bad_line_leaves_the_other_magazines_to_the_jobs() {
    let lines = "bconsole = ''\nLogfile = ROOT/log\nMagazine = UUID=abc-1\nMagazine = ROOT/m1\n";
    let site = Site::with("m0", lines);
    fs::create_dir(site.path("m1")).expect("makes a directory");
    site.volume("m0/a");
    site.volume("m1/b");
    for _ in 0..3 {
        assert!(site.answer("list 0 dev 0").starts_with("1:a\n2:b\n"));
    }
    site.answer("load 2 dev 0");
    let (m0, m1) = (site.path("m0"), site.path("m1"));
    let expected = format!("0:1:1:{}\n1:::\n2:1:2:{}\n", m0.display(), m1.display());
    assert_eq!(site.answer("listmags"), expected, "createvols counts the lines");
    assert!(site.answer("createvols 2 1").contains("magazine 2"));
    assert_eq!(site.run("createvols 1 1").code, 255);
    let log = fs::read_to_string(site.path("log")).expect("is there");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("c.conf:6:12")).collect();
    assert!(told.len() == 1 && told[0].contains("UUID=abc-1") && told[0].contains("left out"), "{log}");
    let notices = site.changer().status().expect("reads").notices;
    assert!(notices.len() == 1 && notices[0].message.contains("UUID=abc-1"), "{notices:?}");
}

#[test]
fn a_console_without_its_directory_is_found_among_the_systems_programs() {
    let site = Site::with("m0", "bconsole = bconsole\n");
    site.volume("m0/a");
    assert!(site.run("refresh").stderr.contains("/usr/sbin/bconsole"), "it says what to install where");
    site.console("cat >> $root/said");
    fs::create_dir_all(site.path("usr/bin")).expect("makes a directory");
    fs::rename(site.path("bconsole"), site.path("usr/bin/bconsole")).expect("installs");
    site.run("refresh");
    assert!(site.said().contains("update slots"), "{}", site.said());
}

#[test]
fn a_state_that_is_no_file_is_neither_followed_nor_waited_for() {
    let site = Site::new("m0");
    site.answer("list");
    fs::remove_file(site.path("work/state.json")).expect("removes");
    nix::unistd::mkfifo(&site.path("work/state.json"), nix::sys::stat::Mode::S_IRWXU).expect("makes a FIFO");
    assert!(site.run("list").stderr.contains("it is no regular file"));
}

#[test]
fn a_state_file_without_end_is_not_read_to_its_end() {
    let site = Site::new("m0");
    site.answer("list");
    for name in ["state.json", "drives.json"] {
        let path = site.path("work").join(name);
        let before = fs::read(&path).ok();
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).expect("opens");
        // Larger than the memory of most machines; it takes no room.
        file.set_len(1 << 40).expect("grows");
        let said = site.run("list").stderr + &site.run("refresh").stderr;
        assert!(said.contains("it is larger than 64 MiB"), "{name}: {said}");
        match before {
            Some(text) => fs::write(&path, text).expect("writes"),
            None => fs::remove_file(&path).expect("removes"),
        }
    }
    site.answer("list");
}
