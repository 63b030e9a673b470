//! The register's backup of a header: only a header that a key opens takes its place, and it brings back every header
//! that none opens. On files alone; no root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;
mod world;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleet::Fleet;
use luks_core::{Container, FormatOptions, KeySlot, LuksVersion, RecoveryKey, SecretKind, load_key_file};
use offsite::records::enrolment::Enrolled;
use offsite::records::header_backups::{self, Kept, State};
use offsite::records::keyring::Keyring;
use world::{shown, text};

/// Where the first key's material lies.
const MATERIAL: u64 = 0x8000;

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// The JSON stays sound, and no key opens it any more.
fn ruin_key_material(path: &Path) {
    overwrite(path, MATERIAL, &vec![0xa5; 200_000]);
}

/// A drive of LUKS1 with one wrong bit, in the salt of its only key.
fn ruined_luks1(fleet: &Fleet, name: &str) {
    fleet.enrol_as(name, &FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() });
    let mut salt = [0];
    File::open(fleet.drive(name)).unwrap().read_exact_at(&mut salt, 270).unwrap();
    overwrite(&fleet.drive(name), 270, &salt.map(|byte| byte ^ 1));
}

fn new_key(fleet: &Fleet, name: &str) -> PathBuf {
    let path = fleet.world.path(name);
    fleet.says(&["key", "generate", shown(&path)]);
    path
}

/// Names of what the register holds.
fn register(fleet: &Fleet) -> Vec<String> {
    let entries = fs::read_dir(fleet.root.headers_dir()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_failed_change_leaves_the_backup_of_a_ruined_drive() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, new) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), new_key(&fleet, "new"));
    ruin_key_material(&drive);
    let good = fs::read(fleet.backup("A")).unwrap();
    let (drive, key, new) = (shown(&drive), shown(&key), shown(&new));
    fleet.world.fails(
        &["luks", "add", drive, "--key-file", key, "--new-key-file", new],
        1,
        "opens no slot",
        "",
    );
    fleet.world.fails(&["luks", "change", drive, "--key-file", key, "--new-key-file", new], 1, "no slot", "");
    fleet.world.fails(&["luks", "kill", drive, "1", "--key-file", key], 3, "last key", "");
    assert!(fs::read(fleet.backup("A")).unwrap() == good, "the backup is another one");
    assert_eq!(register(&fleet).len(), 1);
    fleet.says(&["key", "test", key]);
}

/// A change that broke off has left the only header that the key opens; trying again must not overwrite it.
#[test]
fn a_second_try_leaves_the_copy_that_the_first_one_made() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, new) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), new_key(&fleet, "new"));
    let before = fleet.root.headers_dir().join(format!("{}.before.img", fleet.container("A").uuid()));
    fs::rename(fleet.backup("A"), &before).unwrap();
    ruin_key_material(&drive);
    let add = ["luks", "add", shown(&drive), "--key-file", shown(&key), "--new-key-file", shown(&new)];
    fleet.world.fails(&add, 1, "opens no slot", shown(&before));
    Container::load(&before).unwrap().test_key(&fleet.key()).unwrap();
}

#[test]
fn mending_never_puts_a_header_that_no_key_opens_into_the_register() {
    let fleet = Fleet::new(&["A"]);
    ruined_luks1(&fleet, "B");
    ruin_key_material(&fleet.drive("A"));
    overwrite(&fleet.drive("A"), 16, &[0xff]); // the primary copy
    for name in ["A", "B"] {
        let good = fs::read(header_backups::path(
            &fleet.root,
            fleet.site().magazine(name).unwrap().luks_uuid.unwrap(),
        ));
        fleet.world.fails(
            &["luks", "repair", shown(&fleet.drive(name))],
            1,
            "no key of this site",
            "luks restore",
        );
        assert!(fs::read(fleet.backup(name)).unwrap() == good.unwrap(), "{name}");
    }
    let sound = Fleet::new(&["A"]);
    overwrite(&sound.drive("A"), 16, &[0xff]);
    assert!(sound.says(&["luks", "repair", shown(&sound.drive("A"))]).contains("written anew"));
    assert!(sound.container("A").is_backed_up_by(&sound.backup("A")).unwrap());
}

