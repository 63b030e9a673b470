//! Sites of vchanger and of this crate whose magazines get other names: volumes keep their slots.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::fs;
use std::os::unix::fs::symlink;

use changer_model::{MagazineSource, TakeOverError};
use site::Site;

/// The directories of `before` are called as those of `after` from now on.
fn names(site: &Site, pairs: &[(&str, &str)]) -> Vec<(MagazineSource, MagazineSource)> {
    let source = |name: &str| MagazineSource::Directory(site.path(name));
    pairs.iter().map(|(old, new)| (source(old), source(new))).collect()
}

/// Moves the magazines and replaces the configuration, as whoever takes a site over does.
fn move_in(site: &Site, pairs: &[(&str, &str)]) {
    let mut text =
        format!("Storage Resource = c0\nWork Dir = {}\nbconsole = \"\"\n", site.path("work").display());
    for (old, new) in pairs {
        fs::create_dir_all(site.path("new")).expect("makes a directory");
        fs::rename(site.path(old), site.path(new)).expect("renames");
        text = [&text, "Magazine = ", &site.path(new).to_string_lossy(), "\n"].concat();
    }
    fs::write(site.path("c.conf"), text).expect("writes");
}

const PAIRS: [(&str, &str); 2] = [("m0", "new/a"), ("m1", "new/b")];

#[test]
fn a_site_of_vchanger_moves_with_its_slots() {
    let site = Site::new("m0 m1");
    for name in ["m0/b", "m0/c", "m1/a", "m1/d"] {
        site.volume(name);
    }
    fs::create_dir(site.path("work")).expect("makes a directory");
    let state = |name: &str, magazine: &str, tail: &str| {
        let text = format!("{},{tail}\n", site.path(magazine).display());
        fs::write(site.path("work").join(name), text).expect("writes");
    };
    state("bay_state-0", "m0", "2,13");
    state("bay_state-1", "m1", "2,4");
    state("drive_state-0", "m1", "d");
    fs::write(site.path("work/dynamic.conf"), "max_used_slot=20\n").expect("writes");
    symlink(site.path("m1/d"), site.path("work/0")).expect("links");

    let taken = site.changer().take_over(&names(&site, &PAIRS)).expect("is taken over");
    let slots: Vec<_> = taken.magazines.iter().map(|m| (m.volumes, m.slots.as_str())).collect();
    assert_eq!((slots.as_slice(), taken.unusable.len()), (&[(2, "13-14"), (2, "4-5")][..], 0));
    assert!(!site.path("work/0").is_symlink(), "drives are empty until the storage daemon loads again");
    let state = fs::read(site.path("work/state.json")).expect("is there");
    site.changer().take_over(&names(&site, &PAIRS)).expect("is taken over again");
    assert_eq!(fs::read(site.path("work/state.json")).expect("is there"), state, "which changes nothing");

    move_in(&site, &PAIRS);
    let list = site.answer("list");
    assert!(list.contains("\n4:a\n5:d\n6:\n") && list.contains("\n13:b\n14:c\n15:\n"), "{list}");
    assert_eq!(list.lines().count(), 20);
}

#[test]
fn what_vchanger_had_loaded_stays_loaded_when_only_the_program_is_exchanged() {
    let site = Site::new("m0");
    site.volume("m0/a");
    site.volume("m0/b");
    fs::create_dir(site.path("work")).expect("makes a directory");
    let magazine = site.path("m0");
    fs::write(site.path("work/bay_state-0"), format!("{},2,1\n", magazine.display())).expect("writes");
    fs::write(site.path("work/drive_state-1"), format!("{},b\n", magazine.display())).expect("writes");
    symlink(site.path("m0/b"), site.path("work/1")).expect("links");
    assert_eq!(site.answer("loaded 2 dev 1"), "2\n", "the storage daemon asks this first");
    assert!(site.answer("list").starts_with("1:a\n2:b\n"));
    assert!(site.answer("listall").starts_with("D:0:E\nD:1:F:2:b\nS:1:F:a\nS:2:E\n"));
    assert_eq!(site.run("load 2 dev 0").code, 1);
}

