//! Commands on a drive whose header somebody has changed: what is written and backed up is what was enrolled. On files
//! alone; no root is needed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod fleet;
#[expect(dead_code, reason = "other changes are for other tests")]
#[path = "../../luks-core/tests/forger/mod.rs"]
mod forger;
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;

use fleet::Fleet;
use luks_core::{Container, KeySlot, Secret, SecretKind};
use offsite::base::failure::Exit;
use offsite::records::header_backups;
use serde_json::{Value, json};
use world::{shown, text};

/// Processes must do with that many KiB of addresses.
const FEW_KIB: u64 = 2_000_000;
/// A derivation that libcryptsetup would run, and this machine or another one hasn't the memory for.
const MUCH_KIB: u64 = 4_000_000;

fn change(drive: &Path, change: impl FnOnce(&mut Value)) {
    let mut image = fs::read(drive).unwrap();
    forger::change(&mut image, change);
    fs::write(drive, image).unwrap();
}

fn other_key(fleet: &Fleet) -> String {
    let path = fleet.world.path("other-key");
    fleet.says(&["key", "generate", shown(&path)]);
    shown(&path).to_owned()
}

/// `luks restore` of the only drive.
fn restore(fleet: &Fleet, drive: &str) -> std::process::Output {
    fleet.world.offsite(&["luks", "restore", drive, "--name", "A", "--yes-overwrite", drive])
}

#[test]
fn a_backup_that_is_not_the_enrolled_header_is_written_nowhere() {
    let fleet = Fleet::new(&["A"]);
    let (drive, backup) = (fleet.drive("A"), fleet.backup("A"));
    let good = fs::read(&backup).unwrap();
    // Sound, of the same container, and opened by the key; but it isn't what the site knows.
    let mut other = good.clone();
    forger::change(&mut other, |metadata| metadata["config"]["flags"] = json!(["allow-discards"]));
    fs::remove_file(&backup).unwrap();
    fs::write(&backup, other).unwrap();
    change(&drive, |metadata| metadata["digests"]["0"]["iterations"] = json!(7));
    let before = fs::read(&drive).unwrap();
    let arguments = ["luks", "restore", shown(&drive), "--name", "A", "--yes-overwrite", shown(&drive)];
    fleet.world.fails(&arguments, 3, "is not the header that A was enrolled with", "put the right backup");
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
    fs::write(&backup, good).unwrap();
    let restored = restore(&fleet, shown(&drive));
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(fleet.site().magazine("A").unwrap().luks_digest, Some(fleet.container("A").digest()));
}

/// What the daemon refuses with "bring the enrolled one back" can be brought back.
#[test]
fn a_sound_header_that_is_not_the_enrolled_one_is_restored() {
    let fleet = Fleet::new(&["A"]);
    let drive = fleet.drive("A");
    let refused = restore(&fleet, shown(&drive));
    assert!(text(&refused).contains("its header is sound"), "{}", text(&refused));
    change(&drive, |metadata| metadata["config"]["flags"] = json!(["allow-discards"]));
    let restored = restore(&fleet, shown(&drive));
    assert!(restored.status.success(), "{}", text(&restored));
    let stranger = Secret::random(64).unwrap();
    fleet.container("A").add_key(&fleet.key(), &stranger, SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
    let restored = restore(&fleet, shown(&drive));
    assert!(restored.status.success(), "{}", text(&restored));
    assert!(fleet.container("A").test_key(&stranger).is_err(), "the stranger's key stayed");
    assert!(fleet.container("A").is_backed_up_by(&fleet.backup("A")).unwrap());
}

/// A key slot that changes beside the one that was asked for: by another program, or by the drive itself.
#[test]
fn a_slot_that_changes_during_another_change_is_told_and_not_backed_up() {
    let fleet = Fleet::new(&["A"]);
    let (container, key) = (fleet.container("A"), fleet.key());
    let before = fs::read(fleet.backup("A")).unwrap();
    let add = |slot: u8| {
        let secret = Secret::random(64).unwrap();
        container.add_key(&key, &secret, SecretKind::KeyFile, KeySlot::new(slot)).unwrap()
    };
    let slots = |slot: &KeySlot| vec![*slot];
    let change = || {
        add(5);
        Ok(add(3))
    };
    let (slot, backed_up) =
        offsite::records::header_changes::guarded(&fleet.root, &container, &key, &key, slots, change)
            .unwrap();
    assert_eq!(slot.get(), 3);
    let failure = backed_up.unwrap_err();
    assert!(
        failure.exit() == Exit::Refused && failure.message().contains("changed outside offsite: key slots 5"),
        "{}",
        failure.message()
    );
    assert!(fs::read(fleet.backup("A")).unwrap() == before, "it was backed up");
    assert!(
        !header_backups::is_changing(&fleet.root, container.uuid()),
        "the next look would take the slot over"
    );
}

#[test]
fn a_header_that_is_exchanged_under_a_change_is_not_changed() {
    let fleet = Fleet::new(&["A"]);
    let (container, key) = (fleet.container("A"), fleet.key());
    let drive = fleet.drive("A");
    change(&drive, |metadata| metadata["config"]["flags"] = json!(["allow-discards"]));
    let before = fs::read(&drive).unwrap();
    let error = container.add_key(&key, &Secret::random(64).unwrap(), SecretKind::KeyFile, None).unwrap_err();
    assert!(error.to_string().contains("is another one than it was a moment ago"), "{error}");
    let error = container.kill_slot(KeySlot::ONE, &key).unwrap_err();
    assert!(error.to_string().contains("is another one than it was a moment ago"), "{error}");
    assert!(fs::read(&drive).unwrap() == before, "it was written to");
}

/// Runs with little memory; a process that asks for too much ends with a signal, or says so.
fn offsite_with_little_memory(fleet: &Fleet, arguments: &[&str]) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -v {FEW_KIB} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_offsite")])
        .arg("--root")
        .arg(fleet.world.root.path())
        .args(arguments)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.code().is_some(), "{arguments:?} ended with {}: {said}", output.status);
    assert!(!said.to_lowercase().contains("allocate"), "{arguments:?}: {said}");
    said
}

