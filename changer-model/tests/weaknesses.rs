//! The weaknesses of vchanger 1.0.3 and 0.8.6, each as a test that this changer passes. The numbers are those under
//! which they were found; the comments say what vchanger does.
//!
//! Elsewhere: W9 (an unknown user), W15 and W16 with real mounts and W20 (files of root's) need root and are in
//! `root_system.rs`; W19 (a crash loses the state) is in `kill_at_every_write.rs` and `crashes.rs`; W23 (time that
//! grows with the square of the volumes) is a benchmark.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use changer_model::{Config, write_marker};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use site::{Site, label_block};

/// A Director that takes everything in: `update slots`, `label`, `update volume`.
const DIRECTOR: &str = r#"
echo "called" >> $root/calls
while read -r line; do
  echo "$line" | tee -a $root/said
  case "$line" in
  'update slots'*)
    echo '3306 Issuing autochanger "list" command.'
    for file in $root/m*/*; do echo "Catalog record for Volume \"${file##*/}\" is up to date."; done;;
  'update volume='*) echo 'New InChanger flag is: no';;
  'list volumes') echo 'No results to list.';;
  version) echo 'd Version: 9.6.7 (1)'; echo 'd Version: 9.6.7 (2)';;
  'label '*) for file in $root/m*/*; do test -s $file || cp $root/labels/${file##*/} $file; done;;
  esac
done
"#;

const CONSOLE: &str = "bconsole = ROOT/bconsole\nDefault Pool = P\n";

/// What bacula-sd calls, with all its parameters.
const DAEMON_CALLS: [&str; 6] =
    ["slots 0 dev 0", "list 0 dev 0", "listall 0 dev 0", "loaded 1 dev 0", "load 1 dev 0", "unload 1 dev 0"];

