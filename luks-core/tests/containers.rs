//! Containers in small sparse files: no root and no device-mapper needed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use luks_core::{
    AddKeyError, BackupError, Container, FormatError, FormatOptions, KeySlot, KillSlotError, LoadError,
    LuksUuid, LuksVersion, RotateError, Secret, SecretKind, SlotPbkdf, SlotState, TestKeyError, is_luks,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn image(directory: &TempDir, mib: u64) -> PathBuf {
    let path = directory.path().join(format!("drive-{mib}"));
    File::create_new(&path).unwrap().set_len(mib * MIB).unwrap();
    path
}

fn key(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 4096])
}

/// LUKS2 with a header of 2 MiB, for speed.
fn small() -> FormatOptions {
    FormatOptions { keyslots_area_bytes: Some(MIB), ..FormatOptions::default() }
}

fn luks1() -> FormatOptions {
    FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() }
}

fn format(device: &Path, options: &FormatOptions, slot: KeySlot) -> Container {
    Container::format(device, options, &key(1), SecretKind::KeyFile, slot).unwrap()
}

fn states(container: &Container) -> Vec<(u8, SlotState)> {
    let slots = container.slots().unwrap();
    let used = slots.iter().filter(|info| info.state != SlotState::Empty);
    used.map(|info| (info.slot.get(), info.state)).collect()
}

#[test]
fn a_default_container_is_what_the_design_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(&directory, 32);
    let uuid = LuksUuid::random();
    let options = FormatOptions {
        label: Some("blue".into()),
        subsystem: Some("offsite".into()),
        uuid: Some(uuid),
        ..FormatOptions::default()
    };
    assert!(!is_luks(&device).unwrap());
    let made = format(&device, &options, KeySlot::ONE);
    assert!(is_luks(&device).unwrap());
    let container = Container::load(&device).unwrap();
    assert_eq!(container, made);
    assert_eq!(container.uuid(), uuid);
    assert_eq!(container.version(), LuksVersion::Luks2);
    assert_eq!((container.label(), container.subsystem()), (Some("blue"), Some("offsite")));
    assert_eq!(container.cipher(), "aes-xts-plain64");
    assert_eq!(container.sector_size(), 4096);
    assert_eq!(container.data_offset_bytes(), 16 * MIB);
    assert_eq!(states(&container), [(1, SlotState::ActiveLast)]);
    let slots = container.slots().unwrap();
    assert_eq!(slots.len(), 32);
    assert_eq!(slots[1].pbkdf, Some(SlotPbkdf::Pbkdf2 { hash: "sha256".into(), iterations: 1000 }));
    assert_eq!(slots[0].pbkdf, None);
    assert_eq!(
        serde_json::to_value(&slots[1]).unwrap(),
        serde_json::json!({
            "slot": 1, "state": "active-last",
            "pbkdf": { "type": "pbkdf2", "hash": "sha256", "iterations": 1000 }
        })
    );
    assert_eq!(slots[1].to_string(), "slot 1: active, the last one (PBKDF2-sha256, 1000 iterations)");
    assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
    assert!(matches!(container.test_key(&key(2)), Err(TestKeyError::WrongKey { .. })));
    assert_eq!(fs::metadata(&device).unwrap().len(), 32 * MIB, "the file's size changed");
}

#[test]
fn a_luks1_container_has_eight_slots_and_one_header() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(&directory, 4);
    let container = format(&device, &luks1(), KeySlot::ONE);
    assert_eq!(container.version(), LuksVersion::Luks1);
    assert_eq!(container.cipher(), "aes-xts-plain64");
    assert_eq!(container.sector_size(), 512);
    assert_eq!(container.data_offset_bytes(), 2 * MIB);
    assert_eq!(container.slots().unwrap().len(), 8);
    assert_eq!(states(&container), [(1, SlotState::ActiveLast)]);
    assert_eq!(
        container.slots().unwrap()[1].pbkdf,
        Some(SlotPbkdf::Pbkdf2 { hash: "sha256".into(), iterations: 1000 })
    );
    assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
}

#[test]
fn the_tutorials_flow_ends_in_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    for (name, options) in [("one", luks1()), ("two", small())] {
        let device = directory.path().join(name);
        File::create_new(&device).unwrap().set_len(4 * MIB).unwrap();
        // The temporary passphrase is stretched as a key file here, only to save the test's time.
        let passphrase = Secret::from_bytes(b"tempvolpassphrase".to_vec());
        let container =
            Container::format(&device, &options, &passphrase, SecretKind::KeyFile, KeySlot::ZERO).unwrap();
        assert_eq!(container.add_key(&passphrase, &key(1), SecretKind::KeyFile, None).unwrap(), KeySlot::ONE);
        assert_eq!(states(&container), [(0, SlotState::Active), (1, SlotState::Active)]);
        container.kill_slot(KeySlot::ZERO, &key(1)).unwrap();
        assert_eq!(states(&container), [(1, SlotState::ActiveLast)]);
        assert!(matches!(container.test_key(&passphrase), Err(TestKeyError::WrongKey { .. })));
        assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
    }
}

