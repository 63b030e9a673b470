//! Wipes that were stopped, cut off or pulled, and how they go on.

use proptest::prelude::*;

use crate::wipe::faults::*;
use crate::wipe::fill::BadRegions;

/// A drive that is told to stop halfway.
fn interrupted_drive() -> Drive {
    Drive { stop_at: Some(SIZE as u64 / 2), ..Drive::new() }
}

/// Wipes with a journal in `base` until the drive stops it; returns how far it came, and what resumes it.
fn interrupt(drive: &Drive, base: &Path, root: &Path) -> (u64, Settings) {
    let settings = Settings { journal: Some(base.join("journal")), ..settings() };
    match wipe_watched(drive, &settings, root, &drive.stop, |_| ()) {
        Err(WipeError::Cancelled { done, report }) => {
            assert!(report.resumable && done > 0 && done < SIZE as u64, "{done}");
            (done, Settings { resume: true, ..settings })
        }
        other => panic!("{other:?}"),
    }
}

fn swaps_to(root: &Path, devices: &str) {
    std::fs::create_dir_all(root.join("proc")).unwrap();
    std::fs::write(root.join("proc/swaps"), format!("Filename Type Size\n{devices}")).unwrap();
}

#[test]
fn a_stopped_wipe_goes_on() {
    // A memory filesystem keeps the key; elsewhere, and where memory is swapped out, it is lost as in a power cut.
    let disk = env!("CARGO_MANIFEST_DIR");
    for (place, swap, kept) in
        [("/dev/shm", "", true), ("/dev/shm", "/dev/sdz2 partition 1", false), (disk, "", false)]
    {
        let run = tempfile::tempdir_in(place).unwrap();
        swaps_to(run.path(), swap);
        let base = tempfile::tempdir().unwrap();
        let drive = interrupted_drive();
        let (done, again) = interrupt(&drive, base.path(), run.path());
        let report = wipe_watched(&drive, &again, run.path(), &AtomicBool::new(false), |_| ()).unwrap();
        assert_eq!(report.resumed_from, Some(done));
        assert_eq!(report.bytes_written, SIZE as u64 - done);
        let verification = report.verification.unwrap();
        assert_eq!(verification.bytes, SIZE as u64);
        assert_eq!(verification.by_checksum_bytes, if kept { 0 } else { done });
        let left = std::fs::read_dir(base.path()).unwrap().count();
        assert_eq!(left, 0, "the journal is gone");
        if kept {
            assert_eq!(std::fs::read_dir(run.path().join("run/media-wipe")).unwrap().count(), 0);
        }
    }
}

#[test]
fn damage_to_an_earlier_run_is_found_without_its_key() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let drive = interrupted_drive();
    let (_, again) = interrupt(&drive, base.path(), root.path());
    let flipped = AtomicBool::new(false);
    let result = wipe_watched(&drive, &again, root.path(), &AtomicBool::new(false), |progress| {
        if progress.phase == Phase::Flushing && !flipped.swap(true, Ordering::Relaxed) {
            drive.flip(70_000, 1);
        }
    });
    let report = verification_of(result);
    assert_eq!(report.verification.unwrap().mismatches, [Region { offset: 64 << 10, length: 64 << 10 }]);
}

#[test]
fn what_the_drive_lost_before_a_checkpoint_is_written_again() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let drive = interrupted_drive();
    let (done, again) = interrupt(&drive, base.path(), root.path());
    let lost = usize::try_from(done).unwrap() - (128 << 10);
    drive.bytes.lock().unwrap()[lost..lost + 512].fill(0);
    let report = wipe_watched(&drive, &again, root.path(), &AtomicBool::new(false), |_| ()).unwrap();
    assert_eq!(report.resumed_from, Some(lost as u64));
    assert!(report.is_complete());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the moment, what a checkpoint vouches for is there, and the rest is written again.
    #[test]
    fn a_power_cut_at_any_moment_is_survived(cut in 1..SIZE as u64, threads in 1..5_usize, lose_key: bool) {
        let base = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        swaps_to(root.path(), if lose_key { "/dev/sdz2 partition 1" } else { "" });
        let mut drive = Drive { cut_at: Some(cut), slow: Some(Duration::from_micros(300)), ..Drive::new() };
        let settings = Settings { journal: Some(base.path().join("journal")), threads, ..settings() };
        let never = AtomicBool::new(false);
        let cut_off = wipe_watched(&drive, &settings, root.path(), &never, |_| ());
        prop_assert!(matches!(cut_off, Err(WipeError::Write { .. } | WipeError::Flush { .. })), "{cut_off:?}");
        drive.power_up();
        let journal = std::fs::read(base.path().join("journal")).unwrap();
        let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap();
        let again = Settings { resume: true, ..settings };
        let report = wipe_watched(&drive, &again, root.path(), &never, |_| ()).unwrap();
        let resumed = report.resumed_from.unwrap();
        prop_assert_eq!(journal["written"].as_u64(), Some(resumed), "an honest drive keeps what it flushed");
        prop_assert!(report.is_complete() && resumed <= cut + (5 << 16));
        prop_assert_eq!(report.bytes_written, SIZE as u64 - resumed);
        let by_checksum = report.verification.unwrap().by_checksum_bytes;
        prop_assert_eq!(by_checksum, if lose_key { resumed } else { 0 });
        let bytes = drive.bytes.lock().unwrap();
        prop_assert!(bytes.chunks(16).all(|block| block.iter().any(|byte| *byte != 0)));
    }
}

