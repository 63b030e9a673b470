//! Which drive is which before anything on it is overwritten: an enrolled magazine is refused whatever it looks like. On
//! files alone; no root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;
mod world;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet::Fleet;
use luks_core::{Container, FormatOptions, LuksUuid, LuksVersion};
use media_wipe::FillMark;
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

/// On a kernel like this one, but without device-mapper: what is decided before a mapping is needed, is decided by files.
fn fleet(names: &[&str]) -> Fleet {
    let fleet = Fleet::new(&[]);
    symlink("/proc", fleet.world.path("proc")).unwrap();
    for (directory, without) in [("sys", "class"), ("sys/class", "misc")] {
        fs::create_dir(fleet.world.path(directory)).unwrap();
        for entry in fs::read_dir(Path::new("/").join(directory)).unwrap() {
            let name = entry.unwrap().file_name();
            if name != without {
                let at = Path::new(directory).join(name);
                symlink(Path::new("/").join(&at), fleet.world.root.path().join(at)).unwrap();
            }
        }
    }
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

fn restore<'a>(drive: &'a Path, name: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let words = ["luks", "restore", shown(drive), "--name", name, "--yes-overwrite", shown(drive)];
    [&words[..], options].concat()
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
fn a_header_is_written_only_where_it_was() {
    let fleet = fleet(&["A"]);
    let drive = fleet.drive("A");
    let good = fs::read(&drive).unwrap();
    destroy_header(&drive);
    fleet.world.fails(&restore(&drive, "A", &[]), 1, "no device-mapper", "");
    // Somebody has partitioned the drive since.
    write_mbr(&drive);
    let before = fs::read(&drive).unwrap();
    let refused = restore(&drive, "A", &["--unproven"]);
    fleet.world.fails(&refused, 3, "a partition table was written", "wipefs --all");
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
    overwrite(&drive, 446, &[0; 66]);
    // A drive of another size under the same serial number.
    File::options().write(true).open(&drive).unwrap().set_len(5 << 20).unwrap();
    fleet.world.fails(&refused, 3, "had 4194304 bytes", "");
    File::options().write(true).open(&drive).unwrap().set_len(4 << 20).unwrap();
    assert!(fleet.world.offsite(&refused).status.success());
    assert_eq!(fleet.site().magazines.len(), 1);
    assert_eq!(fleet.container("A").uuid(), Container::load(&fleet.backup("A")).unwrap().uuid());
    let header = usize::try_from(fleet.container("A").data_offset_bytes()).unwrap();
    assert!(fs::read(&drive).unwrap().get(..header) == good.get(..header), "another header than before");
}

#[test]
fn a_drive_that_is_well_in_an_enclosure_of_other_sectors_keeps_its_header() {
    let fleet = fleet(&["A"]);
    let drive = fleet.drive("A");
    put_into_partition(&drive, 4096);
    let before = fs::read(&drive).unwrap();
    for options in [&[][..], &["--unproven"], &["--dry-run"]] {
        fleet.world.fails(
            &restore(&drive, "A", options),
            3,
            "the header of A is well, at byte 1048576",
            "4096",
        );
    }
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
}

#[test]
fn a_serial_number_of_several_magazines_restores_none_of_them() {
    let fleet = fleet(&["A", "B"]);
    let drive = fleet.drive("A");
    edit_site(&fleet, |text| with_serials(text, Some(shown(&drive))));
    destroy_header(&drive);
    let before = fs::read(&drive).unwrap();
    let unnamed = ["luks", "restore", shown(&drive), "--unproven", "--yes-overwrite", shown(&drive)];
    fleet.world.fails(&unnamed, 3, "A and B were all enrolled with the serial number", "name the sticker");
    for name in ["A", "B"] {
        let refused = restore(&drive, name, &["--unproven"]);
        fleet.world.fails(&refused, 3, "A and B were all enrolled with the serial number", "labels");
    }
    ensure_refused(&fleet, &drive, "A and B", "either may be meant");
    edit_site(&fleet, |text| with_serials(text, None));
    fleet.world.fails(&restore(&drive, "A", &["--unproven"]), 3, "without a serial number", "`serial`");
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
}

#[test]
fn the_header_of_one_magazine_is_not_written_over_another() {
    let fleet = fleet(&["A", "B"]);
    let drive = fleet.drive("B");
    edit_site(&fleet, |text| with_serials(text, None));
    for damage in [&[][..], &[16], &[16, 0x4000 + 16]] {
        for place in damage {
            overwrite(&drive, *place, &[0xff]);
        }
        let before = fs::read(&drive).unwrap();
        let said = text(&fleet.world.offsite(&restore(&drive, "A", &["--unproven"])));
        assert!(said.contains("is not overwritten") || said.contains("without a serial number"), "{said}");
        assert!(fs::read(&drive).unwrap() == before, "it was written to");
    }
    edit_site(&fleet, |text| {
        text.replacen("fs_type = \"ext4\"", &format!("fs_type = \"ext4\"\nserial = {:?}", shown(&drive)), 1)
    });
    fleet.world.fails(&restore(&drive, "A", &["--unproven"]), 3, "it carries magazine B", "offsite identify");
}

/// libcryptsetup doesn't mend what another signature lies over.
#[test]
fn what_was_written_over_a_header_sends_nobody_in_a_circle() {
    let fleet = fleet(&["A"]);
    let drive = fleet.drive("A");
    let good = fs::read(&drive).unwrap();
    // A swap space: version, pages, and the signature at the end of the first page (mkswap.c).
    overwrite(&drive, 1024, &1_u32.to_le_bytes());
    overwrite(&drive, 1028, &1000_u32.to_le_bytes());
    overwrite(&drive, 4086, b"SWAPSPACE2");
    fleet.world.fails(&["luks", "repair", shown(&drive)], 1, "can't be mended", "offsite luks restore");
    let swap = fs::read(&drive).unwrap();
    fs::write(&drive, &good).unwrap();
    write_mbr(&drive);
    let mbr = fs::read(&drive).unwrap();
    for damaged in [swap, mbr] {
        fs::write(&drive, damaged).unwrap();
        // What is left of the header speaks for itself, so that no mapping is needed to see whose drive it is.
        let output = fleet.world.offsite(&restore(&drive, "A", &[]));
        assert!(output.status.success(), "{}", text(&output));
        let header = usize::try_from(fleet.container("A").data_offset_bytes()).unwrap();
        assert!(fs::read(&drive).unwrap().get(..header) == good.get(..header), "another header than before");
        assert!(fleet.says(&["luks", "repair", shown(&drive)]).contains("nothing to mend"));
    }
}

#[test]
fn an_unencrypted_drive_is_adopted_only_when_asked_for() {
    let fleet = fleet(&[]);
    let drive = fleet.drive("plain");
    File::create_new(&drive).unwrap().set_len(8 << 20).unwrap();
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", shown(&drive)]).status().unwrap();
    assert!(made.success());
    let adopt = ["adopt", shown(&drive), "--name", "P"];
    fleet.world.fails(
        &adopt,
        3,
        "is not encrypted: whoever has it reads every backup on it",
        "--unencrypted",
    );
    assert!(fleet.site().magazines.is_empty());
    // With the option it is looked at; what isn't a block device can't be mounted.
    fleet.world.fails(&[&adopt[..], &["--unencrypted"]].concat(), 1, "cannot look into", "");
}

#[test]
fn every_status_shows_that_a_magazine_is_not_encrypted() {
    let fleet = fleet(&["A"]);
    edit_site(&fleet, |text| {
        format!(
            "{text}\n[[magazine]]\nname = \"P\"\nfs_uuid = \"e6ffe50b-bbe7-854f-fea8-766ae1265eba\"\nfs_type = \"ext4\"\n"
        )
    });
    let said = fleet.says(&["status"]);
    assert_eq!(
        said.matches("not encrypted: whoever has the drive reads every backup on it").count(),
        1,
        "{said}"
    );
    let status: serde_json::Value = serde_json::from_str(&fleet.says(&["status", "--json"])).unwrap();
    assert!(
        status.pointer("/magazines/1/warning").unwrap().as_str().unwrap().starts_with("not encrypted"),
        "{status}"
    );
    assert!(status.pointer("/magazines/0/warning").is_none(), "{status}");
}

/// The directory of a bare file name is the one in which the program runs.
#[test]
fn a_bare_file_name_is_as_good_as_a_path() {
    let fleet = fleet(&["A"]);
    let (drive, key) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
        command.arg("--root").arg(fleet.world.root.path()).current_dir(fleet.world.root.path());
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    };
    run(&[
        "luks",
        "add",
        "drive-A",
        "--key-file",
        "etc/offsite/key",
        "--new-recovery-key",
        "--picture",
        "rk.png",
    ]);
    assert!(fleet.world.path("rk.png").exists());
    // Of a header whose register is somebody else's the copy of before lies beside it.
    fs::copy(&drive, fleet.world.path("f.img")).unwrap();
    fs::rename(fleet.root.headers_dir(), fleet.world.path("headers")).unwrap();
    fs::write(fleet.root.headers_dir(), "in the way").unwrap();
    run(&["luks", "kill", "f.img", "2", "--key-file", shown(&key)]);
    let left: Vec<_> =
        fs::read_dir(fleet.world.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("before")), "{left:?}");
}