/// vchanger takes every file for a volume, and gives each a slot.
#[test]
fn files_that_are_no_volumes_move_no_slot() {
    for take_over in [false, true] {
        let site = Site::new("m0 m1");
        for name in ["m0/b", "m0/d", "m1/a"] {
            site.volume(name);
        }
        for name in [".hidden", "c.txt", "z y"] {
            fs::write(site.path("m0").join(name), "no volume").expect("writes");
        }
        fs::create_dir(site.path("m0/lost+found")).expect("makes a directory");
        fs::create_dir(site.path("work")).expect("makes a directory");
        let state = |name: &str, magazine: &str, tail: &str| {
            let text = format!("{},{tail}\n", site.path(magazine).display());
            fs::write(site.path("work").join(name), text).expect("writes");
        };
        state("bay_state-0", "m0", "5,3");
        state("bay_state-1", "m1", "1,1");
        state("drive_state-0", "m0", "d");
        if take_over {
            site.changer().take_over(&names(&site, &PAIRS)).expect("is taken over");
            move_in(&site, &PAIRS);
        } else {
            assert_eq!(site.answer("loaded 6 dev 0"), "6\n");
        }
        let list = site.answer("list");
        assert!(list.starts_with("1:a\n2:\n3:\n4:b\n5:\n6:d\n7:\n"), "{list}");
    }
}

#[test]
fn of_bays_those_that_are_shown_keep_their_slots() {
    let site = Site::new("m0 m1 m2");
    let mut text = format!(
        "changer_name = c0\nwork_dir = {}\nslots_per_magazine = 3\nmagazine_bays = 2\n",
        site.path("work").display()
    );
    for name in ["m0", "m1", "m2"] {
        text = [&text, "magazine = ", &site.path(name).to_string_lossy(), "\n"].concat();
    }
    fs::write(site.path("c.conf"), text).expect("writes");
    for name in ["m0/c0_0001_0001", "m0/c0_0001_0003", "m1/c0_0002_0002", "m2/c0_0003_0001"] {
        site.volume(name);
    }
    fs::create_dir(site.path("work")).expect("makes a directory");
    fs::write(site.path("work/bay1"), format!("{}\n", site.path("m1").display())).expect("writes");
    fs::write(site.path("work/bay2"), format!("{}\n", site.path("m0").display())).expect("writes");
    assert_eq!(site.changer().status().expect("reads").slots, 6);

    let pairs = [("m0", "new/a"), ("m1", "new/b"), ("m2", "new/c")];
    site.changer().take_over(&names(&site, &pairs)).expect("is taken over");
    move_in(&site, &pairs);
    let expected = "1:c0_0003_0001\n2:c0_0002_0002\n3:\n4:c0_0001_0001\n5:\n6:c0_0001_0003\n7:\n";
    let list = site.answer("list");
    assert!(list.starts_with(expected), "{list}");
}

#[test]
fn a_magazine_that_is_away_moves_with_what_is_known_of_it() {
    let site = Site::new("m0 m1");
    for name in ["m0/a", "m1/b", "m1/c"] {
        site.volume(name);
    }
    site.answer("list");
    fs::rename(site.path("m1"), site.path("away")).expect("unplugs");
    site.changer().take_over(&names(&site, &PAIRS)).expect("is taken over");
    fs::rename(site.path("away"), site.path("m1")).expect("plugs");
    site.volume("m0/d");
    move_in(&site, &PAIRS);
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:c\n4:d\n"));
}

#[test]
fn slots_that_are_known_under_the_new_name_are_not_replaced() {
    let site = Site::new("m0 m1");
    site.volume("m0/a");
    site.volume("m1/b");
    site.answer("list");
    let before = fs::read(site.path("work/state.json")).expect("is there");
    let refused = site.changer().take_over(&names(&site, &[("m0", "m1")]));
    assert!(matches!(refused, Err(TakeOverError::Known { .. })), "{refused:?}");
    assert_eq!(fs::read(site.path("work/state.json")).expect("is there"), before);
}