#[test]
fn another_drives_journal_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal");
    let drive = Drive::new();
    let cancel = AtomicBool::new(true);
    let with_journal = Settings { journal: Some(path.clone()), ..settings() };
    wipe_watched(&drive, &with_journal, Path::new("/nowhere"), &cancel, |_| ()).unwrap_err();
    let text = std::fs::read_to_string(&path).unwrap().replace("FAKE1", "FAKE2");
    std::fs::write(&path, text).unwrap();
    let again = Settings { resume: true, ..with_journal };
    let error = wipe(&drive, &again).unwrap_err();
    assert!(error.to_string().contains("FAKE2"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    let error = wipe(&drive, &again).unwrap_err();
    assert!(error.to_string().contains("is not a journal"), "{error}");
}

#[test]
fn a_drive_that_was_pulled_goes_on_when_it_is_back() {
    for phase in [Phase::Writing, Phase::Verifying] {
        let base = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        swaps_to(root.path(), "");
        let drive = Drive { slow: Some(Duration::from_millis(5)), ..Drive::new() };
        let settings = Settings { journal: Some(base.path().join("journal")), threads: 1, ..settings() };
        let mut leave = leave_after(&drive, phase);
        let never = AtomicBool::new(false);
        let error =
            wipe_watched(&drive, &settings, root.path(), &never, |progress| leave(progress)).unwrap_err();
        let report = error.report().unwrap();
        assert!(matches!(error, WipeError::Gone { .. }) && report.resumable, "{phase:?}: {error}");
        assert!(report.verification.as_ref().is_none_or(|verification| !verification.ok));
        drive.gone.store(false, Ordering::Relaxed);
        let again = Settings { resume: true, ..settings };
        let report = wipe_watched(&drive, &again, root.path(), &never, |_| ()).unwrap();
        assert!(report.is_complete() && report.resumed_from > Some(0), "{phase:?}");
    }
}

#[test]
fn a_partition_that_somebody_has_open_costs_no_second_fill() {
    let base = tempfile::tempdir().unwrap();
    let drive = Drive { partition_open: AtomicBool::new(true), ..Drive::new() };
    let settings = Settings { journal: Some(base.path().join("journal")), ..settings() };
    let never = AtomicBool::new(false);
    let error = wipe_watched(&drive, &settings, Path::new("/nowhere"), &never, |_| ()).unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(error, WipeError::Partitions { .. }) && report.resumable, "{error}");
    assert_eq!(report.outcome, Outcome::Failed);
    drive.partition_open.store(false, Ordering::Relaxed);
    let again = Settings { resume: true, ..settings };
    let report = wipe_watched(&drive, &again, Path::new("/nowhere"), &never, |_| ()).unwrap();
    assert_eq!((report.is_complete(), report.bytes_written), (true, 0));
}