/// The journal of a drive that was filled, as an interrupted `prepare` leaves it.
fn filled_journal(fleet: &Fleet, drive: &Path, mark: Option<&FillMark>, size: u64) {
    let journal = serde_json::json!({
        "version": 1, "id": shown(drive), "size_bytes": size, "name": "New", "fs_type": "ext4", "luks1": false,
        "authenticated": false, "gpt": false, "fill": "verified", "mark": mark, "luks_uuid": LuksUuid::random(),
        "fs_uuid": LuksUuid::random(), "volumes": 0, "begun": ["fill"], "done": ["fill"],
    });
    fs::create_dir_all(fleet.root.journals_dir()).unwrap();
    let name = offsite::commands::wipe::file_name(shown(drive));
    fs::write(fleet.root.journals_dir().join(name).with_extension("json"), journal.to_string()).unwrap();
}

#[test]
fn a_blank_drive_is_not_taken_for_the_one_that_was_filled() {
    let fleet = fleet(&[]);
    let (drive, other) = (fleet.drive("new"), fleet.drive("other"));
    fs::write(&drive, vec![0; 40 << 20]).unwrap();
    fs::write(
        &other,
        (0..40 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect::<Vec<_>>(),
    )
    .unwrap();
    let prepare =
        ["prepare", shown(&drive), "--name", "New", "--yes-destroy", shown(&drive), "--volumes", "1"];
    let mark = FillMark::take(&other).unwrap();
    filled_journal(&fleet, &drive, Some(&mark), 40 << 20);
    fleet.world.fails(&prepare, 3, "doesn't hold what drive", "--restart");
    // It goes on with the right one, and with any one from the first step; here as far as it can without mappings.
    let restart = [&prepare[..], &["--restart"]].concat();
    fleet.world.fails(&restart, 1, "no device-mapper", "");
    fs::copy(&other, &drive).unwrap();
    fleet.world.fails(&prepare, 1, "no device-mapper", "");
    filled_journal(&fleet, &drive, Some(&mark), 41 << 20);
    fleet.world.fails(&prepare, 3, "had 42991616 bytes", "--restart");
    fleet.world.fails(&restart, 1, "no device-mapper", "");
}

#[test]
fn a_drive_on_which_no_volume_fits_is_not_filled_first() {
    let fleet = fleet(&[]);
    let drive = fleet.drive("new");
    fs::write(&drive, vec![0; 40 << 20]).unwrap();
    let prepare = ["prepare", shown(&drive), "--name", "New", "--yes-destroy", shown(&drive)];
    fleet.world.fails(&prepare, 1, "not even one volume of 10.7 GB fits", "--volumes");
    let said = fleet.says(&["prepare", shown(&drive), "--name", "New", "--dry-run"]);
    assert!(said.contains("but: not even one volume of 10.7 GB fits in the "), "{said}");
    fleet.world.fails(&[&prepare[..], &["--volumes", "1"]].concat(), 1, "no device-mapper", "");
}
