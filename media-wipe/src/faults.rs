//! A medium in memory that fails in every way a drive can, and the wipes that must notice.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use crate::device_io::Medium;
use crate::fill::BadRegions;
use crate::identity::{Identity, Node};
use crate::progress::{Phase, Progress};
use crate::report::{Outcome, Region, Report};
use crate::run::{Run, Work};
use crate::system::System;
use crate::verify::Verify;
use crate::wipe::{Settings, WipeError};

const BLOCK: usize = 512;
const SIZE: usize = 3 << 20;

/// What a drive does wrong.
#[derive(Default)]
struct Drive {
    bytes: Mutex<Vec<u8>>,
    /// Addresses are taken modulo this.
    wraps_at: Option<usize>,
    unwritable: Vec<Region>,
    unreadable: Vec<Region>,
    /// Writes that begin here are confirmed and forgotten.
    loses: Option<u64>,
    /// The drive ends here, whatever it says.
    ends_at: Option<u64>,
    flush_fails: AtomicBool,
    slow: Option<Duration>,
    written: AtomicU64,
    /// Once this much is written, somebody asks to stop.
    stop_at: Option<u64>,
    stop: AtomicBool,
    /// Once this much is written, the power fails: nothing works any more.
    cut_at: Option<u64>,
    /// What unflushed writes replaced, in their order; a power cut brings it back.
    cache: Mutex<Vec<(usize, Vec<u8>)>>,
}

impl Drive {
    fn new() -> Self {
        Self { bytes: Mutex::new(vec![0; SIZE]), ..Self::default() }
    }

    fn flip(&self, offset: usize, bit: u8) {
        self.bytes.lock().unwrap()[offset] ^= 1 << bit;
    }

    fn power_is_out(&self) -> io::Result<()> {
        match self.cut_at {
            Some(at) if self.written.load(Ordering::Relaxed) >= at => {
                Err(io::Error::from_raw_os_error(libc::ENODEV))
            }
            _ => Ok(()),
        }
    }

    /// The power comes back, and all that wasn't flushed is gone.
    fn power_up(&mut self) {
        self.cut_at = None;
        let mut bytes = self.bytes.lock().unwrap();
        for (at, old) in self.cache.lock().unwrap().drain(..).rev() {
            bytes[at..at + old.len()].copy_from_slice(&old);
        }
    }

    fn place(&self, offset: u64) -> usize {
        let offset = usize::try_from(offset).unwrap();
        self.wraps_at.map_or(offset, |end| offset % end)
    }
}

fn hits(regions: &[Region], offset: u64, length: usize) -> bool {
    regions
        .iter()
        .any(|region| region.offset < offset + length as u64 && offset < region.offset + region.length)
}

impl Medium for Drive {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if hits(&self.unreadable, offset, buffer.len()) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let at = self.place(offset);
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.power_is_out()?;
        if let Some(pause) = self.slow {
            std::thread::sleep(pause);
        }
        if self.ends_at.is_some_and(|end| offset + buffer.len() as u64 > end) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if hits(&self.unwritable, offset, buffer.len()) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let before = self.written.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if self.stop_at.is_some_and(|at| before + buffer.len() as u64 >= at) {
            self.stop.store(true, Ordering::Relaxed);
        }
        if self.loses != Some(offset) {
            let at = self.place(offset);
            let mut bytes = self.bytes.lock().unwrap();
            let place = &mut bytes[at..at + buffer.len()];
            self.cache.lock().unwrap().push((at, place.to_vec()));
            place.copy_from_slice(buffer);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.power_is_out()?;
        let _bytes = self.bytes.lock().unwrap();
        self.cache.lock().unwrap().clear();
        if self.flush_fails.load(Ordering::Relaxed) {
            Err(io::Error::from_raw_os_error(libc::EIO))
        } else {
            Ok(())
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn is_direct(&self) -> bool {
        true
    }
}

fn settings() -> Settings {
    Settings { chunk: 64 << 10, checkpoint: Duration::from_millis(1), ..Settings::default() }
}

fn identity() -> Identity {
    Identity {
        device: "/dev/fake".into(),
        id: "FAKE1".into(),
        by_id: None,
        model: None,
        size_bytes: SIZE as u64,
        contents: "blank".into(),
        logical_sector: 512,
        optimal_io: None,
        removable: None,
        refusals: Vec::new(),
        node: Node::File { filesystem: 0, inode: 0 },
    }
}

fn wipe_watched(
    drive: &Drive,
    settings: &Settings,
    root: &Path,
    cancel: &AtomicBool,
    mut watch: impl FnMut(&Progress) + Send,
) -> Result<Report, WipeError> {
    let (system, identity) = (System::new(root), identity());
    let work = Work { medium: drive, system: &system, identity: &identity, settings, cancel };
    let mut healthy = |_: &Path| Some(serde_json::json!({"smart_status": {"passed": true}}));
    Run::begin(work, &mut watch, &mut healthy)?.finish()
}

fn wipe(drive: &Drive, settings: &Settings) -> Result<Report, WipeError> {
    wipe_watched(drive, settings, Path::new("/"), &AtomicBool::new(false), |_| ())
}

fn verification_of(result: Result<Report, WipeError>) -> Report {
    let error = result.unwrap_err();
    assert!(matches!(error, WipeError::Verification { .. }), "{error}");
    let report = error.report().unwrap().clone();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(!report.verification.as_ref().unwrap().ok);
    report
}

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
        assert_eq!(error.report().unwrap().outcome, Outcome::Failed);
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

/// A drive that is told to stop halfway.
fn interrupted_drive() -> Drive {
    Drive { stop_at: Some(SIZE as u64 / 2), ..Drive::new() }
}

/// Wipes with a journal in `base` until the drive stops it; returns how far it came, and what resumes it.
fn interrupt(drive: &Drive, base: &Path, root: &Path) -> (u64, Settings) {
    let settings = Settings { journal: Some(base.join("journal")), ..settings() };
    match wipe_watched(drive, &settings, root, &drive.stop, |_| ()) {
        Err(WipeError::Cancelled { done, resumable: true, .. }) => {
            assert!(done > 0 && done < SIZE as u64, "{done}");
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
