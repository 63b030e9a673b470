//! Which drive is which before anything on it is overwritten: an enrolled magazine is refused whatever it looks like. On
//! files alone; no root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;
mod world;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet::Fleet;
use luks_core::{FormatOptions, LuksVersion};
use world::{World, shown, text};

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// A GPT for sectors of `sector` bytes with one partition that begins 1 MiB behind the drive's start.
fn write_gpt(drive: &Path, sector: u64) {
    let entry = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    overwrite(drive, 446, &entry);
    overwrite(drive, 510, &[0x55, 0xaa]);
    overwrite(drive, sector, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    for (place, number) in [(72, 2_u64), (80, 128 << 32 | 128)] {
        overwrite(drive, sector + place, &number.to_le_bytes());
    }
    overwrite(drive, 2 * sector, &[7; 32]);
    overwrite(drive, 2 * sector + 32, &((1 << 20) / sector).to_le_bytes());
    overwrite(drive, 2 * sector + 40, &((1 << 20) / sector + 8).to_le_bytes());
}

/// Moves a drive's container into a partition of a GPT.
fn put_into_partition(drive: &Path, sector: u64) {
    let container = fs::read(drive).unwrap();
    File::create(drive).unwrap().set_len(8 << 20).unwrap();
    write_gpt(drive, sector);
    overwrite(drive, 1 << 20, &container);
}

/// Every command that overwrites a whole drive, as it would be called for this one.
fn destroyers(fleet: &Fleet, drive: &Path) -> [Vec<String>; 4] {
    let key = fleet.world.path("etc/offsite/key");
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
    let (drive, key) = (shown(drive), shown(&key));
    [
        words(&["wipe", drive, "--yes-destroy", drive]),
        words(&["luks", "format", drive, "--key-file", key, "--yes-destroy", drive]),
        words(&["prepare", drive, "--name", "New", "--yes-destroy", drive]),
        words(&["prepare", drive, "--name", "New", "--yes-destroy", drive, "--skip-wipe"]),
    ]
}

/// No command overwrites the drive, each names the magazine and says what has to be done first.
fn ensure_refused(fleet: &Fleet, drive: &Path, name: &str, why: &str) {
    let before = fs::read(drive).unwrap();
    for command in destroyers(fleet, drive) {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let said = text(&fleet.world.offsite(&command));
        assert!(said.contains(&format!("the enrolled magazine {name}")), "{why}: {said}");
        fleet.world.fails(
            &command,
            3,
            "the enrolled magazine",
            "take its [[magazine]] table out of site.toml first",
        );
        assert!(fs::read(drive).unwrap() == before, "{why}: {command:?} wrote");
    }
    let listed = fleet.world.offsite(&["identify", "--json", shown(drive)]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.pointer("/0/refusals/0/kind").unwrap(), "reserved", "{why}: {listed}");
}

fn site_toml(fleet: &Fleet) -> PathBuf {
    fleet.world.path("etc/offsite/site.toml")
}

fn edit_site(fleet: &Fleet, edit: impl FnOnce(&str) -> String) {
    let path = site_toml(fleet);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, edit(&text)).unwrap();
}

fn fleet(names: &[&str]) -> Fleet {
    let fleet = Fleet::new(&[]);
    edit_site(&fleet, |text| format!("{text}\n[bacula.accounts]\nuser = \"root\"\n"));
    for name in names {
        fleet.enrol(name);
    }
    fleet
}

