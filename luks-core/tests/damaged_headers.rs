//! One damaged header copy, both damaged, and one that belongs elsewhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use luks_core::{
    Container, FormatOptions, HeaderCopy, KeySlot, LoadError, LuksUuid, LuksVersion, RepairError,
    RestoreError, Secret, SecretKind, TestKeyError, is_luks,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Where the secondary copy starts with the usual 16 KiB of metadata.
const SECONDARY: u64 = 0x4000;

fn key() -> Secret {
    Secret::from_bytes(vec![1; 4096])
}

fn container(directory: &TempDir) -> PathBuf {
    let device = directory.path().join("drive");
    File::create(&device).unwrap().set_len(4 * MIB).unwrap();
    let options = FormatOptions { keyslots_area_bytes: Some(MIB), ..FormatOptions::default() };
    Container::format(&device, &options, &key(), SecretKind::KeyFile, KeySlot::ONE).unwrap();
    device
}

fn overwrite(device: &PathBuf, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(device).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn one_damaged_copy_is_named_and_mended_only_when_asked() {
    // The binary part, the JSON, and everything; of either copy.
    for (offset, len, copy) in [
        (16, 1, HeaderCopy::Primary),
        (4096 + 10, 4, HeaderCopy::Primary),
        (0, 0x4000, HeaderCopy::Primary),
        (SECONDARY + 448, 8, HeaderCopy::Secondary),
        (SECONDARY + 4096 + 10, 4, HeaderCopy::Secondary),
        (SECONDARY, 0x4000, HeaderCopy::Secondary),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let device = container(&directory);
        let sound = fs::read(&device).unwrap();
        overwrite(&device, offset, &vec![0xa5; len]);
        let damaged_bytes = fs::read(&device).unwrap();

        let error = Container::load(&device).unwrap_err();
        assert!(
            matches!(&error, LoadError::HeaderDamaged { damaged, .. } if *damaged == copy),
            "{offset}: {error}"
        );
        assert!(fs::read(&device).unwrap() == damaged_bytes, "loading wrote to the device");

        let (container, repair) = Container::load_repairing(&device).unwrap();
        assert_eq!(repair.unwrap().copy, copy);
        assert_eq!(container.test_key(&key()).unwrap(), KeySlot::ONE);
        assert!(fs::read(&device).unwrap()[4096..0x4000] == sound[4096..0x4000], "other JSON than before");
        assert_eq!(Container::load_repairing(&device).unwrap().1, None, "mended twice");
    }
}

#[test]
fn an_older_copy_is_damage_too() {
    let directory = tempfile::tempdir().unwrap();
    let device = container(&directory);
    let older = fs::read(&device).unwrap()[0x4000..0x8000].to_vec();
    let loaded = Container::load(&device).unwrap();
    loaded.add_key(&key(), &key(), SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
    // As if the machine had died between writing the two copies.
    overwrite(&device, SECONDARY, &older);
    let error = Container::load(&device).unwrap_err();
    assert!(matches!(error, LoadError::HeaderDamaged { damaged: HeaderCopy::Secondary, .. }), "{error}");
    let (container, repair) = Container::load_repairing(&device).unwrap();
    assert!(repair.unwrap().reason.contains("older"));
    assert!(container.test_key_in(&key(), KeySlot::TWO).unwrap());
}

#[test]
fn two_damaged_copies_are_ruin_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let device = container(&directory);
    overwrite(&device, 20, b"x");
    overwrite(&device, SECONDARY + 20, b"x");
    let before = fs::read(&device).unwrap();
    assert!(matches!(Container::load(&device), Err(LoadError::HeaderRuined { .. })));
    let result = Container::load_repairing(&device);
    assert!(matches!(result, Err(RepairError::Load(LoadError::HeaderRuined { .. }))));
    assert!(is_luks(&device).unwrap());
    assert!(fs::read(&device).unwrap() == before, "something was written");
}

/// cryptsetup makes a LUKS1 header unusable in this way while it reencrypts the data behind it.
#[test]
fn a_luks1_container_that_is_being_reencrypted_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("drive");
    File::create(&device).unwrap().set_len(4 * MIB).unwrap();
    let options = FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() };
    let container = Container::format(&device, &options, &key(), SecretKind::KeyFile, KeySlot::ONE).unwrap();
    let backup = directory.path().join("backup");
    container.backup_header(&backup).unwrap();
    overwrite(&device, 4, &[0xde, 0xad]);
    let before = fs::read(&device).unwrap();
    let error = Container::load(&device).unwrap_err();
    assert!(matches!(error, LoadError::Reencryption { .. }), "{error}");
    assert!(is_luks(&device).unwrap());
    let error = restore(&device, &backup, container.uuid(), &key()).unwrap_err();
    assert!(error.to_string().contains("--resume-only"), "{error}");
    assert!(fs::read(&device).unwrap() == before, "something was written");
}

