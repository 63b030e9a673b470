//! A wipe under way: writing, flushing, verifying, and the journal beside them.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::error::WipeError;
use super::fill::WriteFault;
use super::journal::{Journal, JournalError, Record};
use super::settings::{HealthProbe, Settings};
use crate::identity::examine::Identity;
use crate::io::device::{AlignedBuffer, Medium};
use crate::io::progress::ProgressSink;
use crate::io::region::Region;
use crate::report::health::Health;
use crate::report::outcome::{Outcome, Report};
use crate::stream::keystream::Key;
use crate::system::root::System;

/// What a wipe works on and with.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) medium: &'a dyn Medium,
    pub(crate) system: &'a System,
    pub(crate) identity: &'a Identity,
    pub(crate) settings: &'a Settings,
    pub(crate) cancel: &'a AtomicBool,
}

/// The journal with the record that it last saved or will save next.
pub(crate) struct Kept {
    pub(crate) journal: Journal,
    record: Mutex<Record>,
}

impl Kept {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn save(&self, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        let mut record = self.record();
        change(&mut record);
        self.journal.save(&record)
    }
}

/// A wipe under way.
pub(crate) struct Run<'a> {
    pub(crate) work: Work<'a>,
    pub(crate) sink: &'a mut dyn ProgressSink,
    probe: &'a mut HealthProbe<'a>,
    pub(crate) kept: Option<Kept>,
    pub(crate) key: Key,
    pub(crate) chunk: usize,
    pub(crate) key_start: u64,
    pub(crate) written: u64,
    pub(crate) verified: u64,
    clock: Instant,
    pub(crate) report: Report,
}

/// What ends a pass early.
pub(crate) enum Fault {
    Write(WriteFault),
    Flush(io::Error),
    Partitions(io::Error),
    Journal(JournalError),
    Threads(io::Error),
    Cancelled(u64),
    Verification(String),
    Unwritable,
    Gone,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Threads(error)
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// How many chunks in a row must be as the journal says, going back from the checkpoint, when a wipe is resumed.
const INTACT: u64 = 64;

/// How many chunks back a drive may have lost; behind that it isn't the medium that the journal tells of.
const LOST: u64 = 1024;

/// How much damage is written down before going on is pointless.
pub(crate) const MAX_REGIONS: usize = 1000;

impl<'a> Run<'a> {
    /// Starts anew, or takes up what the journal tells of.
    pub(crate) fn begin(
        work: Work<'a>,
        sink: &'a mut dyn ProgressSink,
        probe: &'a mut HealthProbe<'a>,
    ) -> Result<Self, WipeError> {
        let settings = work.settings;
        let size = work.identity.size_bytes;
        let resumed = match &settings.journal {
            Some(path) if settings.resume => Journal::resume(path, work.system, work.identity)?,
            _ => None,
        };
        let is_resumed = resumed.is_some();
        let (kept, key, generator, chunk) = match (resumed, &settings.journal) {
            (Some((journal, record, key)), _) => {
                let (generator, chunk) = (record.generator, record.chunk_bytes);
                (Some((journal, record)), key, generator, chunk)
            }
            (None, journal) => {
                let key = Key::random().map_err(WipeError::Random)?;
                let (generator, chunk) = (settings.generator, settings.chunk);
                let kept = journal
                    .as_ref()
                    .map(|path| Journal::start(path, work.system, work.identity, generator, chunk, &key))
                    .transpose()?;
                (kept, key, generator, chunk)
            }
        };
        let kept = kept.map(|(journal, record)| Kept { journal, record: Mutex::new(record) });
        let mut run = Self {
            key,
            chunk,
            key_start: 0,
            written: 0,
            verified: 0,
            clock: Instant::now(),
            report: Report {
                outcome: Outcome::Failed,
                identity: work.identity.clone(),
                size_bytes: size,
                bytes_written: 0,
                resumed_from: None,
                generator,
                direct: work.medium.is_direct(),
                started: Timestamp::now(),
                finished: Timestamp::now(),
                seconds: 0.0,
                mean_bytes_per_second: 0.0,
                profile: Vec::new(),
                unwritable: Vec::new(),
                verification: None,
                health: Health::default(),
                errors: Vec::new(),
                resumable: false,
            },
            work,
            sink,
            probe,
            kept,
        };
        if is_resumed {
            run.take_up()?;
        }
        Ok(run)
    }

    /// Starts at the journal's checkpoint, before it where the drive lost what it had confirmed, or anew where
    /// it holds nothing of what the journal tells.
    fn take_up(&mut self) -> Result<(), WipeError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let record = kept.record().clone();
        let written = self.still_there(kept, &record)?;
        // What is written again may, on a drive that lies about its size, hit what was verified before.
        let verified = if written < record.written { 0 } else { record.verified };
        // What lies ahead is tried again.
        let unwritable: Vec<Region> =
            record.unwritable.into_iter().filter(|region| region.offset < written).collect();
        kept.save(|record| {
            record.written = written;
            record.verified = verified;
            record.key_start = record.key_start.min(written);
            record.unwritable.clone_from(&unwritable);
        })?;
        self.written = written;
        self.verified = verified;
        self.key_start = record.key_start.min(written);
        self.report.unwritable = unwritable;
        self.report.resumed_from = Some(written);
        Ok(())
    }

