//! Headers that are wrong in every way a generator could think of: no crash, no hang, no write.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod images;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use images::{Case, luks1_cases, luks2_cases, random_json_change};
use luks_core::{Container, KeySlot, Secret, SecretKind, is_luks};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// The issue asks for 85 at least.
const FEWEST: usize = 85;
/// Most of the time goes into waiting: for the disk, and for a second look at damaged headers.
const SHARES: usize = 6;
const DEADLINE: Duration = Duration::from_secs(30);

/// Every operation that reads, and every one that must refuse before it writes.
fn exercise(device: &Path) -> String {
    let _either = is_luks(device);
    let container = match Container::load(device) {
        Ok(container) => container,
        Err(error) => return error.to_string(),
    };
    let (right, wrong) = (Secret::from_bytes(images::KEY.to_vec()), Secret::from_bytes(vec![9; 64]));
    let _any = container.slots();
    let opened = container.test_key(&right);
    for slot in [KeySlot::ZERO, KeySlot::ONE, KeySlot::new(31).unwrap()] {
        let _any = container.test_key_in(&right, slot);
    }
    assert!(container.test_key(&wrong).is_err(), "a wrong key opened it");
    assert!(container.kill_slot(KeySlot::ONE, &wrong).is_err(), "a wrong key removed a slot");
    assert!(container.add_key(&wrong, &wrong, SecretKind::KeyFile, None).is_err(), "a wrong key added one");
    let backup = device.with_extension("backup");
    let _any = container.backup_header(&backup);
    let _maybe_absent = fs::remove_file(backup);
    format!("loaded; the right key: {opened:?}")
}

/// What became of one case; the error says which harm was done.
fn check(directory: &Path, bytes: &[u8]) -> Result<String, String> {
    let device = directory.join("drive");
    fs::write(&device, bytes).unwrap();
    let (sender, receiver) = mpsc::channel();
    let path = device.clone();
    std::thread::spawn(move || sender.send(exercise(&path)));
    // The channel closes when the thread panics, so both a hang and a panic end here.
    let outcome = receiver.recv_timeout(DEADLINE).map_err(|error| error.to_string())?;
    if fs::read(&device).unwrap() != *bytes {
        return Err(format!("the device was written to ({outcome})"));
    }
    Ok(outcome)
}

/// Checks one share of the cases; returns how many were refused, and what harm was done.
fn check_share(cases: &[Case]) -> (usize, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (mut refused, mut harmful) = (0, Vec::new());
    for Case { name, bytes } in cases {
        match check(directory.path(), bytes) {
            Ok(outcome) => {
                println!("{name}: {outcome}");
                refused += usize::from(!outcome.starts_with("loaded"));
            }
            Err(harm) => harmful.push(format!("{name}: {harm}")),
        }
    }
    (refused, harmful)
}

fn check_all(cases: &[Case]) {
    let shares: Vec<_> = std::thread::scope(|scope| {
        let shares = cases.chunks(cases.len().div_ceil(SHARES));
        let threads: Vec<_> = shares.map(|share| scope.spawn(|| check_share(share))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: usize = shares.iter().map(|(refused, _)| refused).sum();
    let harmful: Vec<_> = shares.into_iter().flat_map(|(_, harmful)| harmful).collect();
    assert!(harmful.is_empty(), "{harmful:#?}");
    // Some mutations leave a valid header (a flipped bit in a salt); most must not.
    assert!(refused * 2 > cases.len(), "only {refused} of {} were refused", cases.len());
}

#[test]
fn enough_cases_are_generated_and_each_differs() {
    let cases: Vec<_> = luks1_cases().into_iter().chain(luks2_cases()).collect();
    assert!(cases.len() >= FEWEST, "{} cases", cases.len());
    let mut contents: Vec<_> = cases.iter().map(|case| &case.bytes).collect();
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), cases.len(), "two cases are the same");
}

#[test]
fn malformed_luks1_headers_do_no_harm() {
    check_all(&luks1_cases());
}

#[test]
fn malformed_luks2_headers_do_no_harm() {
    check_all(&luks2_cases());
}

#[test]
fn random_changes_of_the_json_do_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    // This file has no place for regressions; what was found is among the cases above.
    // PROPTEST_CASES asks for four times as many as are run.
    let config =
        Config { cases: Config::default().cases / 4, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&random_json_change(), |case| {
        check(directory.path(), &case.bytes)
            .map(|_outcome| ())
            .map_err(|harm| TestCaseError::fail(format!("{}: {harm}", case.name)))
    });
    result.unwrap();
}

#[test]
fn the_unchanged_images_are_sound() {
    let directory = tempfile::tempdir().unwrap();
    for bytes in [images::luks1(), images::luks2()] {
        let outcome = check(directory.path(), &bytes).unwrap();
        assert!(outcome.starts_with("loaded; the right key: Ok("), "{outcome}");
    }
}