#[test]
fn adding_refuses_wrong_keys_taken_slots_and_slots_beyond_the_last() {
    let directory = tempfile::tempdir().unwrap();
    for (mib, options, beyond) in [(3, luks1(), 8), (4, small(), 31)] {
        let container = format(&image(&directory, mib), &options, KeySlot::ONE);
        let add = |auth: u8, slot: u8| {
            container.add_key(&key(auth), &key(9), SecretKind::KeyFile, Some(KeySlot::new(slot).unwrap()))
        };
        let before = fs::read(container.device()).unwrap();
        assert!(matches!(add(2, 3), Err(AddKeyError::WrongKey { .. })));
        assert!(matches!(add(1, 1), Err(AddKeyError::Occupied { .. })));
        if options.version == LuksVersion::Luks1 {
            assert!(matches!(add(1, beyond), Err(AddKeyError::NoSuchSlot { .. })));
        }
        assert!(fs::read(container.device()).unwrap() == before, "a refused change was written");
        assert_eq!(add(1, 3).unwrap().get(), 3);
        assert!(container.test_key_in(&key(9), KeySlot::new(3).unwrap()).unwrap());
        assert!(!container.test_key_in(&key(9), KeySlot::ONE).unwrap());
        assert!(!container.test_key_in(&key(9), KeySlot::TWO).unwrap());
    }
}

#[test]
fn a_full_container_takes_no_more_keys() {
    let directory = tempfile::tempdir().unwrap();
    // One slot's key material takes 252 KiB in LUKS2, so 1 MiB has room for four; LUKS1 has eight slots.
    for (mib, options, room) in [(3, luks1(), 8), (4, small(), 4)] {
        let container = format(&image(&directory, mib), &options, KeySlot::ZERO);
        for _ in 1..room {
            container.add_key(&key(1), &key(2), SecretKind::KeyFile, None).unwrap();
        }
        let error = container.add_key(&key(1), &key(2), SecretKind::KeyFile, None).unwrap_err();
        match options.version {
            LuksVersion::Luks1 => assert!(matches!(error, AddKeyError::Full { .. }), "{error}"),
            LuksVersion::Luks2 => assert!(error.to_string().contains("No space for new keyslot"), "{error}"),
        }
        assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ZERO);
    }
}