/// Runs a `victim` test of this program in a process of its own; its changer is the site's.
fn spawn(victim: &str, site: &Site) -> std::process::Child {
    Command::new(std::env::current_exe().expect("has a path"))
        .args(["--exact", victim, "--test-threads=1"])
        .env(VICTIM, &site.env.root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

const VICTIM: &str = "CHANGER_TEST_VICTIM";

/// Takes the changer's lock as any changer does and keeps it; does nothing as a test.
#[test]
fn victim_that_keeps_the_lock() {
    let Some(root) = std::env::var_os(VICTIM) else { return };
    let path = Path::new(&root).join("work/lock");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("opens");
    file.lock().expect("locks");
    fs::write(Path::new(&root).join("locked"), "").expect("writes");
    thread::sleep(Duration::from_mins(5));
}

fn lock_keeper(site: &Site) -> std::process::Child {
    site.answer("refresh");
    let child = spawn("victim_that_keeps_the_lock", site);
    let end = Instant::now() + Duration::from_secs(30);
    while !site.path("locked").exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(site.path("locked")).expect("the victim has the lock");
    child
}

/// A change noticed within a call of bacula-sd's runs `update slots` there, and waits for the daemon that waits for it.
#[test]
fn w01_no_console_runs_within_a_call_of_the_daemon() {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    for call in DAEMON_CALLS {
        site.volume(&format!("m0/{}", call.replace(' ', "_")));
        site.run(call);
        fs::rename(site.path("m1"), site.path("away")).expect("unplugs");
        site.run(call);
        fs::rename(site.path("away"), site.path("m1")).expect("plugs");
    }
    assert!(!site.path("calls").exists(), "the console was called");
    assert!(site.changer().pending_catalog().expect("reads").is_some(), "and is owed the news");
    site.answer("refresh");
    assert!(site.path("calls").exists());
}

/// Its semaphore stays taken after SIGTERM, SIGKILL or a crash, for every changer of the host.
#[test]
fn w02_a_lock_ends_with_its_holder() {
    let mut site = Site::new("m0");
    site.volume("m0/a");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut holder = lock_keeper(&site);
        site.env.lock_limit = Duration::from_millis(50);
        let busy = site.run("load 1 dev 0");
        assert_eq!(busy.code, 1);
        assert!(busy.stderr.contains("is held by process "), "{}", busy.stderr);
        kill(Pid::from_raw(i32::try_from(holder.id()).expect("small")), signal).expect("is there");
        holder.wait().expect("ends");
        assert_eq!(site.answer("load 1 dev 0"), "");
        assert_eq!(site.answer("unload 1 dev 0"), "");
        site.env.lock_limit = Duration::from_secs(20);
    }
    // another changer of the host is not touched by it at all
    let mut holder = lock_keeper(&site);
    let other = Site::new("m0");
    assert_eq!(other.answer("refresh"), "");
    holder.kill().expect("is there");
    holder.wait().expect("ends");
}

/// A lock that was not obtained is given back all the same, and a missing console gives back another one.
#[test]
fn w03_nobody_gives_back_a_lock_that_he_did_not_get() {
    let mut site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.console(DIRECTOR);
    let mut holder = lock_keeper(&site);
    site.env.lock_limit = Duration::from_millis(20);
    for _ in 0..5 {
        assert_eq!(site.run("load 1 dev 0").code, 1, "the lock is still held");
    }
    holder.kill().expect("is there");
    holder.wait().expect("ends");
    site.env.lock_limit = Duration::from_secs(20);
    fs::remove_file(site.path("bconsole")).expect("removes");
    for round in 0..10 {
        site.volume(&format!("m0/b{round}"));
        assert_eq!(site.run("refresh").code, 1, "a console that is not there is no success");
        let winners: u8 = thread::scope(|scope| {
            let site = &site;
            let loads: Vec<_> = (0..4)
                .map(|drive| scope.spawn(move || site.run(&format!("load 1 dev {drive}")).code))
                .collect();
            loads.into_iter().map(|load| u8::from(load.join().expect("ends") == 0)).sum()
        });
        assert_eq!(winners, 1, "one slot is in one drive");
        for drive in 0..4 {
            site.answer(&format!("unload 1 dev {drive}"));
        }
    }
}

/// The console's output is read after its end only: from 64 KiB on both wait for ever.
#[test]
fn w04_output_of_the_console_is_read_while_it_runs() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.console(&format!(
        "i=0; while [ $i -lt 10000 ]; do echo \"volume $i is up to date\"; i=$((i+1)); done\n{DIRECTOR}"
    ));
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

/// A quote in the name of a loaded volume: an endless loop at every later command.
#[test]
fn w05_a_quote_in_a_name_does_no_harm() {
    let site = Site::new("m0");
    fs::write(site.path("m0/new\"one"), "").expect("writes");
    fs::write(site.path("m0/old\"one"), label_block("old")).expect("writes");
    assert!(site.answer("list").starts_with("1:old\n2:\n"), "what Bacula cannot name has no slot");
    assert_eq!(site.answer("load 1 dev 0"), "");
    for _ in 0..3 {
        assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
        site.answer("refresh");
    }
    assert_eq!(fs::read(site.path("work/0")).expect("opens"), label_block("old"));
}

/// State in lines with commas: names and paths with commas, tabs, line ends or blanks lose their drive.
#[test]
fn w06_any_name_of_a_file_keeps_its_drive() {
    let site = Site::new("");
    let magazine = site.path(" a,b  \"c\" ;#");
    fs::create_dir(&magazine).expect("makes a directory");
    let quoted = magazine.to_string_lossy().replace('"', "\\\"");
    let conf =
        format!("Work Dir = {}\nbconsole = \"\"\nMagazine = \"{quoted}\"\n", site.path("work").display());
    fs::write(site.path("c.conf"), conf).expect("writes");
    let names = ["a,b", " first", "last ", "two  blanks", "quote'", "\\", "ümlaut"];
    for (index, name) in names.iter().enumerate() {
        fs::write(magazine.join(name), label_block(&format!("v{index}"))).expect("writes");
    }
    for drive in 0..names.len() {
        assert_eq!(site.answer(&format!("load {} dev {drive}", drive + 1)), "");
    }
    for _ in 0..3 {
        site.answer("refresh");
        for drive in 0..names.len() {
            assert_eq!(site.answer(&format!("loaded 1 dev {drive}")), format!("{}\n", drive + 1));
            let opened = fs::read(site.path(&format!("work/{drive}"))).expect("opens");
            assert_eq!(opened, label_block(&format!("v{drive}")));
        }
    }
    let conf = "Magazine = \"/mnt/a\\nb\"\n";
    let refused = Config::parse(Path::new("c"), conf).expect_err("has a line end").to_string();
    assert!(refused.contains("without control characters"), "{refused}");
}

/// A regular file where a drive's link belongs is deleted; bacula-sd may have written a volume there.
#[test]
fn w07_a_file_in_a_drives_place_is_kept() {
    let site = Site::new("m0");
    site.volume("m0/a");
    site.answer("load 1 dev 1");
    site.answer("unload 1 dev 1");
    for drive in [0, 1] {
        let place = site.path(&format!("work/{drive}"));
        fs::write(&place, label_block("precious")).expect("writes");
        for line in ["load 1 dev N", "unload 1 dev N", "loaded 1 dev N", "refresh", "list"] {
            site.run(&line.replace('N', &drive.to_string()));
        }
        assert_eq!(fs::read(&place).expect("is there"), label_block("precious"));
        let refused = site.run(&format!("load 1 dev {drive}"));
        assert!(refused.code == 1 && refused.stderr.contains("move it away"), "{}", refused.stderr);
    }
}

/// A drive follows its volume's name to another magazine under a running job.
#[test]
fn w08_a_second_volume_of_one_name_takes_no_drive_over() {
    let site = Site::new("m0 m1");
    site.volume("m1/dup");
    assert!(site.answer("list").starts_with("1:dup\n"));
    site.answer("load 1 dev 0");
    site.volume("m0/dup");
    for line in ["list", "refresh", "refresh --force", "loaded 1 dev 0", "load 1 dev 0"] {
        site.answer(line);
        assert_eq!(fs::read_link(site.path("work/0")).expect("is a link"), site.path("m1/dup"), "{line}");
    }
    assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
    fs::remove_dir_all(site.path("m1")).expect("removes");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n", "rather empty than another volume");
}

/// New volumes of an absent magazine are made in the root directory, and a prefix leads out of the magazine.
#[test]
fn w10_nothing_is_created_outside_of_a_magazine() {
    let site = Site::with("m0", "Magazine = UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f\nbconsole = \"\"\n");
    fs::rename(site.path("m0"), site.path("away")).expect("unplugs");
    for magazine in [0, 1] {
        let refused = site.run(&format!("createvols {magazine} 1"));
        assert_eq!((refused.code, refused.stdout.as_str()), (255, ""));
        assert!(refused.stderr.contains("is away; plug it in"), "{}", refused.stderr);
    }
    fs::rename(site.path("away"), site.path("m0")).expect("plugs");
    for prefix in ["../x", "/x", "a/b", "a\u{e4}", "a;b", "a\"b"] {
        assert_eq!(site.run(&format!("createvols 0 1 --label={prefix}")).code, 255, "{prefix}");
    }
    let mut left: Vec<_> =
        fs::read_dir(&site.env.root).expect("lists").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["c.conf", "m0"]);
    assert_eq!(fs::read_dir(site.path("m0")).expect("lists").count(), 0);
    assert!(!Path::new("/c0_0000_0000").exists());
}