fn greedy(metadata: &mut Value, slots: &[&str]) {
    let good = metadata["keyslots"]["1"].clone();
    let number = |field: &str| good["area"][field].as_str().unwrap().parse::<u64>().unwrap();
    for (place, slot) in (1..).zip(slots) {
        if *slot != "1" {
            metadata["keyslots"][*slot] = good.clone();
            let offset = number("offset") + place * number("size");
            metadata["keyslots"][*slot]["area"]["offset"] = json!(offset.to_string());
        }
        metadata["keyslots"][*slot]["kdf"] = json!({
            "type": "argon2id", "time": 4, "memory": MUCH_KIB, "cpus": 4, "salt": forger::base64(&[9; 32]),
        });
    }
    let names: Vec<_> = metadata["keyslots"].as_object().unwrap().keys().cloned().collect();
    metadata["digests"]["0"]["keyslots"] = json!(names);
}

#[test]
fn no_command_takes_the_memory_that_a_header_asks_for() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, other) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), other_key(&fleet));
    let (drive, key) = (shown(&drive), shown(&key));
    let sound = fs::read(drive).unwrap();
    for slots in [&["0", "3"][..], &["0", "1", "3"]] {
        for secret in [key, &other] {
            for arguments in [
                &["luks", "slots", drive][..],
                &["luks", "test", drive, "--key-file", secret],
                &["luks", "add", drive, "--key-file", secret, "--new-key-file", &other],
                &["luks", "change", drive, "--key-file", secret, "--new-key-file", &other],
                &["luks", "kill", drive, "3", "--key-file", secret],
                &["luks", "repair", drive],
                &["luks", "accept", "A"],
                &["luks", "restore", drive, "--name", "A", "--yes-overwrite", drive],
                &["key", "test", secret],
                &["key", "status"],
                &["status"],
                &["doctor"],
            ] {
                fs::write(drive, &sound).unwrap();
                change(Path::new(drive), |metadata| greedy(metadata, slots));
                offsite_with_little_memory(&fleet, arguments);
            }
        }
    }
    // As enrolled slots they are tried first, and not even then.
    fs::write(drive, &sound).unwrap();
    change(Path::new(drive), |metadata| greedy(metadata, &["0", "3"]));
    let said = offsite_with_little_memory(&fleet, &["luks", "accept", "A"]);
    assert!(said.contains("its header is the enrolled one now"), "{said}");
    let said = offsite_with_little_memory(&fleet, &["luks", "test", drive, "--key-file", &other]);
    assert!(said.contains("slots 0, 3 ask for more than one opening may cost"), "{said}");
    Container::load(Path::new(drive)).unwrap().test_key(&fleet.key()).unwrap();
}
