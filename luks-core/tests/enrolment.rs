//! A container is opened as it was enrolled, whatever its header says later. Small files: no root and no device-mapper.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod forger;
#[expect(dead_code, reason = "the ruined images are for another test")]
mod images;

use std::fs;
use std::path::{Path, PathBuf};

use luks_core::{
    Container, Enrolment, EnrolmentError, Header, KeySlot, LoadError, Secret, SecretKind, TestKeyError,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A file with an image, and what was enrolled of it.
struct Drive {
    directory: TempDir,
    device: PathBuf,
    enrolment: Enrolment,
}

impl Drive {
    fn new(image: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("drive");
        fs::write(&device, image).unwrap();
        let enrolment = Header::read(&device).unwrap().enrolment().clone();
        Self { directory, device, enrolment }
    }

    /// Writes another image to the drive.
    fn becomes(&self, image: &[u8]) -> &Path {
        fs::write(&self.device, image).unwrap();
        &self.device
    }

    fn read(&self) -> Result<Header, EnrolmentError> {
        self.enrolment.read(&self.device)
    }
}

fn key() -> Secret {
    Secret::from_bytes(images::KEY.to_vec())
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut image = images::luks2();
    forger::change(&mut image, change);
    image
}

/// What a changed header is refused with, by itself and against what was enrolled.
fn refusals(image: &[u8]) -> (Option<String>, String) {
    let drive = Drive::new(&if image[7] == 1 { images::luks1() } else { images::luks2() });
    let by_itself = Container::load(drive.becomes(image)).err().map(|error| error.to_string());
    let against = drive.read().unwrap_err().to_string();
    (by_itself, against)
}

#[test]
fn a_slot_that_takes_any_key_is_refused() {
    let drive = Drive::new(&images::luks2());
    let mut forged = images::luks2();
    forger::take_any_key(&mut forged, &[0x42; 64]);
    let error = Container::load(drive.becomes(&forged)).unwrap_err();
    assert!(matches!(error, LoadError::Suspicious { .. }), "{error}");
    assert!(error.to_string().contains("slot 1 keeps its key material unencrypted"), "{error}");
    assert!(Header::read(&drive.device).is_err());
    assert!(drive.read().is_err());
    // The attack itself: another volume key, even if its slot were a good one.
    forger::change(&mut forged, |metadata| {
        metadata["keyslots"] = forger::metadata(&images::luks2())["keyslots"].clone();
    });
    drive.becomes(&forged);
    let Err(EnrolmentError::Changed { differences, .. }) = drive.read() else { panic!("accepted") };
    let fields: Vec<_> = differences.iter().map(|difference| difference.field.as_str()).collect();
    assert_eq!(fields, ["digests/0/digest", "digests/0/salt"]);
}

#[test]
fn what_encrypts_nothing_or_is_not_known_is_named() {
    let cases: Vec<(&str, &str, Value)> = vec![
        ("/segments/0/encryption", "segment 0 is not encrypted", json!("cipher_null-ecb")),
        ("/segments/0/type", "segment 0 is of the unknown kind 'linear'", json!("linear")),
        ("/segments/0/flags", "a reencryption of", json!(["in-reencryption"])),
        ("/segments/1", "has 2 segments", images_segment()),
        (
            "/keyslots/0/area/encryption",
            "slot 0 keeps its key material unencrypted",
            json!("cipher_null-ecb"),
        ),
        ("/keyslots/0/type", "slot 0 is of the unknown kind 'luks3'", json!("luks3")),
        ("/keyslots/0/type", "a reencryption of", json!("reencrypt")),
        ("/keyslots/0/area/type", "slot 0 is of the unknown area kind 'none'", json!("none")),
        ("/keyslots/0/kdf/type", "derives its key in the unknown way 'scrypt'", json!("scrypt")),
        ("/keyslots/0/more", "slot 0 has the unknown field 'more'", json!(1)),
        (
            "/keyslots/0/area/offset",
            "slot 0 has its key material in an impossible place",
            json!("99999999999"),
        ),
        ("/digests/0/type", "digest 0 can't tell", json!("argon2")),
        ("/config/requirements", "requires time-travel", json!({"mandatory": ["time-travel"]})),
        ("/config/requirements", "a reencryption of", json!({"mandatory": ["online-reencrypt-v2"]})),
        ("/config/requirements", "requires", json!("x")),
    ];
    for (place, said, value) in cases {
        let image = changed(|metadata| {
            let (parent, name) = place.rsplit_once('/').unwrap();
            metadata.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.into(), value);
        });
        let (by_itself, against) = refusals(&image);
        assert!(by_itself.as_ref().is_some_and(|error| error.contains(said)), "{place}: {by_itself:?}");
        assert!(against.contains(said), "{place}: {against}");
    }
}

fn images_segment() -> Value {
    let mut segment = forger::metadata(&images::luks2())["segments"]["0"].clone();
    segment["offset"] = json!("2097152");
    segment
}

