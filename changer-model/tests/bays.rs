//! The 0.8 generation: bays with a fixed number of slots, drives at `WORK/N/driveN`, `initmag`.

mod site;

use std::fs;

use site::Site;

/// Two bays of three slots for three magazines.
fn old_site() -> Site {
    let site = Site::new("m0 m1 m2");
    let mut text = format!(
        "changer_name = \"c0\"\nwork_dir = {}\nvirtual_drives = 2\nslots_per_magazine = 3\nmagazine_bays = 2\n",
        site.path("work").display()
    );
    for name in ["m0", "m1", "m2"] {
        text.push_str("magazine = \"");
        text.push_str(&site.path(name).to_string_lossy());
        text.push_str("\"\n");
    }
    fs::write(site.path("c.conf"), text).unwrap_or_default();
    site
}

fn swap(site: &Site, from: &str, to: &str) {
    // old enough for the changer to take a directory's time at its word
    std::thread::sleep(std::time::Duration::from_millis(60));
    site.answer("list");
    assert!(fs::rename(site.path(from), site.path(to)).is_ok(), "{from} -> {to}");
}

#[test]
fn magazines_take_bays_and_the_surplus_waits() {
    let site = old_site();
    for name in ["m0/a", "m1/b", "m2/c"] {
        site.volume(name);
    }
    assert_eq!(site.answer("slots"), "6\n");
    assert_eq!(site.answer("list"), "1:a\n2:\n3:\n4:b\n5:\n6:\n");
    swap(&site, "m0", "away-m0");
    assert_eq!(site.answer("list"), "1:c\n2:\n3:\n4:b\n5:\n6:\n", "the waiting one takes the free bay");
    swap(&site, "away-m0", "m0");
    assert_eq!(site.answer("list"), "1:c\n2:\n3:\n4:b\n5:\n6:\n", "who stands in a bay stays");
    swap(&site, "m1", "away-m1");
    assert_eq!(site.answer("list"), "1:c\n2:\n3:\n4:a\n5:\n6:\n");
    assert_eq!(site.answer("slots"), "6\n");
}

#[test]
fn a_drive_is_a_link_in_a_directory() {
    let site = old_site();
    site.volume("m1/b");
    assert_eq!(site.answer("list"), "1:\n2:\n3:\n4:b\n5:\n6:\n");
    // what the old program left behind: a link to the mount point
    assert!(std::os::unix::fs::symlink(site.path("m1"), site.path("work/1")).is_ok());
    assert_eq!(site.answer("load 4 dev 1"), "");
    assert_eq!(fs::read_link(site.path("work/1/drive1")).ok(), Some(site.path("m1/b")));
    assert_eq!(site.answer("loaded 4 dev 1"), "4\n");
    assert_eq!(site.run("loaded 4 dev 2").code, 1, "there are two drives");
    assert_eq!(site.answer("unload 4 dev 1"), "");
    assert!(site.path("work/1").is_dir());
    assert!(!site.path("work/1/drive1").is_symlink());
    assert_eq!(
        fs::read_dir(site.path("m1")).map(Iterator::count).ok(),
        Some(1),
        "nothing is written on the magazine"
    );
}

#[test]
fn a_magazine_is_initialised_once() {
    let site = old_site();
    let line = format!("created magazine 1 in bay 2 [{}]\n", site.path("m1").display());
    assert_eq!(site.answer("initmag 2"), line);
    assert!(site.answer("list").ends_with("4:c0_0001_0001\n5:c0_0001_0002\n6:c0_0001_0003\n"));
    let again = site.run("INITMAG 2");
    assert_eq!((again.code, again.stdout.as_str()), (255, ""));
    assert!(again.stderr.contains("is initialised already"), "{}", again.stderr);
    assert_eq!(site.run("initmag 3").code, 255);
    assert!(site.answer("initmag 1 -m 7").starts_with("created magazine 7 in bay 1"));
    assert_eq!(site.run("createvols 0 1").code, 255, "the bay is full");
    swap(&site, "m0", "away-m0");
    assert!(site.answer("initmag 1").starts_with("created magazine 8 in bay 1"), "no number is given twice");
}

#[test]
fn bays_are_listed_as_the_old_program_does() {
    let site = old_site();
    assert_eq!(
        site.answer("listmags"),
        format!("1::0:{}\n2::0:{}\n", site.path("m0").display(), site.path("m1").display())
    );
    site.answer("initmag 2 -m 5");
    swap(&site, "m0", "away-m0");
    swap(&site, "m2", "away-m2");
    assert_eq!(site.answer("listmags"), format!("1::0:\n2:c0:5:{}\n", site.path("m1").display()));
}