#[test]
fn killing_needs_a_key_that_opens_another_slot() {
    let directory = tempfile::tempdir().unwrap();
    for (mib, options) in [(3, luks1()), (4, small())] {
        let container = format(&image(&directory, mib), &options, KeySlot::ONE);
        let before = fs::read(container.device()).unwrap();
        assert!(matches!(container.kill_slot(KeySlot::ONE, &key(1)), Err(KillSlotError::Last { .. })));
        assert!(matches!(container.kill_slot(KeySlot::TWO, &key(1)), Err(KillSlotError::Empty { .. })));
        assert!(fs::read(container.device()).unwrap() == before, "a refused change was written");

        container.add_key(&key(1), &key(2), SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
        let before = fs::read(container.device()).unwrap();
        for wrong in [1, 3] {
            let result = container.kill_slot(KeySlot::ONE, &key(wrong));
            assert!(matches!(result, Err(KillSlotError::NotAuthorised { .. })), "{result:?}");
        }
        assert!(fs::read(container.device()).unwrap() == before, "a refused change was written");

        // The same key in two slots opens another one, although the first try finds the one to be removed.
        container.add_key(&key(1), &key(1), SecretKind::KeyFile, Some(KeySlot::new(3).unwrap())).unwrap();
        container.kill_slot(KeySlot::ONE, &key(1)).unwrap();
        assert_eq!(states(&container), [(2, SlotState::Active), (3, SlotState::Active)]);
        container.kill_slot(KeySlot::TWO, &key(1)).unwrap();
        assert_eq!(states(&container), [(3, SlotState::ActiveLast)]);
    }
}

#[test]
fn a_key_is_exchanged_once_and_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for (mib, options) in [(3, luks1()), (4, small())] {
        let container = format(&image(&directory, mib), &options, KeySlot::ONE);
        container.add_key(&key(1), &key(7), SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
        container.add_key(&key(1), &key(1), SecretKind::KeyFile, KeySlot::new(3)).unwrap();
        let same = container.rotate_key(&key(1), &key(1), SecretKind::KeyFile);
        assert!(matches!(same, Err(RotateError::SameKey { .. })), "{same:?}");
        let wrong = container.rotate_key(&key(8), &key(9), SecretKind::KeyFile);
        assert!(matches!(wrong, Err(RotateError::Add(AddKeyError::WrongKey { .. }))), "{wrong:?}");

        let rotated = container.rotate_key(&key(1), &key(2), SecretKind::KeyFile).unwrap();
        assert!(rotated.added);
        assert_eq!(rotated.removed, [KeySlot::ONE, KeySlot::new(3).unwrap()]);
        assert_eq!(container.slots_opened_by(&key(1)).unwrap(), []);
        assert_eq!(container.slots_opened_by(&key(2)).unwrap(), [KeySlot::ZERO]);
        assert_eq!(container.slots_opened_by(&key(7)).unwrap(), [KeySlot::TWO], "another key was lost");
        let before = fs::read(container.device()).unwrap();
        let again = container.rotate_key(&key(1), &key(2), SecretKind::KeyFile).unwrap();
        assert!(!again.added && again.removed.is_empty() && again.slot == KeySlot::ZERO, "{again:?}");
        assert!(fs::read(container.device()).unwrap() == before, "the second time something was written");
    }
}

#[test]
fn formatting_checks_before_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(&directory, 1);
    let attempt = |options: &FormatOptions, slot: u8| {
        let slot = KeySlot::new(slot).unwrap();
        Container::format(&device, options, &key(1), SecretKind::KeyFile, slot).unwrap_err()
    };
    assert!(matches!(attempt(&FormatOptions::default(), 1), FormatError::TooSmall { size: MIB, .. }));
    assert!(matches!(attempt(&small(), 1), FormatError::TooSmall { .. }));
    assert!(matches!(attempt(&luks1(), 1), FormatError::TooSmall { .. }));
    assert!(matches!(attempt(&luks1(), 8), FormatError::NoSuchSlot { .. }));
    let bad_options = [
        FormatOptions { label: Some("x".repeat(48)), ..small() },
        FormatOptions { subsystem: Some("a\0b".into()), ..small() },
        FormatOptions { sector_size: Some(1000), ..small() },
        FormatOptions { keyslots_area_bytes: Some(5000), ..FormatOptions::default() },
        FormatOptions { label: Some("x".into()), ..luks1() },
        FormatOptions { sector_size: Some(4096), ..luks1() },
    ];
    for options in bad_options {
        assert!(matches!(attempt(&options, 1), FormatError::Option { .. }), "{options:?}");
    }
    assert!(fs::read(&device).unwrap().iter().all(|byte| *byte == 0), "something was written");
    let missing = directory.path().join("missing");
    let result = Container::format(&missing, &small(), &key(1), SecretKind::KeyFile, KeySlot::ONE);
    assert!(matches!(result, Err(FormatError::Examine { .. })));
    assert!(!missing.exists());
}

#[test]
fn sector_size_follows_the_size() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("odd");
    File::create_new(&device).unwrap().set_len(4 * MIB + 512).unwrap();
    assert_eq!(format(&device, &small(), KeySlot::ONE).sector_size(), 512);
    let asked = FormatOptions { sector_size: Some(4096), ..small() };
    let result = Container::format(&device, &asked, &key(1), SecretKind::KeyFile, KeySlot::ONE);
    assert!(matches!(result, Err(FormatError::Option { .. })));
    let even = image(&directory, 4);
    let asked = FormatOptions { sector_size: Some(512), ..small() };
    assert_eq!(format(&even, &asked, KeySlot::ONE).sector_size(), 512);
}

#[test]
fn a_backup_is_private_whole_and_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let container = format(&image(&directory, 4), &small(), KeySlot::ONE);
    let backup = directory.path().join("blue.header");
    container.backup_header(&backup).unwrap();
    let metadata = fs::metadata(&backup).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o400, 1));
    let copy = Container::load(&backup).unwrap();
    assert_eq!(copy.uuid(), container.uuid());
    assert_eq!(copy.test_key(&key(1)).unwrap(), KeySlot::ONE);
    assert!(matches!(container.backup_header(&backup), Err(BackupError::Exists { .. })));
    let nowhere = directory.path().join("no/such/directory");
    assert!(container.backup_header(&nowhere).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "a draft was left behind");
}

fn add(container: &Container, auth: u8, new: u8, slot: KeySlot) {
    container.add_key(&key(auth), &key(new), SecretKind::KeyFile, Some(slot)).unwrap();
}