/// Changes are noticed by the number of files only.
#[test]
fn w11_a_volume_that_was_exchanged_is_noticed() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.volume("m0/b");
    site.answer("refresh");
    let owed = || site.changer().pending_catalog().expect("reads").is_some();
    assert!(!owed());
    // another volume in the place of one, and of one file
    fs::remove_file(site.path("m0/a")).expect("removes");
    site.volume("m0/x");
    site.answer("list");
    assert!(owed());
    site.answer("refresh");
    assert!(!owed());
    // the same file's content
    fs::write(site.path("m0/x"), label_block("y")).expect("writes");
    fs::rename(site.path("m0/x"), site.path("m0/y")).expect("renames");
    site.answer("refresh");
    assert_eq!(site.said().matches("update slots").count(), 3);
    assert_eq!(site.answer("list").matches(":y\n").count(), 1);
}

/// A file that is gone shifts the slots within the call, and `load 2` loads what was in slot 3.
#[test]
fn w12_a_slot_never_means_another_volume_within_a_call() {
    let site = Site::new("m0");
    for name in ["a1", "a2", "a3"] {
        site.volume(&format!("m0/{name}"));
    }
    site.answer("list");
    fs::remove_file(site.path("m0/a2")).expect("removes");
    site.volume("m0/a9");
    assert_eq!(site.run("load 2 dev 0").code, 1);
    assert!(!site.path("work/0").is_symlink());
    assert_eq!(site.answer("load 3 dev 0"), "");
    assert_eq!(fs::read_link(site.path("work/0")).expect("is a link"), site.path("m0/a3"));
}