#[test]
fn data_at_another_place_or_in_another_cipher_are_differences() {
    for (field, value, said) in [
        ("offset", json!("1052672"), "segments/0/offset was "),
        ("iv_tweak", json!("8"), "segments/0/iv_tweak was 0, is 8"),
        ("sector_size", json!(512), "segments/0/sector_size (bare) was 4096, is 512"),
        (
            "encryption",
            json!("aes-cbc-plain64"),
            "segments/0/encryption was aes-xts-plain64, is aes-cbc-plain64",
        ),
        ("size", json!("4096"), "segments/0/size was dynamic, is 4096"),
    ] {
        let (_, against) = refusals(&changed(|metadata| metadata["segments"]["0"][field] = value));
        assert!(against.contains(said), "{against}");
    }
    let (_, against) = refusals(&changed(|metadata| metadata["config"]["flags"] = json!(["allow-discards"])));
    assert!(against.contains("config/flags/0 was absent, is allow-discards"), "{against}");
}

#[test]
fn each_field_of_a_luks1_header_counts() {
    let good = images::luks1();
    for (name, at, patch) in [
        ("cipher", 8, &b"cipher_null\0"[..]),
        ("cipher", 40, &b"cbc-plain\0"[..]),
        ("hash", 72, &b"sha1\0\0\0"[..]),
        ("payload offset", 104, &8192_u32.to_be_bytes()[..]),
        ("key bytes", 108, &32_u32.to_be_bytes()[..]),
        ("digest", 112, &[7; 20][..]),
        ("digest salt", 132, &[7; 32][..]),
        ("digest iterations", 164, &1001_u32.to_be_bytes()[..]),
    ] {
        let mut image = good.clone();
        image[at..at + patch.len()].copy_from_slice(patch);
        let (_, against) = refusals(&image);
        assert!(against.contains(name), "{name}: {against}");
    }
    let mut image = good;
    image[208 + 4..208 + 8].copy_from_slice(&1001_u32.to_be_bytes());
    let drive = Drive::new(&images::luks1());
    drive.becomes(&image);
    assert_eq!(drive.enrolment.changed_slots(drive.read().unwrap().enrolment()), [KeySlot::ZERO]);
}