#[test]
fn a_backup_that_rotted_or_that_others_read_is_renewed_by_the_drive() {
    let fleet = Fleet::new(&["A"]);
    let (container, key) = (fleet.container("A"), fleet.key());
    let enrolled = Enrolled::of(&fleet.root, container.uuid()).unwrap().unwrap();
    let keep =
        || enrolled.keep(&fleet.root, &enrolled.read(&fleet.root, container.device()).unwrap(), &[&key]);
    assert_eq!(keep().unwrap(), Kept::AsItWas, "renewed for nothing");
    fs::set_permissions(fleet.backup("A"), Permissions::from_mode(0o444)).unwrap();
    assert!(matches!(header_backups::state(&fleet.root, container.uuid(), None), State::Bad(_)));
    assert_eq!(keep().unwrap(), Kept::Renewed);
    assert_eq!(header_backups::state(&fleet.root, container.uuid(), Some(&container)), State::Good);
    ruin_key_material(&fleet.backup("A"));
    assert_eq!(keep().unwrap(), Kept::Renewed);
    Container::load(&fleet.backup("A")).unwrap().test_key(&key).unwrap();
    // The other way round the drive is what rotted.
    ruin_key_material(&fleet.drive("A"));
    fs::set_permissions(fleet.backup("A"), Permissions::from_mode(0o444)).unwrap();
    assert!(keep().is_err());
    Container::load(&fleet.backup("A")).unwrap().test_key(&key).unwrap();
    let keys = Keyring::load(&fleet.root, &fleet.site()).unwrap();
    assert!(
        keys.remedy(&fleet.root, container.uuid(), container.device())
            .unwrap()
            .contains("offsite luks restore")
    );
}

#[test]
fn a_backup_of_another_container_is_told_of_and_left() {
    let fleet = Fleet::new(&["A", "B"]);
    fs::rename(fleet.backup("B"), fleet.backup("A")).unwrap();
    let said = text(&fleet.world.offsite(&["doctor"]));
    assert!(said.contains("is the header of") && said.contains("move it away, then plug it in"), "{said}");
}

#[test]
fn a_header_that_looks_sound_and_that_no_key_opens_is_restored() {
    let fleet = Fleet::new(&["A"]);
    ruined_luks1(&fleet, "B");
    let restore = |name: &str| {
        let drive = fleet.drive(name);
        let arguments = [
            "luks",
            "restore",
            shown(&drive),
            "--name",
            name,
            "--unproven",
            "--yes-overwrite",
            shown(&drive),
        ];
        fleet.world.offsite(&arguments)
    };
    let refused = restore("A");
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(
        text(&refused).contains("its header is sound, a key of this site opens it"),
        "{}",
        text(&refused)
    );
    ruin_key_material(&fleet.drive("A"));
    for name in ["A", "B"] {
        let ruined = fs::read(fleet.drive(name)).unwrap();
        let restored = restore(name);
        assert!(restored.status.success(), "{}", text(&restored));
        fleet.container(name).test_key(&fleet.key()).unwrap();
        // What was overwritten can be put back.
        let uuid = fleet.container(name).uuid().to_string();
        let kept =
            register(&fleet).into_iter().find(|file| file.starts_with(&format!("{uuid}.overwritten-")));
        let kept = fleet.root.headers_dir().join(kept.unwrap());
        let bytes = fs::read(&kept).unwrap();
        assert!(
            bytes.len() as u64 == fleet.container(name).data_offset_bytes() && ruined.starts_with(&bytes)
        );
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o400);
    }
}