/// An `update slots` that failed is forgotten, refresh returns 0, failed labels go unnoticed.
#[test]
fn w13_what_was_not_told_is_told_later() {
    let site = Site::with("m0", CONSOLE);
    site.volume("m0/a");
    site.console("echo 'Connection refused'; exit 1");
    for _ in 0..3 {
        assert_eq!(site.run("refresh").code, 1);
    }
    // the Director answers and labels nothing
    site.console(&DIRECTOR.replace("'label '*", "'nothing '*"));
    fs::write(site.path("m0/new"), "").expect("writes");
    let failed = site.run("refresh");
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("not labelled") || failed.stderr.contains("label"), "{}", failed.stderr);
    assert!(site.changer().pending_catalog().expect("reads").is_some());
    site.labels(&["new"]);
    site.console(DIRECTOR);
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None);
}

/// `label barcodes` without a drive takes the first `yes` for its number, and without slots walks through all volumes.
#[test]
fn w14_labelling_names_its_drive_and_its_slots() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    site.volume("m0/a");
    site.labels(&["l0000", "l0001"]);
    site.answer("createvols 0 2 -l l");
    let said = site.said();
    let label = said.lines().find(|line| line.starts_with("label ")).expect("labels");
    assert_eq!(label, "label storage=\"c0\" pool=\"P\" drive=0 slots=2-3 barcodes");
    for command in said.lines().filter(|line| line.starts_with("update slots")) {
        assert!(command.ends_with(" drive=0"), "{command}");
    }
}

/// A mount point without its mount is a magazine, and volumes are made on the root file system.
#[test]
fn w15_a_bare_mount_point_is_no_magazine() {
    let site = Site::new("m0");
    fs::create_dir_all(site.path("etc")).expect("makes a directory");
    let line = format!("LABEL=offsite {} ext4 noauto 0 0\n", site.path("m0").display());
    fs::write(site.path("etc/fstab"), line).expect("writes");
    assert_eq!(site.answer("listmags"), "0:::\n");
    assert_eq!(site.run("createvols 0 1").code, 255);
    site.volume("m0/a");
    assert_eq!(site.run("load 1 dev 0").code, 1);
    assert!(site.answer("list").starts_with("1:\n"));
}

/// A read-only magazine is absent, and a read-only file shifts the slots of the others.
#[test]
fn w16_read_only_media_serve_restores() {
    let site = Site::new("m0");
    for name in ["a", "b", "c"] {
        site.volume(&format!("m0/{name}"));
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).expect("sets");
    };
    mode("m0/b", 0o444);
    mode("m0", 0o555);
    assert!(site.answer("list").starts_with("1:a\n2:b\n3:c\n"));
    assert_eq!(site.answer("load 2 dev 0"), "");
    assert_eq!(site.answer("unload 2 dev 0"), "");
    mode("m0", 0o755);
}

/// Looking for a UUID walks through all of /sys, for each magazine: 950,000 system calls for fifty.
#[test]
fn w17_magazines_that_are_away_cost_nothing() {
    let mut lines = String::from("bconsole = \"\"\n");
    for number in 0..50 {
        lines.push_str(&format!("Magazine = UUID:6c5b725d-50c4-4605-b750-4f23575b{number:04}\n"));
    }
    let site = Site::with("m0", &lines);
    site.volume("m0/a");
    site.answer("load 1 dev 0");
    for line in ["loaded 1 dev 0", "list", "listmags", "unload 1 dev 0"] {
        let before = reads();
        site.answer(line);
        let made = reads() - before;
        assert!(made < 100, "{line}: {made} reads");
    }
}

/// How often this thread has read (proc_pid_io(5)).
fn reads() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").expect("reads");
    let count = text.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse().ok());
    count.expect("counts reads")
}