#[test]
fn a_volume_stands_where_its_number_says() {
    let site = old_site();
    for name in ["m0/c0_0001_0003", "m0/c0_0001_0001", "m0/other"] {
        site.volume(name);
    }
    assert_eq!(site.answer("list"), "1:c0_0001_0001\n2:other\n3:c0_0001_0003\n4:\n5:\n6:\n");
}

#[test]
fn what_the_old_program_left_is_taken_over() {
    let site = old_site();
    let work = |name: &str, text: &str| assert!(fs::write(site.path("work").join(name), text).is_ok());
    let magazine = |name: &str| format!("{}\n", site.path(name).display());
    assert!(fs::create_dir(site.path("work")).is_ok());
    work("bay1", &magazine("m2"));
    work("bay2", &magazine("m0"));
    work("nextmag", "9");
    work("state0", "\n");
    // drive 1 holds a new, empty volume, whose file is called drive1 for as long
    work("state1", "c0_0004_0002\n");
    assert!(std::os::unix::fs::symlink(site.path("m2"), site.path("work/1")).is_ok());
    for (name, text) in
        [("m2/index", "c0_0004"), ("m2/loaded0", "\n"), ("m2/loaded1", "c0_0004_0002\n"), ("m2/drive1", "")]
    {
        assert!(fs::write(site.path(name), text).is_ok());
    }
    site.volume("m2/c0_0004_0003");
    site.volume("m0/c0_0001_0002");
    let before = "1:\n2:c0_0004_0002\n3:c0_0004_0003\n4:\n5:c0_0001_0002\n6:\n";
    assert_eq!(site.answer("list"), before);
    assert_eq!(site.answer("loaded 2 dev 1"), "2\n");
    assert_eq!(fs::read_link(site.path("work/1/drive1")).ok(), Some(site.path("m2/drive1")));
    assert_eq!(site.answer("loaded 2 dev 0"), "0\n");
    let listed = format!("1:c0:4:{}\n2:c0:1:{}\n", site.path("m2").display(), site.path("m0").display());
    assert_eq!(site.answer("listmags"), listed);
    assert_eq!(site.answer("unload 2 dev 1"), "");
    assert_eq!(site.answer("load 2 dev 0"), "");
    assert_eq!(site.answer("list"), before);
    swap(&site, "m0", "away-m0");
    assert!(site.answer("initmag 2").starts_with("created magazine 9 in bay 2"));
}

#[test]
fn a_site_can_change_to_the_new_generation() {
    let site = old_site();
    site.volume("m0/a");
    site.volume("m1/b");
    site.answer("list");
    site.answer("load 1 dev 0");
    let text = format!(
        "Storage Resource = c0\nWork Dir = {}\nbconsole = \"\"\nMagazine = {}\nMagazine = {}\n",
        site.path("work").display(),
        site.path("m0").display(),
        site.path("m1").display()
    );
    assert!(fs::write(site.path("c.conf"), text).is_ok());
    assert!(
        site.answer("list").starts_with("1:a\n2:\n3:\n4:b\n5:\n"),
        "each keeps the slot it had in its bay"
    );
    assert_eq!(site.answer("slots"), "10\n");
    assert_eq!(site.run("initmag 1").code, 1);
    assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
    assert_eq!(fs::read_link(site.path("work/0")).ok(), Some(site.path("m0/a")), "where 0.8 had a directory");
}

#[test]
fn more_volumes_than_a_bay_has_slots_stay_outside() {
    let site = old_site();
    for name in ["m0/a", "m0/b", "m0/c", "m0/d"] {
        site.volume(name);
    }
    assert_eq!(site.answer("list"), "1:a\n2:b\n3:c\n4:\n5:\n6:\n");
    let state = fs::read(site.path("work/state.json")).unwrap_or_default();
    site.answer("refresh");
    site.answer("refresh");
    let again = fs::read(site.path("work/state.json")).unwrap_or_default();
    let revision = |text: &[u8]| {
        let value: Option<serde_json::Value> = serde_json::from_slice(text).ok();
        value.and_then(|v| {
            v["magazines"].as_object().map(|m| m.values().map(|r| r["revision"].as_u64()).collect::<Vec<_>>())
        })
    };
    assert!(revision(&state).is_some_and(|r| r.contains(&Some(2))));
    assert_eq!(revision(&state), revision(&again), "nothing new is owed to Bacula each time");
    assert!(fs::remove_file(site.path("m0/b")).is_ok());
    assert_eq!(site.answer("list"), "1:a\n2:d\n3:c\n4:\n5:\n6:\n", "a full bay uses the place again");
}