#[test]
fn the_journal_outlives_all_that_may_be_killed() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    swaps_to(root.path(), "");
    let keys = root.path().join("keys");
    let journal = base.path().join("journal");
    let (system, identity) = (System::new(root.path()).keep_keys_in(&keys), identity());
    let never = AtomicBool::new(false);
    let drive = Drive::new();
    let run = |settings: &Settings| {
        let work = Work { medium: &drive, system: &system, identity: &identity, settings, cancel: &never };
        let mut kept = Vec::new();
        // A killed probe leaves a journal by which nothing is lost.
        let mut probe = |_: &Path| {
            kept.push(journal.exists());
            None
        };
        let report = Run::begin(work, &mut |_: &Progress| (), &mut probe).unwrap().finish().unwrap();
        assert!(report.is_complete() && !report.resumable);
        assert_eq!(kept, [true, true]);
        report
    };
    let keeping = Settings { journal: Some(journal.clone()), keep_journal: true, ..settings() };
    assert_eq!(run(&keeping).bytes_written, SIZE as u64);
    // Somebody died before the report was filed.
    let before = drive.bytes.lock().unwrap().clone();
    let again = run(&Settings { resume: true, ..keeping.clone() });
    assert_eq!((again.bytes_written, again.resumed_from), (0, Some(SIZE as u64)));
    let verification = again.verification.unwrap();
    assert_eq!((verification.ok, verification.bytes), (true, SIZE as u64));
    assert!(*drive.bytes.lock().unwrap() == before, "nothing was written again");

    // And somebody else used the drive meanwhile.
    drive.bytes.lock().unwrap()[1024..2048].fill(0xef);
    let anew = run(&Settings { resume: true, ..keeping.clone() });
    assert_eq!((anew.bytes_written, anew.resumed_from), (SIZE as u64, Some(0)));

    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 1);
    crate::forget_journal(&system, &journal).unwrap();
    crate::forget_journal(&system, &journal).unwrap();
    let left = std::fs::read_dir(base.path()).unwrap().count() + std::fs::read_dir(&keys).unwrap().count();
    assert_eq!(left, 0, "journal, checksums and key are gone");
    assert_eq!(run(&Settings { resume: true, ..keeping }).resumed_from, None);
    crate::forget_journal(&system, &journal).unwrap();
    run(&Settings { journal: Some(journal.clone()), ..settings() });
    assert!(!journal.exists(), "unless it is to be kept");
}

#[test]
fn a_journal_that_fails_takes_no_report_away() {
    for (phase, damaged) in [(Phase::Writing, false), (Phase::Flushing, false), (Phase::Flushing, true)] {
        let base = tempfile::tempdir().unwrap();
        let drive = Drive { slow: Some(Duration::from_millis(2)), ..Drive::new() };
        let checkpoint =
            if phase == Phase::Writing { Duration::from_millis(5) } else { Duration::from_mins(1) };
        let settings = Settings {
            journal: Some(base.path().join("state/journal")),
            checkpoint,
            threads: 1,
            ..settings()
        };
        std::fs::create_dir(base.path().join("state")).unwrap();
        let mut there = true;
        let error =
            wipe_watched(&drive, &settings, Path::new("/nowhere"), &AtomicBool::new(false), |progress| {
                let now = progress.phase == Phase::Verifying || phase == Phase::Writing;
                if now && progress.done_bytes > 0 && std::mem::take(&mut there) {
                    std::fs::rename(base.path().join("state"), base.path().join("away")).unwrap();
                }
                if damaged && progress.phase == Phase::Flushing {
                    drive.bytes.lock().unwrap()[70_000..70_016].fill(0);
                }
            })
            .unwrap_err();
        let report = error.report().unwrap();
        assert_eq!(report.outcome, Outcome::Failed);
        assert!(report.bytes_written > 0);
        if damaged {
            assert!(matches!(error, WipeError::Verification { .. }), "{error}");
        } else {
            assert!(matches!(error, WipeError::Journal { .. }), "{error}");
            assert!(report.errors[0].contains("can't write the journal"), "{:?}", report.errors);
        }
    }
}

#[test]
fn room_for_the_journal_is_taken_at_the_beginning() {
    use std::os::unix::fs::MetadataExt as _;
    let base = tempfile::tempdir().unwrap();
    let settings = Settings { journal: Some(base.path().join("journal")), ..settings() };
    wipe_watched(&Drive::new(), &settings, Path::new("/nowhere"), &AtomicBool::new(true), |_| ())
        .unwrap_err();
    let sums = std::fs::metadata(base.path().join("journal.sums")).unwrap();
    assert_eq!(sums.len(), SIZE as u64 / settings.chunk as u64 * 4);
    assert!(sums.blocks() * 512 >= sums.len(), "{} blocks", sums.blocks());
}

#[test]
fn where_no_key_can_be_kept_a_wipe_still_succeeds() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    swaps_to(root.path(), "");
    // As for somebody who may not look into /run/media-wipe: even to ask for the key is an error.
    std::fs::write(root.path().join("run"), "").unwrap();
    let settings = Settings { journal: Some(base.path().join("journal")), ..settings() };
    let report =
        wipe_watched(&Drive::new(), &settings, root.path(), &AtomicBool::new(false), |_| ()).unwrap();
    assert!(report.is_complete());
}

#[test]
fn another_medium_under_the_same_id_is_begun_anew() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    swaps_to(root.path(), "");
    let small = |settings| Settings { threads: 1, ..settings };
    let (_, again) = interrupt(&interrupted_drive(), base.path(), root.path());
    let other = Drive::new();
    let report = wipe_watched(&other, &small(again), root.path(), &AtomicBool::new(false), |_| ()).unwrap();
    assert_eq!((report.resumed_from, report.bytes_written), (Some(0), SIZE as u64));
    assert!(report.is_complete());
}