/// Of two devices with one UUID the first counts, and the one that is mounted is shown as absent.
#[test]
fn w18_of_clones_the_mounted_one_is_found() {
    let site = Site::with("", "Magazine = UUID:abcd-1234\nbconsole = \"\"\n");
    for directory in ["dev/disk/by-uuid", "run/udev/data", "proc/self", "mnt/clone"] {
        fs::create_dir_all(site.path(directory)).expect("makes a directory");
    }
    // udev's link leads to a device that is not mounted (as every machine has one, number 1:3)
    symlink("/dev/null", site.path("dev/disk/by-uuid/abcd-1234")).expect("links");
    fs::write(site.path("run/udev/data/b7:9"), "S:disk/by-uuid/abcd-1234\nE:ID_FS_UUID=ABCD-1234\n")
        .expect("writes");
    fs::write(site.path("run/udev/data/b7:8"), "E:ID_FS_UUID=other\n").expect("writes");
    let mounts =
        "31 1 7:8 / /mnt/other rw - ext4 /dev/loop8 rw\n32 1 7:9 / /mnt/clone rw - ext4 /dev/loop9 rw\n";
    fs::write(site.path("proc/self/mountinfo"), mounts).expect("writes");
    site.volume("mnt/clone/a");
    assert!(site.answer("list").starts_with("1:a\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    assert_eq!(fs::read_link(site.path("work/0")).expect("is a link"), site.path("mnt/clone/a"));
}

/// Messages name the wrong slot or drive or nothing at all, the help fills job logs, a level's name silences the log.
#[test]
fn w21_messages_say_what_is_wrong() {
    let site = Site::with("m0", "bconsole = \"\"\nLogfile = ROOT/log\nLog Level = LOG_ERR\n");
    site.volume("m0/a");
    site.volume("m0/b");
    site.answer("load 1 dev 0");
    let says = |line: &str, text: &str| {
        let outcome = site.run(line);
        assert_eq!(outcome.code, 1, "{line}");
        assert!(outcome.stderr.contains(text), "{line}: {}", outcome.stderr);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.lines().count()), ("", 1), "{line}");
    };
    says("load 2 dev 0", "drive 0 holds slot 1");
    says("load 1 dev 3", "slot 1 is in drive 0");
    says("load 0 dev 0", "invalid slot number '0'");
    says("load 9 dev 1", "slot 9 is empty");
    let log = fs::read_to_string(site.path("log")).expect("is written");
    assert!(log.contains("drive 0 holds slot 1"), "{log}");
    symlink("/proc/1/nothing", site.path("m0/x")).expect("links");
    fs::set_permissions(site.path("m0"), fs::Permissions::from_mode(0o555)).expect("sets");
    if !nix::unistd::geteuid().is_root() {
        let refused = site.run("createvols 0 1");
        assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
    }
    fs::set_permissions(site.path("m0"), fs::Permissions::from_mode(0o755)).expect("sets");
    let typo =
        Config::parse(Path::new("c"), "Magazine = /m\nStorage Ressource = x\n").expect_err("is refused");
    assert_eq!(
        typo.to_string(),
        "c:2:1: unknown key \"Storage Ressource\"; did you mean \"Storage Resource\"?"
    );
}

/// An accident with many files makes as many slots for ever, each of which `update slots scan` tries.
#[test]
fn w22_files_that_are_no_volumes_make_no_slots() {
    let site = Site::new("m0");
    site.volume("m0/a");
    for number in 0..4_085 {
        fs::write(site.path(&format!("m0/{number}.jpg")), "a picture").expect("writes");
    }
    assert_eq!(site.answer("slots"), "10\n");
    for number in 0..4_085 {
        fs::remove_file(site.path(&format!("m0/{number}.jpg"))).expect("removes");
    }
    // slots that were freed are given again before there are more
    for round in 0..30 {
        site.volume(&format!("m0/v{round}"));
        site.answer("list");
        fs::remove_file(site.path(&format!("m0/v{round}"))).expect("removes");
        site.answer("list");
    }
    assert_eq!(site.answer("slots"), "10\n");
    for slot in 2..=10 {
        assert_eq!(site.run(&format!("load {slot} dev 0")).code, 1);
    }
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
}