#[test]
fn keys_come_and_go_and_the_container_stays_the_same() {
    for image in [images::luks1(), images::luks2()] {
        let drive = Drive::new(&image);
        let container = Container::load(&drive.device).unwrap();
        let new = Secret::random(64).unwrap();
        container.kill_slot(KeySlot::ZERO, &key()).unwrap();
        container.add_key(&key(), &new, SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
        let header = drive.read().unwrap();
        assert_eq!(drive.enrolment.digest(), header.enrolment().digest());
        assert_eq!(drive.enrolment.changed_slots(header.enrolment()), [KeySlot::ZERO, KeySlot::TWO]);
        let wrong = Secret::random(64).unwrap();
        let opened = header.test_keys(&[&wrong, &new, &key()]).unwrap();
        assert_eq!((opened.key, opened.slot), (1, KeySlot::TWO));
        assert_eq!(drive.enrolment.digest().read(&drive.device).unwrap().uuid(), container.uuid());
        let other = Drive::new(&if image[7] == 1 { images::luks2() } else { images::luks1() });
        assert!(matches!(
            other.enrolment.digest().read(&drive.device),
            Err(EnrolmentError::OtherDigest { .. })
        ));
    }
}

/// The drive shows one header to the judge and another one to every later read.
#[test]
fn a_header_that_was_read_once_is_not_read_again() {
    for image in [images::luks1(), images::luks2()] {
        let drive = Drive::new(&image);
        let header = drive.read().unwrap();
        let mut forged = image.clone();
        if image[7] == 1 {
            forged[8..20].copy_from_slice(b"cipher_null\0");
        } else {
            let material = forged[0x8000..].to_vec();
            forger::take_any_key(&mut forged, &[0x42; 64]);
            forged[0x8000..].copy_from_slice(&material);
        }
        drive.becomes(&forged);
        assert_eq!(header.test_keys(&[&key()]).unwrap().slot, KeySlot::ZERO);
        let wrong = header.test_keys(&[&Secret::random(64).unwrap()]);
        assert!(matches!(wrong, Err(TestKeyError::WrongKey { .. })), "{wrong:?}");
        let backup = drive.directory.path().join("backup");
        header.renew_backup(&backup, &[&key()]).unwrap();
        let kept = drive.enrolment.read(&backup).unwrap();
        assert!(kept.says_the_same(&header), "the forged header was backed up");
        assert_eq!(kept.test_keys(&[&key()]).unwrap().slot, KeySlot::ZERO);
    }
}

/// What the forger knows is a volume key of his own; a key of the owner's must not lead to it, however it is read.
#[test]
fn key_material_of_another_volume_key_opens_nothing() {
    let drive = Drive::new(&images::luks2());
    let header = drive.read().unwrap();
    let mut forged = images::luks2();
    forger::take_any_key(&mut forged, &[0x42; 64]);
    drive.becomes(&forged);
    // Slot 1 is the forger's on the disk now; slot 0 is as it was, and is excluded here.
    let container_key = key();
    let opened = header.test_keys(&[&container_key]).unwrap();
    assert_eq!(opened.slot, KeySlot::ZERO);
    fs::write(&drive.device, vec![0; forged.len()]).unwrap();
    assert!(matches!(header.test_keys(&[&container_key]), Err(TestKeyError::WrongKey { .. })));
}

#[test]
fn the_volume_key_proves_a_header_that_was_made_anew() {
    let drive = Drive::new(&images::luks2());
    let enrolled = Header::read(&drive.device).unwrap();
    let copy = drive.directory.path().join("copy");
    fs::write(&copy, changed(|metadata| metadata["config"]["flags"] = json!(["no-read-workqueue"]))).unwrap();
    let changed = Header::read(&copy).unwrap();
    assert!(changed.has_volume_key_of(&enrolled, &key()).unwrap());
    let other = drive.directory.path().join("other");
    fs::write(&other, images::luks1()).unwrap();
    assert!(!Header::read(&other).unwrap().has_volume_key_of(&enrolled, &key()).unwrap());
    let wrong = changed.has_volume_key_of(&enrolled, &Secret::random(64).unwrap());
    assert!(matches!(wrong, Err(TestKeyError::WrongKey { .. })), "{wrong:?}");
}

fn costly(metadata: &mut Value, slot: &str, iterations: u64) {
    metadata["keyslots"][slot]["kdf"] = json!({
        "type": "pbkdf2", "hash": "sha256", "iterations": iterations, "salt": forger::base64(&[9; 32]),
    });
}

#[test]
fn costly_slots_are_not_tried_and_hide_no_good_one() {
    let drive = Drive::new(&images::luks2());
    drive.becomes(&changed(|metadata| costly(metadata, "0", 180_000_000)));
    let header = drive.read().unwrap();
    assert_eq!(header.test_keys(&[&key()]).unwrap().slot, KeySlot::ONE);
    let error = header.test_keys(&[&Secret::random(64).unwrap()]).unwrap_err();
    assert!(matches!(error, TestKeyError::Load(LoadError::TooCostly { .. })), "{error}");
    assert!(error.to_string().contains("slots 0 ask"), "{error}");
    // Memory that the machine may not have, and threads that take it in secret.
    for kdf in [
        json!({"type": "argon2id", "time": 4, "memory": 4_000_000, "cpus": 4, "salt": forger::base64(&[9; 32])}),
        json!({"type": "argon2id", "time": 4, "memory": 32, "cpus": 16_000_000, "salt": forger::base64(&[9; 32])}),
    ] {
        drive.becomes(&changed(|metadata| {
            metadata["keyslots"]["0"]["kdf"] = kdf.clone();
            metadata["keyslots"]["1"]["kdf"] = kdf.clone();
        }));
        let tried = drive.read().map(|header| header.test_keys(&[&key()]).unwrap_err().to_string());
        let said = tried.unwrap_or_else(|error| error.to_string());
        assert!(said.contains("would take too long"), "{said}");
    }
}

/// As the header is in every place but the one that was changed, it must be refused, or be the enrolled one still.
fn is_refused_or_the_same(drive: &Drive) -> Result<(), TestCaseError> {
    match drive.read() {
        Err(_) => Ok(()),
        Ok(header) => {
            prop_assert_eq!(header.enrolment().digest(), drive.enrolment.digest());
            prop_assert!(drive.enrolment.differences(header.enrolment()).is_empty());
            let wrong = header.test_keys(&[&Secret::from_bytes(vec![9; 64])]);
            prop_assert!(wrong.is_err(), "a wrong key opens it: {:?}", wrong);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_byte_of_a_luks1_header_counts(at in 8_usize..208, byte: u8) {
        let mut image = images::luks1();
        prop_assume!(image[at] != byte);
        image[at] = byte;
        // Behind a text's end there is room that nothing reads.
        let text_end = |from: usize| from + image[from..].iter().position(|byte| *byte == 0).unwrap();
        let rooms = [(8, 40), (40, 72), (72, 104), (168, 208)];
        let unread = rooms.iter().any(|(from, to)| (*from..*to).contains(&at) && at > text_end(*from));
        let drive = Drive::new(&images::luks1());
        drive.becomes(&image);
        prop_assert!(unread || drive.read().is_err(), "accepted");
        is_refused_or_the_same(&drive)?;
    }

    #[test]
    fn any_change_of_the_json_is_refused_or_leaves_the_identity(case in images::random_json_change()) {
        let drive = Drive::new(&images::luks2());
        drive.becomes(&case.bytes);
        is_refused_or_the_same(&drive)?;
    }
}
