//! Which magazines are there: markers, automounters, mount points, all below a root with a mount table of its own.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::fs;

use changer_model::{marker_path, remove_marker, write_marker};
use site::Site;

const UUID: &str = "6c5b725d-50c4-4605-b750-4f23575b9b5f";

/// A mount table with an automounter at `/auto` and these file systems.
fn mounts(site: &Site, automounter: &str, mounted: &[&str]) {
    fs::create_dir_all(site.path("proc/self")).expect("makes a directory");
    let mut table = format!("30 1 0:40 / /auto rw - autofs {automounter} rw,fd=7\n");
    for (id, directory) in (31..).zip(mounted) {
        table += &["", &id.to_string(), " 30 7:1 / ", directory, " rw - ext4 /dev/loop1 rw\n"].concat();
    }
    fs::write(site.path("proc/self/mountinfo"), table).expect("writes");
}

/// Makes every look at a directory fail.
fn untouchable(site: &Site, directory: &str) {
    let path = site.path(directory);
    fs::create_dir_all(path.parent().expect("has a parent")).expect("makes a directory");
    std::os::unix::fs::symlink("/nowhere/at/all", path).expect("links");
}

#[test]
fn a_marked_drive_is_present_and_stays_asleep() {
    let site = Site::with("", &format!("Magazine = UUID:{UUID}\nbconsole = \"\"\n"));
    let at = format!("/auto/{UUID}");
    mounts(&site, "offsite", &[]);
    assert_eq!(site.answer("listmags"), "0:::\n");
    assert!(!site.run("createvols 0 1").stderr.is_empty());

    // plugged and mounted: the files are found
    write_marker(site.root(), UUID, at.as_ref()).expect("marks");
    fs::create_dir_all(site.path(&at[1..])).expect("makes a directory");
    mounts(&site, "offsite", &[&at]);
    site.volume(&format!("{}/a", &at[1..]));
    site.answer("refresh");
    assert!(site.answer("list").starts_with("1:a\n2:\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");

    // plugged and locked: every question is answered without a look at the directory
    mounts(&site, "offsite", &[]);
    fs::rename(site.path(&at[1..]), site.path("hidden")).expect("renames");
    untouchable(&site, &at[1..]);
    assert!(site.answer("list").starts_with("1:a\n2:\n"));
    assert_eq!(site.answer("loaded 1 dev 0"), "1\n");
    assert!(site.answer("listall").starts_with("D:0:F:1:a\n"));
    assert_eq!(site.answer("slots"), "10\n");
    site.answer("refresh");
    let status = serde_json::to_value(site.changer().status().expect("reads")).expect("serialises");
    assert_eq!(status.pointer("/magazines/0/present"), Some(&serde_json::json!(true)));

    // pulled
    remove_marker(site.root(), UUID).expect("unmarks");
    assert!(!marker_path(site.root(), UUID).exists());
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    assert!(site.answer("list").starts_with("1:\n"));
    let refused = site.run("load 1 dev 0");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is away, plug it in"), "{}", refused.stderr);

    // and back: its slot is what it was
    write_marker(site.root(), UUID, at.as_ref()).expect("marks");
    assert!(site.answer("list").starts_with("1:a\n"));
}

#[test]
fn nothing_is_written_where_nothing_is_mounted() {
    let site = Site::with("", &format!("Magazine = UUID:{UUID}\nMagazine = /auto/two\nbconsole = \"\"\n"));
    let at = format!("/auto/{UUID}");
    mounts(&site, "offsite", &[]);
    write_marker(site.root(), UUID, at.as_ref()).expect("marks");
    // the automounter did not mount, and somebody left a directory
    fs::create_dir_all(site.path(&at[1..])).expect("makes a directory");
    fs::create_dir_all(site.path("auto/two")).expect("makes a directory");
    for magazine in [0, 1] {
        let outcome = site.run(&format!("createvols {magazine} 1"));
        assert_eq!(outcome.code, 255);
        assert!(!outcome.stderr.is_empty());
    }
    assert!(site.run("createvols 0 1").stderr.contains("nothing is mounted at"));
    assert_eq!(fs::read_dir(site.path(&at[1..])).expect("lists").count(), 0);
    let refreshed = site.run("refresh");
    assert_eq!(refreshed.code, 1);
    assert!(refreshed.stderr.contains("is plugged but cannot be used"), "{}", refreshed.stderr);
}

#[test]
fn another_automounter_is_asked_only_by_load_and_refresh() {
    let site = Site::with("", "Magazine = /auto/one\nbconsole = \"\"\n");
    mounts(&site, "/etc/auto.backup", &["/auto/one"]);
    fs::create_dir_all(site.path("auto/one")).expect("makes a directory");
    site.volume("auto/one/a");
    site.answer("refresh");
    assert!(site.answer("list").starts_with("1:a\n"));
    // idle again: whether it is there would only be known by touching it
    mounts(&site, "/etc/auto.backup", &[]);
    assert!(site.answer("list").starts_with("1:a\n"), "what was last seen counts");
    let status = serde_json::to_value(site.changer().status().expect("reads")).expect("serialises");
    assert_eq!(status.pointer("/magazines/0/present"), Some(&serde_json::Value::Null));
    fs::remove_dir_all(site.path("auto/one")).expect("removes");
    assert_eq!(site.run("load 1 dev 0").code, 1);
    site.answer("refresh");
    assert!(site.answer("list").starts_with("1:\n"), "now it is known to be away");
}

#[test]
fn a_uuid_of_the_old_generation_lies_below_its_automounter() {
    let site = Site::new("");
    let text = format!(
        "changer_name = c0\nwork_dir = {}\nslots_per_magazine = 3\nautomount_dir = /auto\nmagazine = \"UUID:{UUID}\"\n",
        site.path("work").display()
    );
    fs::write(site.path("c.conf"), text).expect("writes");
    mounts(&site, "offsite", &[&format!("/auto/{UUID}")]);
    let directory = format!("auto/{UUID}");
    fs::create_dir_all(site.path(&directory)).expect("makes a directory");
    site.volume(&format!("{directory}/c0_0001_0001"));
    assert_eq!(site.answer("slots"), "3\n");
    site.answer("refresh");
    assert_eq!(site.answer("list"), "1:c0_0001_0001\n2:\n3:\n");
    mounts(&site, "offsite", &[]);
    assert_eq!(site.answer("list"), "1:\n2:\n3:\n", "our own automounter announces what is plugged");
}

#[test]
fn a_read_only_magazine_can_be_restored_from() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new("m0");
    site.volume("m0/a");
    let modes = |file, directory| {
        fs::set_permissions(site.path("m0/a"), fs::Permissions::from_mode(file)).expect("sets");
        fs::set_permissions(site.path("m0"), fs::Permissions::from_mode(directory)).expect("sets");
    };
    modes(0o444, 0o555);
    assert!(site.answer("list").starts_with("1:a\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    modes(0o644, 0o755);
}

#[test]
fn a_mounted_device_is_found_by_its_uuid_without_markers() {
    let site = Site::with("", "Magazine = UUID:abcd-1234\nbconsole = \"\"\n");
    fs::create_dir_all(site.path("dev/disk/by-uuid")).expect("makes a directory");
    // a device that every machine has: number 1:3
    let device = site.path("dev/disk/by-uuid/ABCD-1234");
    std::os::unix::fs::symlink("/dev/null", device).expect("links");
    mounts(&site, "offsite", &[]);
    assert_eq!(site.answer("listmags"), "0:::\n", "it is plugged but not mounted");
    fs::create_dir_all(site.path("mnt/x y")).expect("makes a directory");
    let table = "33 1 1:3 / /mnt/x\\040y rw - vfat /dev/sdz1 rw\n";
    fs::write(site.path("proc/self/mountinfo"), table).expect("writes");
    site.volume("mnt/x y/a");
    assert!(site.answer("list").starts_with("1:a\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
}

#[test]
fn a_magazine_may_be_a_directory_on_an_automounted_disk() {
    let site = Site::with("", "Magazine = /auto/disk/bacula\nbconsole = \"\"\n");
    mounts(&site, "/etc/auto.backup", &["/auto/disk"]);
    fs::create_dir_all(site.path("auto/disk/bacula")).expect("makes a directory");
    site.volume("auto/disk/bacula/a");
    site.answer("refresh");
    assert!(site.answer("list").starts_with("1:a\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    assert!(site.answer("createvols 0 1").ends_with("on magazine 0\n"));
}