/// Only the first configuration that names a plugged disk is told, by scripts within udev that need at(1).
#[test]
fn w24_each_changer_of_a_disk_is_told() {
    let uuid = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
    let site = Site::with("", &format!("{CONSOLE}Magazine = UUID:{uuid}\n"));
    site.console(&DIRECTOR.replace("m*/*", "mnt/m/*"));
    fs::create_dir_all(site.path("mnt/m")).expect("makes a directory");
    fs::create_dir_all(site.path("proc/self")).expect("makes a directory");
    site.volume("mnt/m/a");
    let first = fs::read_to_string(site.path("c.conf")).expect("reads");
    let other = |text: &str| text.replace("= c0", "= c1").replace("/work\n", "/work1\n");
    for text in [other(&first).replace("/bconsole\n", "/nothing\n"), first.clone(), other(&first)] {
        fs::write(site.path("c.conf"), text).expect("writes");
        let mount = "32 1 7:9 / /mnt/m rw - ext4 /dev/loop9 rw\n";
        fs::write(site.path("proc/self/mountinfo"), mount).expect("writes");
        write_marker(&site.env.root, uuid, Path::new("/mnt/m")).expect("marks");
        site.run("refresh");
    }
    for storage in ["c0", "c1"] {
        assert!(site.said().contains(&format!("update slots storage=\"{storage}\" drive=0\n")), "{storage}");
    }
}

/// Pools and storages with quotes or line ends become commands.
#[test]
fn w25_no_text_becomes_a_command() {
    let site = Site::with("m0", CONSOLE);
    site.console(DIRECTOR);
    for pool in ["P\"x", "P\nquit", "P;x", "P@x"] {
        let config = site.path("c.conf").into_os_string();
        let words = ["createvols", "0", "1", "--pool", pool].map(Into::into);
        let arguments: Vec<_> = std::iter::once(config).chain(words).collect();
        let refused = changer_model::run_command_line(&arguments, &site.env);
        assert!(refused.code != 0 && refused.stderr.contains("--pool"), "{pool:?}: {}", refused.stderr);
    }
    for (key, value) in
        [("Storage Resource", "'c\"0'"), ("Default Pool", "'P\"'"), ("Storage Resource", "\"c\\n0\"")]
    {
        let text = format!("{key} = {value}\nMagazine = /m\n");
        assert!(Config::parse(Path::new("c"), &text).is_err(), "{text}");
    }
    // and what lies on a magazine does neither
    fs::write(site.path("m0/evil"), label_block("a\"\nquit")).expect("writes");
    fs::write(site.path("m0/b\nquit"), "").expect("writes");
    fs::write(site.path("m0/-c"), label_block("ok")).expect("writes");
    fs::write(site.path("m0/ok"), "").expect("writes");
    site.run("refresh");
    assert!(!site.said().contains("quit"), "{}", site.said());
}

/// 0.8: a second process deletes a live lock, there are 16 drives at most, and loading renames the volume's file.
#[test]
fn w26_the_old_manner_without_its_faults() {
    let mut site = Site::new("m0");
    let text = format!(
        "changer_name = c0\nwork_dir = {}\nslots_per_magazine = 20\nvirtual_drives = 20\nmagazine = {}\n",
        site.path("work").display(),
        site.path("m0").display()
    );
    fs::write(site.path("c.conf"), text).expect("writes");
    for number in 1..=20 {
        site.volume(&format!("m0/c0_0001_{number:04}"));
    }
    for drive in 0..20 {
        assert_eq!(site.answer(&format!("load {} dev {drive}", drive + 1)), "");
    }
    for number in 1..=20 {
        assert!(site.path(&format!("m0/c0_0001_{number:04}")).is_file(), "no file is renamed");
    }
    assert_eq!(site.answer("loaded 20 dev 19"), "20\n");
    let mut holder = lock_keeper(&site);
    site.env.lock_limit = Duration::from_millis(50);
    assert_eq!(site.run("unload 1 dev 0").code, 255, "a live owner keeps its lock");
    assert!(site.path("work/lock").exists());
    holder.kill().expect("is there");
    holder.wait().expect("ends");
    assert_eq!(site.answer("unload 1 dev 0"), "");
}