#[test]
fn what_could_not_be_written_ahead_of_the_checkpoint_is_tried_again() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    swaps_to(root.path(), "");
    let drive = interrupted_drive();
    let (done, again) = interrupt(&drive, base.path(), root.path());
    let path = base.path().join("journal");
    let mut journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    journal["unwritable"] = serde_json::json!([{"offset": done + 4096, "length": 512}]);
    std::fs::write(&path, journal.to_string()).unwrap();
    let skip = Settings { bad_regions: BadRegions::Skip, ..again };
    assert!(wipe_watched(&drive, &skip, root.path(), &AtomicBool::new(false), |_| ()).unwrap().is_complete());
}

#[test]
fn what_could_not_be_written_is_no_damage_when_the_key_is_lost() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let bad = Region { offset: 200 * 512, length: 1024 };
    // One that keeps its old bytes, and one that can't be read either.
    for unreadable in [Vec::new(), vec![bad]] {
        let drive = Drive { unwritable: vec![bad], unreadable, ..interrupted_drive() };
        let skip = Settings {
            journal: Some(base.path().join("journal")),
            bad_regions: BadRegions::Skip,
            ..settings()
        };
        wipe_watched(&drive, &skip, root.path(), &drive.stop, |_| ()).unwrap_err();
        let again = Settings { resume: true, ..skip };
        let never = AtomicBool::new(false);
        let spoilt = |spoil: bool| {
            let mut spoil = spoil;
            wipe_watched(&drive, &again, root.path(), &never, |progress| {
                if progress.phase == Phase::Flushing && std::mem::take(&mut spoil) {
                    drive.flip(198 * 512, 0);
                }
            })
            .unwrap_err()
        };
        let error = spoilt(false);
        assert!(matches!(error, WipeError::Unwritable { .. }), "{error}");
        let verification = error.report().unwrap().verification.as_ref().unwrap();
        assert!(verification.mismatches.is_empty() && verification.unreadable.is_empty(), "{verification:?}");
        assert!(verification.by_checksum_bytes > 0);
        assert_eq!(error.report().unwrap().unwritable, [bad]);

        // What lies beside it in the same request stays verifiable.
        drive.stop.store(false, Ordering::Relaxed);
        drive.written.store(0, Ordering::Relaxed);
        wipe_watched(&drive, &Settings { resume: false, ..again.clone() }, root.path(), &drive.stop, |_| ())
            .unwrap_err();
        let error = spoilt(true);
        assert!(matches!(error, WipeError::Verification { .. }), "{error}");
    }
}

#[test]
fn a_journal_with_impossible_numbers_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal");
    let cancel = AtomicBool::new(true);
    let with_journal = Settings { journal: Some(path.clone()), ..settings() };
    wipe_watched(&Drive::new(), &with_journal, Path::new("/nowhere"), &cancel, |_| ()).unwrap_err();
    let sound: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let size = SIZE as u64;
    for (member, value) in [
        ("version", serde_json::json!(2)),
        ("chunk_bytes", serde_json::json!(0)),
        ("chunk_bytes", serde_json::json!(1_u64 << 60)),
        ("chunk_bytes", serde_json::json!(65_537)),
        ("written", serde_json::json!(size + 4096)),
        ("written", serde_json::json!(4096)),
        ("verified", serde_json::json!(65_536)),
        ("key_start", serde_json::json!(65_536)),
        ("unwritable", serde_json::json!([{"offset": u64::MAX, "length": 512}])),
        ("token", serde_json::json!("../../../etc/pass")),
    ] {
        let mut journal = sound.clone();
        journal[member] = value.clone();
        std::fs::write(&path, journal.to_string()).unwrap();
        let error = wipe(&Drive::new(), &Settings { resume: true, ..with_journal.clone() }).unwrap_err();
        assert!(error.to_string().contains("numbers that no wipe can have"), "{member} {value}: {error}");
    }
}

#[test]
fn a_journal_that_claims_too_much_is_not_believed() {
    let base = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    swaps_to(root.path(), "");
    let drive = interrupted_drive();
    let (done, again) = interrupt(&drive, base.path(), root.path());
    let path = base.path().join("journal");
    let mut journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    journal["written"] = serde_json::json!(SIZE);
    std::fs::write(&path, journal.to_string()).unwrap();
    // The checksums of what wasn't written are missing, or aren't those of what is there.
    match wipe_watched(&drive, &again, root.path(), &AtomicBool::new(false), |_| ()) {
        Err(WipeError::Journal { .. }) => {}
        Ok(report) => assert!(report.resumed_from <= Some(done), "{report:?}"),
        Err(error) => panic!("{error}"),
    }
}