/// Each single field of a LUKS1 header may be what was hit.
#[test]
fn any_damage_to_a_luks1_header_is_restored() {
    let fleet = Fleet::new(&[]);
    fleet.enrol_as("A", &FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() });
    let (drive, uuid) = (fleet.drive("A"), fleet.container("A").uuid());
    let sound = fs::read(&drive).unwrap();
    // Magic, cipher, hash, data offset, key length, digest, its iterations, a slot's state, iterations, place, stripes.
    for byte in [0, 10, 74, 106, 111, 113, 166, 258, 262, 298, 302] {
        overwrite(&drive, byte, &[sound[usize::try_from(byte).unwrap()] ^ 0x04]);
        let arguments =
            ["luks", "restore", shown(&drive), "--name", "A", "--unproven", "--yes-overwrite", shown(&drive)];
        let restored = fleet.world.offsite(&arguments);
        assert!(restored.status.success(), "byte {byte}: {}", text(&restored));
        let container = fleet.container("A");
        assert_eq!(
            (container.uuid(), container.test_key(&fleet.key()).unwrap()),
            (uuid, KeySlot::ONE),
            "{byte}"
        );
    }
}

fn add_recovery_key(fleet: &Fleet, stdout: Stdio) -> std::process::Output {
    let (drive, key) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
    command.arg("--root").arg(fleet.world.root.path());
    command.args(["luks", "add", shown(&drive), "--key-file", shown(&key), "--new-recovery-key"]);
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_recovery_key_that_nobody_saw_does_not_stay() {
    let fleet = Fleet::new(&["A"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = add_recovery_key(&fleet, full.into());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("could not be shown, so it was removed again"), "{}", text(&output));
    let used = fleet.container("A").slots().unwrap().into_iter().filter(luks_core::SlotInfo::is_active);
    assert_eq!(used.map(|info| info.slot).collect::<Vec<_>>(), [KeySlot::ONE]);
    assert!(fleet.container("A").is_backed_up_by(&fleet.backup("A")).unwrap());
}

#[test]
fn a_recovery_key_is_shown_also_when_the_register_can_not_be_renewed() {
    let fleet = Fleet::new(&["A"]);
    let backup = fleet.backup("A");
    fs::remove_file(&backup).unwrap();
    fs::create_dir_all(backup.join("in-the-way")).unwrap();
    let output = add_recovery_key(&fleet, Stdio::piped());
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("error: the change was made; "), "{said}");
    let typed = said.lines().find(|line| line.split('-').count() == 13).unwrap().trim();
    let key = RecoveryKey::parse(typed).unwrap();
    assert_eq!(fleet.container("A").test_key(key.secret()).unwrap(), KeySlot::TWO);
}

#[test]
fn an_exchange_that_was_killed_in_the_middle_of_a_removal_is_ended() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, new) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), new_key(&fleet, "new"));
    let secret = load_key_file(&new).unwrap();
    let container = fleet.container("A");
    let before = fleet.root.headers_dir().join(format!("{}.before.img", container.uuid()));
    container.backup_header(&before).unwrap();
    container.add_key(&fleet.key(), &secret, SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
    ruin_key_material(&drive); // of slot 1, which the header still describes
    let said = fleet.says(&[
        "luks",
        "change",
        shown(&drive),
        "--key-file",
        shown(&key),
        "--new-key-file",
        shown(&new),
    ]);
    assert!(said.contains("the new key opens slot 2; emptied: 1\n"), "{said}");
    let used = fleet.container("A").slots().unwrap().into_iter().filter(luks_core::SlotInfo::is_active);
    assert_eq!(used.map(|info| info.slot).collect::<Vec<_>>(), [KeySlot::TWO]);
}

#[test]
fn exit_codes_tell_what_is_absent_and_what_is_taken() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"));
    let add = |device: &str, slot: &str, code, error| {
        let new = ["--new-key-file", shown(&key), "--slot", slot];
        let arguments = [&["luks", "add", device, "--key-file", shown(&key)][..], &new].concat();
        fleet.world.fails(&arguments, code, error, "");
    };
    add("/dev/no-such-drive", "3", 4, "is not there");
    add(shown(&drive), "1", 3, "occupied");
    fleet.world.fails(&["luks", "repair", "/dev/no-such-drive"], 4, "is not there", "");
}