/// The site without any serial number, or all with this one.
fn with_serials(text: &str, serial: Option<&str>) -> String {
    let lines = text.lines().filter_map(|line| match (line.starts_with("serial = "), serial) {
        (false, _) => Some(line.to_owned()),
        (true, None) => None,
        (true, Some(serial)) => Some(format!("serial = {serial:?}")),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// One MBR entry: a partition of type 0x83 that begins 1 MiB behind the drive's start, in sectors of 512 bytes.
fn write_mbr(drive: &Path) {
    overwrite(drive, 446, &[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0]);
    overwrite(drive, 510, &[0x55, 0xaa]);
}

/// Nothing is left of the header.
fn destroy_header(drive: &Path) {
    overwrite(drive, 0, &vec![0xa5; 1 << 20]);
}

#[test]
fn an_enrolled_magazine_is_not_overwritten_whatever_it_looks_like() {
    let fleet = fleet(&["A", "B"]);
    fleet.enrol_as("C", &FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() });
    let drive = fleet.drive("A");
    let serials = fs::read_to_string(site_toml(&fleet)).unwrap();
    edit_site(&fleet, |text| with_serials(text, None));
    ensure_refused(&fleet, &drive, "A", "it is well");
    ensure_refused(&fleet, &fleet.drive("C"), "C", "LUKS1");
    overwrite(&drive, 16, &[0xff]);
    ensure_refused(&fleet, &drive, "A", "its primary header is damaged");
    overwrite(&drive, 0x4000 + 16, &[0xff]);
    ensure_refused(&fleet, &drive, "A", "both headers are damaged");
    write_mbr(&drive);
    ensure_refused(&fleet, &drive, "A", "a partition table was written over it");
    for sector in [512, 4096] {
        let drive = fleet.drive("B");
        let whole = fs::read(&drive).unwrap();
        put_into_partition(&drive, sector);
        ensure_refused(&fleet, &drive, "B", "it lies in a partition");
        fs::write(&drive, whole).unwrap();
    }
    // Nothing is left of its header, but it shows the serial number.
    edit_site(&fleet, |_| serials);
    destroy_header(&drive);
    ensure_refused(&fleet, &drive, "A", "its serial number");
    // Until the table is taken out.
    edit_site(&fleet, |text| text.split("[[magazine]]").next().unwrap().to_owned());
    let output = fleet.world.offsite(&["wipe", shown(&drive), "--yes-destroy", shown(&drive)]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn an_unencrypted_magazine_is_not_overwritten_either() {
    let fleet = fleet(&[]);
    let drive = fleet.drive("plain");
    File::create_new(&drive).unwrap().set_len(8 << 20).unwrap();
    let uuid = "e6ffe50b-bbe7-854f-fea8-766ae1265eba";
    let made = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-U", uuid, "-L", "x", shown(&drive)])
        .status()
        .unwrap();
    assert!(made.success());
    edit_site(&fleet, |text| {
        format!("{text}\n[[magazine]]\nname = \"P\"\nfs_uuid = \"{uuid}\"\nfs_type = \"ext4\"\n")
    });
    ensure_refused(&fleet, &drive, "P", "a filesystem");
}

#[test]
fn a_site_that_can_not_be_read_lets_nothing_be_overwritten() {
    let fleet = fleet(&["A"]);
    let drive = fleet.world.path("blank");
    fs::write(&drive, vec![0; 1 << 20]).unwrap();
    edit_site(&fleet, |text| format!("nonsense = 1\n{text}"));
    let wipe = ["wipe", shown(&drive), "--yes-destroy", shown(&drive)];
    fleet.world.fails(&wipe, 3, "whether it is an enrolled magazine", "");
    assert!(fs::read(&drive).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn one_absent_drive_hides_none_of_the_others() {
    let world = World::new();
    let (one, two) = (world.path("one"), world.path("two"));
    for path in [&one, &two] {
        fs::write(path, vec![0; 1 << 20]).unwrap();
    }
    let devices = [shown(&one), "/no/such/drive", shown(&two)];
    let output = world.offsite(&[&["identify"], &devices[..]].concat());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains(shown(&one)) && said.contains(shown(&two)) && said.contains("/no/such/drive"),
        "{said}"
    );
    let output = world.offsite(&[&["identify", "--json"], &devices[..]].concat());
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), listed.as_array().unwrap().len()), (Some(4), 2), "{listed}");
}

#[test]
fn what_a_hint_tells_to_type_can_be_typed() {
    let world = World::new();
    let file = world.path("it's a drive");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    let typed = shown(&file).replace('\'', r"'\''");
    world.fails(&["wipe", shown(&file)], 3, "nobody confirmed", &format!("--yes-destroy '{typed}'"));
    let said = text(&world.offsite(&["identify", shown(&file)]));
    assert!(said.contains(&format!("--yes-destroy '{typed}'")), "{said}");
}

#[test]
fn a_dry_run_lists_what_stands_in_the_way() {
    let fleet = fleet(&["A"]);
    let (drive, key) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"));
    for command in [
        &["wipe", shown(&drive), "--dry-run"][..],
        &["luks", "format", shown(&drive), "--key-file", shown(&key), "--dry-run"],
        &["prepare", shown(&drive), "--name", "New", "--dry-run"],
    ] {
        let said = fleet.says(command);
        assert!(said.contains("would") && said.contains("but: it is the enrolled magazine A"), "{said}");
    }
}

#[test]
fn a_header_that_the_register_has_names_its_drive() {
    let fleet = fleet(&["A"]);
    assert!(
        fleet.backup("A").exists()
            && fleet.container("A").uuid() == fleet.site().magazine("A").unwrap().luks_uuid.unwrap()
    );
}
