//! A medium in memory that fails in every way a drive can, and the wipes that must notice.

mod damage;
mod resuming;

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::error::WipeError;
use super::run::{Run, Work};
use super::settings::Settings;
use crate::identity::examine::Identity;
use crate::io::device::Medium;
use crate::io::progress::{Phase, Progress};
use crate::io::region::Region;
use crate::report::outcome::{Outcome, Report};
use crate::system::node::Node;
use crate::system::root::System;

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
    /// Somebody has a partition open that the drive had.
    partition_open: AtomicBool,
    slow: Option<Duration>,
    written: AtomicU64,
    /// Once this much is written, somebody asks to stop.
    stop_at: Option<u64>,
    stop: AtomicBool,
    /// Once this much is written, the power fails: nothing works any more.
    cut_at: Option<u64>,
    /// The drive was pulled: nothing works, and the kernel forgets it.
    gone: AtomicBool,
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

    fn take_time(&self) {
        if let Some(pause) = self.slow {
            std::thread::sleep(pause);
        }
    }

    fn power_is_out(&self) -> io::Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
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
        self.take_time();
        if !self.is_there() || hits(&self.unreadable, offset, buffer.len()) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let at = self.place(offset);
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.power_is_out()?;
        self.take_time();
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

    fn forget_partitions(&self) -> io::Result<()> {
        if self.partition_open.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
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
        contents_uuid: None,
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

/// Pulls a drive when it has done some of a phase.
fn leave_after(drive: &Drive, phase: Phase) -> impl FnMut(&Progress) {
    move |progress| {
        if progress.phase == phase && progress.done_bytes > 0 {
            drive.gone.store(true, Ordering::Relaxed);
        }
    }
}