    /// The offset up to which the drive holds what the journal says.
    fn still_there(&self, kept: &Kept, record: &Record) -> Result<u64, JournalError> {
        let chunk = self.chunk as u64;
        let checkpoint = record.written.div_ceil(chunk);
        let mut buffer = AlignedBuffer::new(self.chunk);
        let mut intact = |index: u64| -> Result<bool, JournalError> {
            let offset = index * chunk;
            let length = usize::try_from(record.written.min(offset + chunk) - offset).unwrap_or(self.chunk);
            let bytes = buffer.first(length);
            let bad = record.unwritable.iter().any(|region| overlaps(*region, offset, length));
            Ok(bad
                || self.work.medium.read_at(bytes, offset).is_ok()
                    && crc32fast::hash(bytes) == kept.journal.sum(index)?)
        };
        // Whoever used the drive since, for a table, a container or a filesystem, began at its beginning.
        if checkpoint > 0 && !intact(0)? {
            return Ok(0);
        }
        let (mut end, mut in_a_row) = (checkpoint, 0);
        for index in (0..checkpoint).rev() {
            if checkpoint - index > LOST + INTACT {
                return Ok(0);
            }
            if intact(index)? {
                in_a_row += 1;
            } else {
                (end, in_a_row) = (index, 0);
            }
            if in_a_row == INTACT {
                break;
            }
        }
        Ok(record.written.min(end * chunk))
    }

    /// Does all that is left to do.
    pub(crate) fn finish(mut self) -> Result<Report, WipeError> {
        let ended = self.work_through().map_err(|fault| match fault {
            Fault::Write(_) | Fault::Flush(_) | Fault::Partitions(_) if self.work.medium.went_away() => {
                Fault::Gone
            }
            other => other,
        });
        // Whether good or bad, there is nothing left to go on with.
        let is_over = matches!(ended, Ok(()) | Err(Fault::Verification(_) | Fault::Unwritable));
        self.close(&ended);
        self.report.resumable = self.kept.is_some() && !is_over;
        // The last of all: a kill until now costs nothing.
        let ended = match self.kept.take() {
            Some(kept) if is_over && !self.work.settings.keep_journal => {
                let removed = kept.journal.remove();
                if let Err(error) = &removed {
                    self.report.outcome = Outcome::Failed;
                    self.report.errors.push(error.to_string());
                }
                ended.and(removed.map_err(Fault::Journal))
            }
            _ => ended,
        };
        match ended {
            Ok(()) => Ok(self.report),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn work_through(&mut self) -> Result<(), Fault> {
        self.report.health.before = (self.probe)(&self.work.identity.device);
        if self.written < self.report.size_bytes {
            self.write()?;
        }
        // Under an old partition's node somebody would write into the middle of the fill, and find it never again.
        self.work.medium.forget_partitions().map_err(Fault::Partitions)?;
        self.verify()?;
        if self.report.unwritable.is_empty() { Ok(()) } else { Err(Fault::Unwritable) }
    }

    fn close(&mut self, ended: &Result<(), Fault>) {
        self.report.health.after = (self.probe)(&self.work.identity.device);
        self.report.outcome = match ended {
            Ok(()) => Outcome::Complete,
            Err(Fault::Cancelled(_)) => Outcome::Cancelled,
            Err(_) => Outcome::Failed,
        };
        let error = ended.as_ref().err().and_then(|fault| self.describe(fault));
        self.report.errors.extend(error);
        self.report.finished = Timestamp::now();
        self.report.seconds = self.clock.elapsed().as_secs_f64();
    }

    fn fail(self, fault: Fault) -> WipeError {
        let report = Box::new(self.report);
        match fault {
            Fault::Cancelled(done) => WipeError::Cancelled { done, report },
            Fault::Write(WriteFault { region, source }) => WipeError::Write { region, source, report },
            Fault::Flush(source) => WipeError::Flush { source, report },
            Fault::Partitions(source) => WipeError::Partitions { source, report },
            Fault::Journal(source) => WipeError::Journal { source, report: Some(report) },
            Fault::Threads(source) => WipeError::Threads { source, report },
            Fault::Verification(what) => WipeError::Verification { what, report },
            Fault::Unwritable => WipeError::Unwritable { report },
            Fault::Gone => WipeError::Gone { report },
        }
    }

    /// The line in the report.
    fn describe(&self, fault: &Fault) -> Option<String> {
        Some(match fault {
            Fault::Cancelled(_) => return None,
            Fault::Write(WriteFault { region, source }) => {
                format!("writing {} bytes at offset {}: {source}", region.length, region.offset)
            }
            Fault::Flush(source) => format!("flushing: {source}"),
            Fault::Partitions(source) => format!("having the kernel forget the old partitions: {source}"),
            Fault::Journal(error) => error.to_string(),
            Fault::Threads(source) => format!("starting a thread: {source}"),
            Fault::Verification(what) => what.clone(),
            Fault::Unwritable => format!("{} regions can't be written", self.report.unwritable.len()),
            Fault::Gone => "the drive went away".into(),
        })
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
pub(crate) fn mean(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 }
}

fn overlaps(region: Region, offset: u64, length: usize) -> bool {
    region.offset < offset + length as u64 && offset < region.offset + region.length
}