#[test]
fn a_backup_that_is_behind_is_seen_and_renewed() {
    for (mib, options) in [(4, small()), (5, luks1())] {
        let directory = tempfile::tempdir().unwrap();
        let container = format(&image(&directory, mib), &options, KeySlot::ONE);
        let backup = directory.path().join("backup");
        container.renew_backup(&backup).unwrap();
        assert!(container.is_backed_up_by(&backup).unwrap());
        let changes: [&dyn Fn(); 3] = [
            &|| add(&container, 1, 2, KeySlot::TWO),
            &|| container.kill_slot(KeySlot::ONE, &key(2)).unwrap(),
            // Back in the slot that it was in: only the salts tell.
            &|| add(&container, 2, 1, KeySlot::ONE),
        ];
        for change in changes {
            change();
            assert!(!container.is_backed_up_by(&backup).unwrap(), "a change was not seen");
            container.renew_backup(&backup).unwrap();
            assert!(container.is_backed_up_by(&backup).unwrap());
        }
        assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "a draft was left behind");
    }
}

#[test]
fn a_backup_of_another_container_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (
        format(&image(&directory, 4), &small(), KeySlot::ONE),
        format(&image(&directory, 5), &small(), KeySlot::ONE),
    );
    let backup = directory.path().join("backup");
    one.backup_header(&backup).unwrap();
    assert!(!two.is_backed_up_by(&backup).unwrap());
    assert!(matches!(two.renew_backup(&backup), Err(BackupError::OtherBackup { .. })));
    assert!(one.is_backed_up_by(&backup).unwrap());
}

#[test]
fn another_container_in_the_same_place_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(&directory, 4);
    let first = format(&device, &small(), KeySlot::ONE);
    let second = format(&device, &small(), KeySlot::ONE);
    assert!(matches!(first.slots(), Err(LoadError::Exchanged { found, .. }) if found == second.uuid()));
    assert!(matches!(
        first.kill_slot(KeySlot::ONE, &key(1)),
        Err(KillSlotError::Load(LoadError::Exchanged { .. }))
    ));
}

#[test]
fn what_is_not_there_or_no_device_is_named() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Container::load(&directory.path().join("x")), Err(LoadError::Missing { .. })));
    assert!(matches!(Container::load(directory.path()), Err(LoadError::Read { .. })));
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(Container::load(&pipe), Err(LoadError::Read { .. })));
    assert!(matches!(Container::load(&image(&directory, 1)), Err(LoadError::NotLuks { .. })));
}

#[test]
fn errors_carry_what_libcryptsetup_said() {
    let directory = tempfile::tempdir().unwrap();
    let device = image(&directory, 4);
    format(&device, &luks1(), KeySlot::ONE);
    // The hash's name in the LUKS1 header, which has no checksum.
    let mut bytes = fs::read(&device).unwrap();
    bytes[72..78].copy_from_slice(b"md0000");
    fs::write(&device, bytes).unwrap();
    let error = Container::load(&device).unwrap_err();
    assert!(matches!(error, LoadError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Requested LUKS hash md0000 is not supported"), "{error}");
}

#[test]
fn containers_may_be_used_from_several_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Container>();
    let directory = tempfile::tempdir().unwrap();
    let container = format(&image(&directory, 4), &small(), KeySlot::ONE);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
                assert!(container.test_key(&key(2)).is_err());
            });
        }
    });
}

#[test]
fn a_slot_is_recognised_in_a_backup_when_its_key_material_is_gone() {
    for version in [LuksVersion::Luks1, LuksVersion::Luks2] {
        let directory = tempfile::tempdir().unwrap();
        let (device, backup) = (directory.path().join("drive"), directory.path().join("backup"));
        File::create(&device).unwrap().set_len(20 << 20).unwrap();
        let options = FormatOptions { version, ..FormatOptions::default() };
        let (one, two) = (Secret::random(64).unwrap(), Secret::random(64).unwrap());
        let container =
            Container::format(&device, &options, &one, SecretKind::KeyFile, KeySlot::ONE).unwrap();
        container.backup_header(&backup).unwrap();
        container.add_key(&one, &two, SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
        assert_eq!(container.slots_alike(&backup).unwrap(), [KeySlot::ONE], "{version}");
        // Emptied and taken by the same key again it is another slot.
        container.kill_slot(KeySlot::ONE, &two).unwrap();
        assert_eq!(container.slots_alike(&backup).unwrap(), [], "{version}");
        container.add_key(&two, &one, SecretKind::KeyFile, Some(KeySlot::ONE)).unwrap();
        assert_eq!(container.slots_alike(&backup).unwrap(), [], "{version}");
    }
}
