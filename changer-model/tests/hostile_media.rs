//! A magazine is untrusted: whatever its root directory holds, nothing is followed, executed or waited for, and a
//! scan ends.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use site::{Site, label_block};

#[test]
fn hostile_entries_are_ignored() {
    let site = Site::new("m0");
    let m0 = site.path("m0");
    fs::write(site.path("secret"), label_block("secret")).expect("writes");
    symlink(site.path("secret"), m0.join("link")).expect("links");
    symlink("/nowhere", m0.join("dangling")).expect("links");
    symlink("/", m0.join("root")).expect("links");
    symlink("self", m0.join("self")).expect("links");
    mkfifo(&m0.join("fifo"), Mode::S_IRWXU).expect("makes a FIFO");
    mkfifo(&m0.join("loaded1"), Mode::S_IRWXU).expect("makes a FIFO");
    mkfifo(&m0.join("index"), Mode::S_IRWXU).expect("makes a FIFO");
    let _socket = UnixListener::bind(m0.join("socket")).expect("binds");
    fs::create_dir(m0.join("directory")).expect("makes a directory");
    let names =
        ["two\nlines", "a;b", "blank name", ".hidden", "quote\"d", "loaded0", "drive0", "drive1", "\u{7f}"];
    for name in names.into_iter().chain([&*"l".repeat(128), &*"l".repeat(255), &*"ü".repeat(60)]) {
        fs::write(m0.join(name), "").expect("writes");
    }
    for bytes in [&b"\xff\xfe"[..], b"\x01\x02", b"a\x1b[2J"] {
        fs::write(m0.join(OsStr::from_bytes(bytes)), label_block("hidden")).expect("writes");
    }
    fs::write(m0.join("text"), "no volume").expect("writes");
    fs::write(m0.join("large"), vec![b'B'; 1 << 20]).expect("writes");
    fs::write(m0.join("evil\nname"), label_block("evil")).expect("writes");
    for label in ["x\"\nquit", "", ".", "..", "../../etc/passwd", "a b", &"l".repeat(128)] {
        fs::write(m0.join(format!("label{}", label.len())), label_block(label)).expect("writes");
    }
    site.volume("m0/good");
    for _ in 0..2 {
        let list = site.answer("list");
        assert!(list.starts_with("1:good\n2:\n"), "{list}");
        assert_eq!(list.lines().count(), 10);
        site.answer("refresh --force");
    }
    assert_eq!(site.answer("slots"), "10\n");
}

/// What vchanger 0.8 wrote says another name for a file; it is no more to be trusted than the rest.
#[test]
fn a_false_loaded_file_makes_no_illegal_name() {
    let site = Site::new("m0");
    for (drive, text) in ["../x\n", "a b", "\"", "\n", &"l".repeat(1 << 16), "ok\n"].iter().enumerate() {
        fs::write(site.path(&format!("m0/drive{drive}")), "").expect("writes");
        fs::write(site.path(&format!("m0/loaded{drive}")), text).expect("writes");
    }
    fs::write(site.path("m0/drive18446744073709551616"), "").expect("writes");
    assert!(site.answer("list").starts_with("1:ok\n2:\n"));
}

/// Between the scan and the load somebody exchanges the volume for something else.
#[test]
fn what_became_of_a_volume_is_neither_followed_nor_waited_for() {
    let site = Site::new("m0");
    fs::write(site.path("secret"), label_block("a")).expect("writes");
    let exchange: [fn(&Site); 4] = [
        |site| symlink(site.path("secret"), site.path("m0/a")).expect("links"),
        |site| mkfifo(&site.path("m0/a"), Mode::S_IRWXU).expect("makes a FIFO"),
        |site| fs::create_dir(site.path("m0/a")).expect("makes a directory"),
        |site| drop(UnixListener::bind(site.path("m0/a")).expect("binds")),
    ];
    for exchange in exchange {
        site.volume("m0/a");
        assert!(site.answer("list").starts_with("1:a\n"));
        // the directory's stamp is that of the scan, as if the clock had not moved
        let state = fs::read_to_string(site.path("work/state.json")).expect("reads");
        fs::remove_file(site.path("m0/a")).expect("removes");
        exchange(&site);
        fs::write(site.path("work/state.json"), state).expect("writes");
        assert_eq!(site.run("load 1 dev 0").code, 1);
        assert!(!site.path("work/0").is_symlink());
        assert!(site.answer("list").starts_with("1:\n"));
        let left = site.path("m0/a");
        if left.is_dir() { fs::remove_dir(left) } else { fs::remove_file(left) }.expect("removes");
    }
}

/// How many files; a long run: `CHANGER_JUNK=1000000 TMPDIR=/dev/shm cargo test -p changer-model --test hostile_media`.
fn junk() -> usize {
    std::env::var("CHANGER_JUNK").ok().map_or(11_000, |text| text.parse().expect("a number"))
}

#[test]
fn junk_does_not_crowd_volumes_out() {
    let site = Site::new("m0");
    site.volume("m0/z");
    site.answer("list");
    for number in 0..junk() {
        fs::write(site.path(&format!("m0/junk{number}")), "junk").expect("writes");
    }
    let begun = std::time::Instant::now();
    assert!(site.answer("list").starts_with("1:z\n2:\n"));
    assert_eq!(site.answer("slots"), "10\n");
    assert_eq!(site.answer("load 1 dev 0"), "");
    println!("{} files: {:?}", junk(), begun.elapsed());
}

#[test]
fn volumes_among_very_much_junk_are_found_in_the_end() {
    let site = Site::new("m0");
    for number in 0..20 {
        site.volume(&format!("m0/v{number:02}"));
        for junk in 0..550 {
            fs::write(site.path(&format!("m0/junk{number}-{junk}")), "junk").expect("writes");
        }
    }
    let first = site.run("refresh");
    assert_eq!(first.code, 1);
    assert!(first.stderr.contains("entries were not looked at yet"), "{}", first.stderr);
    site.answer("refresh");
    let list = site.answer("list");
    assert_eq!(list.lines().filter(|line| !line.ends_with(':')).count(), 20, "{list}");
    // and then from the beginning again
    site.volume("m0/late");
    site.run("refresh");
    site.answer("refresh");
    assert!(site.answer("list").contains(":late\n"));
}

/// Bacula takes 127 characters in a volume's name.
#[test]
fn names_end_where_bacula_ends_them() {
    let site = Site::new("m0");
    let longest = "n".repeat(127);
    site.volume(&format!("m0/{longest}"));
    site.volume(&format!("m0/{longest}n"));
    assert!(site.answer("list").starts_with(&format!("1:{longest}\n2:\n")));
    let prefix = "p".repeat(124);
    let refused = site.run(&format!("createvols 0 1 -l {prefix}"));
    assert_eq!((refused.code, refused.stdout.as_str()), (255, ""));
    assert!(refused.stderr.contains("1 to 127 of A-Z a-z 0-9"), "{}", refused.stderr);
    assert!(site.answer(&format!("createvols 0 1 -l {}", "p".repeat(123))).ends_with("on magazine 0\n"));
}