/// As `cryptsetup reencrypt` writes it before it touches the first byte of data.
fn begin_reencryption(fleet: &Fleet, name: &str) {
    let (drive, key) = (fleet.drive(name), fleet.world.path("etc/offsite/key"));
    let begun = Command::new("/usr/sbin/cryptsetup")
        .args(["--batch-mode", "reencrypt", "--init-only", "--pbkdf", "pbkdf2"])
        .args(["--pbkdf-force-iterations", "1000", "--key-file", shown(&key), shown(&drive)])
        .output()
        .unwrap();
    assert!(begun.status.success(), "{}", text(&begun));
}

#[test]
fn while_a_reencryption_is_under_way_no_command_touches_key_or_header() {
    let fleet = Fleet::new(&[]);
    fleet.enrol_in("A", &FormatOptions::default(), 20);
    begin_reencryption(&fleet, "A");
    let (drive, key, new) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), new_key(&fleet, "new"));
    let backup = header_backups::path(&fleet.root, fleet.site().magazine("A").unwrap().luks_uuid.unwrap());
    let (before, backed_up) = (fs::read(&drive).unwrap(), fs::read(&backup).unwrap());
    let (drive, key, new) = (shown(&drive), shown(&key), shown(&new));
    for arguments in [
        &["luks", "slots", drive][..],
        &["luks", "kill", drive, "0", "--key-file", key],
        &["luks", "kill", drive, "1", "--key-file", key, "--dry-run"],
        &["luks", "add", drive, "--key-file", key, "--new-key-file", new],
        &["luks", "change", drive, "--key-file", key, "--new-key-file", new],
        &["luks", "test", drive, "--key-file", key],
        &["luks", "repair", drive],
        &["luks", "restore", drive, "--name", "A", "--unproven", "--yes-overwrite", drive],
    ] {
        fleet.world.fails(arguments, 3, &format!("cryptsetup reencrypt --resume-only {drive}"), "");
    }
    assert!(fs::read(drive).unwrap() == before, "the drive was written to");
    assert!(fs::read(backup).unwrap() == backed_up, "the backup is another one");
}

/// An md superblock of version 1.0, which lies behind all data (`struct mdp_superblock_1` of the kernel's md_p.h).
fn raid_member(path: &Path, mib: u64) {
    let sector = (mib << 11) - 16;
    File::create_new(path).unwrap().set_len(mib << 20).unwrap();
    let fields: [(u64, &[u8]); 4] = [
        (0, &0xa92b_4efc_u32.to_le_bytes()), // magic
        (4, &[1]),                           // major version
        (16, &[7; 16]),                      // UUID
        (144, &sector.to_le_bytes()),        // its own place
    ];
    for (place, bytes) in fields {
        overwrite(path, sector * 512 + place, bytes);
    }
}

#[test]
fn a_new_container_is_the_only_thing_that_its_device_is_taken_for() {
    let world = world::World::initialised();
    let (drive, key) = (world.path("drive"), world.path("etc/offsite/key"));
    raid_member(&drive, 64);
    let holds = || {
        let said = text(&world.offsite(&["identify", shown(&drive)]));
        said.lines().find_map(|line| line.trim().strip_prefix("holds     ").map(str::to_owned)).unwrap()
    };
    assert!(holds().starts_with("linux_raid_member"), "{}", holds());
    let format = ["luks", "format", shown(&drive), "--key-file", shown(&key), "--yes-destroy", shown(&drive)];
    world.fails(&[&format[..], &["--gpt"]].concat(), 3, "no block device", "");
    assert!(holds().starts_with("linux_raid_member"), "{}", holds());
    for version in ["--luks1", "--slot=1"] {
        let output = world.offsite(&[&format[..], &[version]].concat());
        assert!(output.status.success(), "{}", text(&output));
        assert!(holds().starts_with("LUKS"), "{}", holds());
        fs::remove_file(&drive).unwrap();
        raid_member(&drive, 64);
    }
}
