//! State files that are damaged, gone, or of a newer program.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::fs;
use std::path::{Path, PathBuf};

use site::Site;

/// Slots 1 to 3 are `a`, `c`, `d` on `m0`, slot 4 is `b` on `m1`, slot 5 is `e` on `m0`.
fn known_site() -> Site {
    let site = Site::new("m0 m1");
    for name in ["m0/a", "m0/c", "m0/d", "m1/b"] {
        site.volume(name);
    }
    site.answer("list");
    site.volume("m0/e");
    // so old that the next call need not look into the directories again
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert!(site.answer("list").starts_with(LIST));
    site
}

const LIST: &str = "1:a\n2:c\n3:d\n4:b\n5:e\n";

/// The list of volumes that the state names for `m0`.
fn list_of_m0(site: &Site) -> PathBuf {
    let state = fs::read_to_string(site.path("work/state.json")).expect("reads");
    let name = state.split('"').find(|word| word.starts_with("volumes-m0-")).expect("is named");
    site.path("work").join(name)
}

/// Ways to damage a list of volumes.
const DAMAGES: [fn(&Site); 4] = [
    |site| fs::write(list_of_m0(site), "{").expect("writes"),
    |site| fs::remove_file(list_of_m0(site)).expect("removes"),
    |site| {
        let text = fs::read_to_string(list_of_m0(site)).expect("reads");
        fs::write(list_of_m0(site), text.replace("[2,", "[x,").replace("]}", "")).expect("writes");
    },
    // nothing of it can be read, also not of the one before: the volumes are found again by their names
    |site| {
        fs::write(list_of_m0(site), [0; 512]).expect("writes");
        fs::remove_file(site.path("work/state.json.previous")).expect("removes");
    },
];

#[test]
fn a_damaged_list_of_volumes_is_made_anew() {
    for (number, damage) in DAMAGES.iter().enumerate() {
        for question in ["list", "load 2 dev 0", "createvols 1 1", "refresh"] {
            let site = known_site();
            damage(&site);
            site.answer(question);
            assert!(site.answer("list").starts_with(LIST), "{question} after damage {number}");
            let text = fs::read_to_string(list_of_m0(&site)).expect("is there");
            assert!(text.contains("[2,\"c\"") && text.ends_with("]}\n"), "{question} after {number}: {text}");
        }
    }
}

#[test]
fn a_damaged_list_of_a_magazine_that_is_away_stops_no_other() {
    for damage in DAMAGES {
        let site = known_site();
        fs::rename(site.path("m0"), site.path("away")).expect("unplugs");
        site.answer("refresh");
        damage(&site);
        assert!(site.answer("list").starts_with("1:\n2:\n3:\n4:b\n5:\n"));
        site.answer("load 4 dev 0");
        let refused = site.run("load 2 dev 1");
        assert!(refused.stderr.contains("is away, plug it in"), "{}", refused.stderr);
        site.answer("createvols 1 1 -l new");
        assert_eq!(site.changer().status().expect("is described").magazines[0].slots, "1-3,5");
        site.answer("refresh");
        fs::rename(site.path("away"), site.path("m0")).expect("plugs");
        let list = site.answer("list");
        assert!(list.starts_with(LIST) && list.contains("\n6:new"), "{list}");
    }
}

#[test]
fn what_a_newer_program_wrote_is_refused_and_kept() {
    let site = known_site();
    site.answer("load 1 dev 0");
    site.answer("list");
    let volumes = list_of_m0(&site);
    for file in [site.path("work/state.json"), volumes, site.path("work/drives.json")] {
        let text = fs::read_to_string(&file).expect("reads");
        let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
        let newer = newer.replacen("\"version\":1", "\"version\":2", 1);
        assert_ne!(newer, text);
        fs::write(&file, &newer).expect("writes");
        for command in ["list", "load 2 dev 1", "refresh"] {
            let refused = site.run(command);
            assert_eq!(refused.code, 1, "{command} with {}", file.display());
            assert!(refused.stderr.contains("has version 2, this program knows 1"), "{}", refused.stderr);
        }
        assert_eq!(fs::read_to_string(&file).expect("reads"), newer);
        fs::write(&file, &text).expect("writes");
    }
    assert!(site.answer("list").starts_with(LIST));
}

/// Replaces the first value of a key, as far as it stands on its line.
fn set(path: &Path, key: &str, value: &str) {
    let text = fs::read_to_string(path).expect("reads");
    let key = format!("\"{key}\": ");
    let (before, rest) = text.split_once(&key).expect("has the key");
    let end = rest.find([',', '\n']).expect("ends its lines");
    fs::write(path, format!("{before}{key}{value}{}", rest.get(end..).unwrap_or_default())).expect("writes");
}

/// A number that makes an answer endless, or that can't be counted up, is damage as any other.
#[test]
fn numbers_that_cannot_be_are_damage() {
    let most = u32::MAX;
    let bays = format!("{{\"by_bay\":{{\"bays\":{most},\"slots_per_magazine\":{most}}}}}");
    for (key, absurd) in [
        ("highest_slot", most.to_string()),
        ("manner", bays),
        ("revision", u64::MAX.to_string()),
        ("told", u64::MAX.to_string()),
        ("serial", u64::MAX.to_string()),
    ] {
        let site = known_site();
        set(&site.path("work/state.json"), key, &absurd);
        for line in ["slots 0 dev 0", "refresh", "createvols 1 1"] {
            site.answer(line);
        }
        let list = site.answer("list");
        assert!(list.starts_with(LIST) && list.lines().count() <= 10, "{key}: {list}");
    }
    let site = known_site();
    site.answer("load 1 dev 0");
    set(&site.path("work/drives.json"), "highest", &most.to_string());
    assert!(site.answer("listall").starts_with("D:0:E\nS:1:F:a\n"));
}
