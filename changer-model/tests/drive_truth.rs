//! What is behind a loaded drive may be gone or exchanged: neither `loaded` nor a second `load` takes it for granted,
//! for the storage daemon marks a good volume as bad when it finds nothing, or something else, behind the link.

mod site;

use std::fs;

use site::{Site, label_block};

/// Volume `a` in slot 1 and drive 0, `b` in slot 2, both on `m0`; `m1` is empty.
fn loaded_site() -> Site {
    let site = Site::new("m0 m1");
    site.volume("m0/a");
    site.volume("m0/b");
    // so old that the next call need not look into the directory again
    std::thread::sleep(std::time::Duration::from_millis(60));
    site.answer("load 1 dev 0");
    assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
    site
}

#[test]
fn a_slot_that_is_in_the_drive_is_looked_at_again() {
    let site = loaded_site();
    site.answer("load 1 dev 0");
    fs::write(site.path("m0/a"), "garbage").expect("writes");
    let refused = site.run("load 1 dev 0");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("no longer holds volume a"), "{}", refused.stderr);
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");

    let site = loaded_site();
    fs::write(site.path("m0/a"), label_block("other")).expect("writes");
    assert_eq!(site.run("load 1 dev 0").code, 1);
}

#[test]
fn a_file_in_the_place_of_a_loaded_drives_link_is_named() {
    let site = loaded_site();
    fs::remove_file(site.path("work/0")).expect("removes");
    fs::write(site.path("work/0"), "junk").expect("writes");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    let refused = site.run("load 1 dev 0");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("move it away"), "{}", refused.stderr);
    assert_eq!(fs::read(site.path("work/0")).expect("is kept"), b"junk");
    fs::remove_file(site.path("work/0")).expect("removes");
    site.answer("load 1 dev 0");
    assert_eq!(fs::read(site.path("work/0")).expect("leads to it"), label_block("a"));
}

#[test]
fn loaded_names_no_slot_whose_file_is_gone() {
    let site = loaded_site();
    fs::remove_file(site.path("m0/a")).expect("removes");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    assert!(!site.path("work/0").is_symlink());

    let site = loaded_site();
    fs::remove_file(site.path("m0/a")).expect("removes");
    fs::create_dir(site.path("m0/a")).expect("makes a directory");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
}

#[test]
fn loaded_follows_a_file_that_moved() {
    for to in ["m0/renamed", "m1/a"] {
        let site = loaded_site();
        site.answer("list");
        fs::rename(site.path("m0/a"), site.path(to)).expect("moves");
        let said = site.answer("loaded 1 dev 0");
        assert_eq!(said != "0\n", site.path("work/0").exists(), "{to}: {said}");
        assert!(site.answer("list").starts_with("1:a\n2:b\n"), "the volume keeps its slot in {to}");
    }
}
