//! Drives that are damaged, lie or leave, and what is said of them.

use crate::report::verify::Verify;
use crate::wipe::faults::*;
use crate::wipe::fill::BadRegions;

#[test]
fn a_good_drive_is_filled_and_proven() {
    let drive = Drive::new();
    let report = wipe(&drive, &settings()).unwrap();
    assert!(report.is_complete());
    assert_eq!(
        (report.bytes_written, report.verification.as_ref().unwrap().bytes),
        (SIZE as u64, SIZE as u64)
    );
    let page = report.to_text();
    for line in
        ["Erasure report: COMPLETE", "Serial number  FAKE1", "all as written", "SMART after    passed"]
    {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let bytes = drive.bytes.lock().unwrap();
    let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    // 25 million fair coins: six standard deviations are 15,000.
    assert!(ones.abs_diff(u32::try_from(SIZE * 4).unwrap()) < 15_100, "{ones} ones");
    // Sixteen equal bytes twice would be a repeated block.
    let mut blocks: Vec<&[u8]> = bytes.chunks(16).collect();
    blocks.sort_unstable();
    assert!(blocks.windows(2).all(|pair| pair[0] != pair[1]));
    // Byte counts, chi squared with 255 degrees of freedom: 400 is far out in the tail.
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = f64::from(u32::try_from(SIZE).unwrap()) / 256.0;
    let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    assert!(chi < 400.0 && chi > 140.0, "{chi}");
}

#[test]
fn two_wipes_differ() {
    let (first, second) = (Drive::new(), Drive::new());
    wipe(&first, &settings()).unwrap();
    wipe(&second, &settings()).unwrap();
    assert_ne!(first.bytes.lock().unwrap()[..64], second.bytes.lock().unwrap()[..64]);
}

#[test]
fn one_flipped_bit_is_found() {
    for (offset, bit) in [(0, 0), (SIZE - 1, 7), (1_234_567, 3)] {
        let drive = Drive::new();
        let never = AtomicBool::new(false);
        let flipped = AtomicBool::new(false);
        let result = wipe_watched(&drive, &settings(), Path::new("/"), &never, |progress| {
            if progress.phase == Phase::Flushing && !flipped.swap(true, Ordering::Relaxed) {
                drive.flip(offset, bit);
            }
        });
        let report = verification_of(result);
        assert_eq!(report.verification.unwrap().mismatches, [Region { offset: offset as u64, length: 1 }]);
    }
}

#[test]
fn a_lost_write_is_found() {
    let drive = Drive { loses: Some(640 << 10), ..Drive::new() };
    let found = verification_of(wipe(&drive, &settings())).verification.unwrap().mismatches;
    let (first, last) = (found[0], found[found.len() - 1]);
    assert!(first.offset - (640 << 10) < 8 && (704 << 10) - (last.offset + last.length) < 8, "{found:?}");
}

#[test]
fn a_drive_that_lies_about_its_size_is_found_by_every_verification() {
    for verify in [Verify::Full, Verify::Sample { confidence: 0.99, damage: 0.3 }] {
        let drive = Drive { wraps_at: Some(SIZE / 2), ..Drive::new() };
        verification_of(wipe(&drive, &Settings { verify, ..settings() }));
    }
}

#[test]
fn a_drive_that_ends_early_is_a_failure_at_once() {
    for bad_regions in [BadRegions::Stop, BadRegions::Skip] {
        let drive = Drive { ends_at: Some(1 << 20), ..Drive::new() };
        let error = wipe(&drive, &Settings { bad_regions, threads: 1, ..settings() }).unwrap_err();
        assert!(
            matches!(error, WipeError::Write { region: Region { offset: 0x10_0000, .. }, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("ends before the size that it states"), "{error}");
        let report = error.report().unwrap();
        assert_eq!((report.outcome, report.bytes_written), (Outcome::Failed, 1 << 20));
        assert!(report.mean_bytes_per_second > 0.0);
    }
}

#[test]
fn a_bad_sector_stops_the_wipe_or_is_reported() {
    let bad = Region { offset: 700 * 512, length: 1024 };
    let drive = Drive { unwritable: vec![bad], ..Drive::new() };
    let error = wipe(&drive, &settings()).unwrap_err();
    assert!(
        matches!(error, WipeError::Write { region: Region { offset: 358_400, length: 512 }, .. }),
        "{error}"
    );

    let drive = Drive { unwritable: vec![bad], ..Drive::new() };
    let skip = Settings { bad_regions: BadRegions::Skip, ..settings() };
    let error = wipe(&drive, &skip).unwrap_err();
    assert!(matches!(error, WipeError::Unwritable { .. }), "{error}");
    let report = error.report().unwrap();
    assert_eq!(report.unwritable, [bad]);
    assert!(!report.is_complete());
    let verification = report.verification.as_ref().unwrap();
    assert!(verification.mismatches.is_empty() && !verification.ok, "{verification:?}");
    assert!(report.to_text().contains("as written, all but what is unwritable"), "{}", report.to_text());
    let bytes = drive.bytes.lock().unwrap();
    let start = usize::try_from(bad.offset).unwrap();
    assert!(bytes[start..start + 1024].iter().all(|byte| *byte == 0));
    assert!(bytes[start + 1024..start + 1536].iter().any(|byte| *byte != 0));
    assert!(bytes[start - 512..start].iter().any(|byte| *byte != 0));
}

#[test]
fn an_unreadable_sector_is_reported() {
    let bad = Region { offset: 4096, length: 512 };
    let drive = Drive { unreadable: vec![bad], ..Drive::new() };
    let report = verification_of(wipe(&drive, &settings()));
    assert_eq!(report.verification.unwrap().unreadable, [bad]);
}

#[test]
fn who_stops_the_verification_of_a_good_drive_hears_of_no_damage() {
    let drive = Drive { slow: Some(Duration::from_millis(5)), ..Drive::new() };
    let cancel = AtomicBool::new(false);
    for (phase, headline) in
        [(Phase::Writing, "overwritten in part only"), (Phase::Verifying, "overwritten but not verified")]
    {
        cancel.store(false, Ordering::Relaxed);
        let error = wipe_watched(
            &drive,
            &Settings { threads: 1, ..settings() },
            Path::new("/"),
            &cancel,
            |progress| {
                if progress.phase == phase && progress.done_bytes > 0 {
                    cancel.store(true, Ordering::Relaxed);
                }
            },
        )
        .unwrap_err();
        let page = error.report().unwrap().to_text();
        assert!(page.contains(headline) && !page.contains("NOT as written"), "{page}");
        if phase == Phase::Verifying {
            let Some(verification) = &error.report().unwrap().verification else { panic!("{page}") };
            let words =
                format!("in part, all as written so far: {} of {SIZE} bytes read back", verification.bytes);
            assert!(verification.bytes > 0 && page.contains(&words), "{page}");
        }
    }
}

#[test]
fn a_failed_flush_is_a_failure() {
    let drive = Drive { flush_fails: AtomicBool::new(true), ..Drive::new() };
    let error = wipe(&drive, &Settings { verify: Verify::None, ..settings() }).unwrap_err();
    assert!(matches!(error, WipeError::Flush { .. }), "{error}");
}

#[test]
fn a_stalled_drive_is_shown_as_stalled() {
    let drive = Drive { slow: Some(Duration::from_millis(700)), ..Drive::new() };
    let few =
        Settings { chunk: SIZE, verify: Verify::None, stall_after: Duration::from_millis(300), ..settings() };
    let mut stalled = false;
    wipe_watched(&drive, &few, Path::new("/"), &AtomicBool::new(false), |progress| {
        stalled |= progress.stalled.is_some();
    })
    .unwrap();
    assert!(stalled);
}

#[test]
fn a_drive_that_goes_away_while_it_is_written_is_no_bad_drive() {
    for bad_regions in [BadRegions::Stop, BadRegions::Skip] {
        let drive = Drive { slow: Some(Duration::from_millis(1)), ..Drive::new() };
        let pulled = Settings { bad_regions, threads: 1, ..settings() };
        let mut leave = leave_after(&drive, Phase::Writing);
        let error = wipe_watched(&drive, &pulled, Path::new("/"), &AtomicBool::new(false), |progress| {
            leave(progress);
        })
        .unwrap_err();
        assert!(matches!(error, WipeError::Gone { .. }), "{error}");
        assert!(error.to_string().contains("went away"), "{error}");
        assert!(error.report().unwrap().unwritable.is_empty());
    }
}

#[test]
fn a_drive_with_damage_all_over_is_given_up_early() {
    let every_other: Vec<Region> =
        (0..SIZE as u64 / 1024).map(|index| Region { offset: index * 1024, length: 512 }).collect();
    let drive = Drive { unreadable: every_other, ..Drive::new() };
    let report = verification_of(wipe(&drive, &Settings { threads: 1, ..settings() }));
    let verification = report.verification.unwrap();
    assert!((1..SIZE as u64 / 2).contains(&verification.bytes), "{} bytes read", verification.bytes);
    assert!(verification.unreadable.len() > 1000);
}