#[test]
fn a_filesystem_over_an_old_container_is_not_taken_for_a_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let device = container(&directory);
    // An ext4 superblock: magic, and what blkid checks of it.
    overwrite(&device, 0, &[0; 4096]);
    let mut superblock = [0_u8; 1024];
    superblock[0..4].copy_from_slice(&256_u32.to_le_bytes());
    superblock[4..8].copy_from_slice(&1024_u32.to_le_bytes());
    superblock[24..28].copy_from_slice(&2_u32.to_le_bytes());
    superblock[56..58].copy_from_slice(&[0x53, 0xef]);
    superblock[76..80].copy_from_slice(&1_u32.to_le_bytes());
    superblock[92..96].copy_from_slice(&4_u32.to_le_bytes());
    superblock[96..100].copy_from_slice(&0x42_u32.to_le_bytes());
    overwrite(&device, 1024, &superblock);
    let before = fs::read(&device).unwrap();
    assert!(is_luks(&device).unwrap(), "the remains of a container are not seen");
    let result = Container::load_repairing(&device);
    assert!(matches!(result, Err(RepairError::NotRepaired { .. })), "{result:?}");
    assert!(fs::read(&device).unwrap() == before, "the new filesystem was overwritten");
}

fn restore(device: &Path, backup: &Path, uuid: LuksUuid, key: &Secret) -> Result<Container, RestoreError> {
    Container::restore_header(Path::new("/"), device, backup, uuid, key)
}

#[test]
fn a_ruined_header_is_restored_from_its_backup() {
    let luks1 = FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() };
    let luks2 = FormatOptions { keyslots_area_bytes: Some(MIB), ..FormatOptions::default() };
    for options in [luks1, luks2] {
        let directory = tempfile::tempdir().unwrap();
        let (device, backup) = (directory.path().join("drive"), directory.path().join("backup"));
        File::create(&device).unwrap().set_len(4 * MIB).unwrap();
        let made = Container::format(&device, &options, &key(), SecretKind::KeyFile, KeySlot::ONE).unwrap();
        overwrite(&device, 3 * MIB, b"the data");
        made.backup_header(&backup).unwrap();
        let sound = fs::read(&device).unwrap();
        // What a careless installer does.
        overwrite(&device, 0, &vec![0; 1 << 20]);
        assert!(matches!(Container::load(&device), Err(LoadError::NotLuks { .. })));
        let restored = restore(&device, &backup, made.uuid(), &key()).unwrap();
        assert_eq!(restored, made);
        assert!(fs::read(&device).unwrap() == sound, "something else than before");
    }
}

#[test]
fn restoring_refuses_the_wrong_backup_key_and_drive() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (device, other) = (container(&here), container(&there));
    let backup = here.path().join("backup");
    let made = Container::load(&device).unwrap();
    made.backup_header(&backup).unwrap();
    let before = fs::read(&other).unwrap();

    let result = restore(&other, &backup, Container::load(&other).unwrap().uuid(), &key());
    assert!(matches!(result, Err(RestoreError::WrongBackup { .. })), "{result:?}");
    let result = restore(&other, &backup, made.uuid(), &key());
    assert!(matches!(result, Err(RestoreError::OtherContainer { .. })), "{result:?}");
    let stranger = Secret::from_bytes(b"stranger".to_vec());
    let result = restore(&device, &backup, made.uuid(), &stranger);
    assert!(matches!(result, Err(RestoreError::Key { source: TestKeyError::WrongKey { .. } })), "{result:?}");
    let damaged = here.path().join("damaged");
    fs::write(&damaged, &fs::read(&backup).unwrap()[..5000]).unwrap();
    let result = restore(&device, &damaged, made.uuid(), &key());
    assert!(matches!(result, Err(RestoreError::Backup { .. })), "{result:?}");
    let tiny = here.path().join("tiny");
    File::create(&tiny).unwrap().set_len(MIB).unwrap();
    let result = restore(&tiny, &backup, made.uuid(), &key());
    assert!(matches!(result, Err(RestoreError::TooSmall { .. })), "{result:?}");
    assert!(fs::read(&other).unwrap() == before, "a refused restore wrote");
}
