//! A wipe under way: writing, flushing, verifying, and the journal beside them.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use crate::device_io::{AlignedBuffer, Medium};
use crate::fill::{Filler, WriteFault};
use crate::identity::Identity;
use crate::journal::{Journal, JournalError, Record};
use crate::pass::{Checkpoints, Extent, PassEnd, Plan, Reached, run_beside, run_pass};
use crate::progress::{Meter, Phase, ProgressSink};
use crate::readback::{Compared, LostPart, Reader};
use crate::report::{Health, Outcome, Profile, Region, Report, Verification};
use crate::stream::{Key, Keystream};
use crate::system::System;
use crate::verify::{Verify, sample_plan};
use crate::wipe::{HealthProbe, Settings, WipeError};

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
struct Kept {
    journal: Journal,
    record: Mutex<Record>,
}

impl Kept {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        let mut record = self.record();
        change(&mut record);
        self.journal.save(&record)
    }
}

/// A wipe under way.
pub(crate) struct Run<'a> {
    work: Work<'a>,
    sink: &'a mut dyn ProgressSink,
    probe: &'a mut HealthProbe<'a>,
    kept: Option<Kept>,
    key: Key,
    chunk: usize,
    key_start: u64,
    written: u64,
    verified: u64,
    clock: Instant,
    report: Report,
}

/// What ends a pass early.
enum Fault {
    Write(WriteFault),
    Flush(io::Error),
    Journal(JournalError),
    Threads(io::Error),
    Cancelled(u64),
    Verification(String),
    Unwritable,
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

/// How many chunks before the checkpoint are checked when a wipe is resumed.
const RECHECKED: u64 = 64;

/// How much damage is written down before reading on is pointless.
const MAX_REGIONS: usize = 1000;

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

    /// Starts at the journal's checkpoint, or before it where the drive lost what it had confirmed.
    fn take_up(&mut self) -> Result<(), WipeError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let record = kept.record().clone();
        let chunk = record.chunk_bytes as u64;
        let checkpoint = record.written.div_ceil(chunk);
        let mut buffer = AlignedBuffer::new(self.chunk);
        let mut written = record.written;
        for index in (checkpoint.saturating_sub(RECHECKED)..checkpoint).rev() {
            let offset = index * chunk;
            let length = usize::try_from(record.written.min(offset + chunk) - offset).unwrap_or(self.chunk);
            let bad = record.unwritable.iter().any(|region| overlaps(*region, offset, length));
            let bytes = buffer.first(length);
            let intact = self.work.medium.read_at(bytes, offset).is_ok()
                && crc32fast::hash(bytes) == kept.journal.sum(index)?;
            if !intact && !bad {
                written = offset;
            }
        }
        // What is written again may, on a drive that lies about its size, hit what was verified before.
        let verified = if written < record.written { 0 } else { record.verified };
        kept.save(|record| {
            record.written = written;
            record.verified = verified;
            record.key_start = record.key_start.min(written);
        })?;
        self.written = written;
        self.verified = verified;
        self.key_start = record.key_start.min(written);
        self.report.unwritable = record.unwritable;
        self.report.resumed_from = Some(written);
        Ok(())
    }

    /// Does all that is left to do.
    pub(crate) fn finish(mut self) -> Result<Report, WipeError> {
        match self.work_through() {
            Ok(()) => {
                self.close(Outcome::Complete, None);
                Ok(self.report)
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn work_through(&mut self) -> Result<(), Fault> {
        self.report.health.before = (self.probe)(&self.work.identity.device);
        if self.written < self.report.size_bytes {
            self.write()?;
        }
        let verified = self.verify();
        if matches!(verified, Ok(()) | Err(Fault::Verification(_)))
            && let Some(kept) = self.kept.take()
        {
            // Whether good or bad, there is nothing left to go on with.
            kept.journal.remove()?;
        }
        verified?;
        if self.report.unwritable.is_empty() { Ok(()) } else { Err(Fault::Unwritable) }
    }

    fn close(&mut self, outcome: Outcome, error: Option<String>) {
        self.report.health.after = (self.probe)(&self.work.identity.device);
        self.report.outcome = outcome;
        self.report.errors.extend(error);
        self.report.finished = Timestamp::now();
        self.report.seconds = self.clock.elapsed().as_secs_f64();
    }

    fn fail(mut self, fault: Fault) -> WipeError {
        let (outcome, message) = match &fault {
            Fault::Cancelled(_) => (Outcome::Cancelled, None),
            Fault::Write(fault) => (
                Outcome::Failed,
                Some(format!(
                    "writing {} bytes at offset {}: {}",
                    fault.region.length, fault.region.offset, fault.source
                )),
            ),
            Fault::Flush(source) => (Outcome::Failed, Some(format!("flushing: {source}"))),
            Fault::Journal(error) => (Outcome::Failed, Some(error.to_string())),
            Fault::Threads(source) => (Outcome::Failed, Some(format!("starting a thread: {source}"))),
            Fault::Verification(what) => (Outcome::Failed, Some(what.clone())),
            Fault::Unwritable => {
                (Outcome::Failed, Some(format!("{} regions can't be written", self.report.unwritable.len())))
            }
        };
        self.close(outcome, message);
        let resumable = self.kept.is_some();
        let report = Box::new(self.report);
        match fault {
            Fault::Cancelled(done) => WipeError::Cancelled { done, resumable, report },
            Fault::Write(WriteFault { region, source }) => WipeError::Write { region, source, report },
            Fault::Flush(source) => WipeError::Flush { source, report },
            Fault::Journal(error) => WipeError::Journal(error),
            Fault::Threads(source) => WipeError::Threads(source),
            Fault::Verification(what) => WipeError::Verification { what, report },
            Fault::Unwritable => WipeError::Unwritable { report },
        }
    }

    fn write(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        let unwritable = Mutex::new(std::mem::take(&mut self.report.unwritable));
        let mut profile = Profile::new(self.report.size_bytes, self.written);
        let end = self.write_pass(&unwritable, &mut profile);
        self.report.unwritable = unwritable.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.report.unwritable.sort_unstable();
        self.report.profile = profile.zones();
        let end = end?;
        self.report.bytes_written = end.reached.bytes;
        let flushed = self.flush(end.reached.offset);
        self.report.mean_bytes_per_second = mean(end.reached.bytes, begun.elapsed().as_secs_f64());
        flushed?;
        self.written = end.reached.offset;
        let unwritable = self.report.unwritable.clone();
        if let Some(kept) = &self.kept {
            kept.save(|record| {
                record.written = end.reached.offset;
                record.unwritable = unwritable;
            })?;
        }
        if end.cancelled { Err(Fault::Cancelled(end.reached.offset)) } else { Ok(()) }
    }

    fn write_pass(
        &mut self,
        unwritable: &Mutex<Vec<Region>>,
        profile: &mut Profile,
    ) -> Result<PassEnd, Fault> {
        let Work { medium, settings, cancel, .. } = self.work;
        let (size, start, chunk) = (self.report.size_bytes, self.written, self.chunk);
        let plan = Plan::Range { start, end: size, chunk };
        let kept = self.kept.as_ref();
        let record = |reached: Reached| -> Result<(), Fault> {
            medium.flush().map_err(Fault::Flush)?;
            if !medium.is_direct() {
                // What is on the device needn't push the rest of the server's files out of memory.
                medium.forget_cached().map_err(Fault::Flush)?;
            }
            let Some(kept) = kept else { return Ok(()) };
            let regions = locked(unwritable).clone();
            Ok(kept.save(|record| {
                record.written = reached.offset;
                record.unwritable = regions;
            })?)
        };
        let checkpoints = Checkpoints { interval: settings.checkpoint, record: &record };
        let (generator, key) = (self.report.generator, &self.key);
        let new_filler =
            || Filler { stream: Keystream::new(generator, key), buffer: AlignedBuffer::new(chunk) };
        let fill = |filler: &mut Filler, extent: Extent| -> Result<(), Fault> {
            let filled =
                filler.fill(medium, extent, settings.bad_regions, kept.is_some()).map_err(Fault::Write)?;
            if let (Some(kept), Some(sum)) = (kept, filled.sum) {
                kept.journal.note_sum(extent.offset / chunk as u64, sum)?;
            }
            if filled.unwritable.is_empty() {
                return Ok(());
            }
            let mut regions = locked(unwritable);
            regions.extend(filled.unwritable);
            if regions.len() <= MAX_REGIONS {
                return Ok(());
            }
            let source = io::Error::other("too many bad regions to go on");
            Err(Fault::Write(WriteFault {
                region: Region { offset: extent.offset, length: extent.length as u64 },
                source,
            }))
        };
        let mut before = Instant::now();
        let mut meter = Meter::new(Phase::Writing, start, size, settings.stall_after, before);
        let sink = &mut *self.sink;
        let mut tick = |reached: Reached| {
            let now = Instant::now();
            profile.advance(reached.offset, now.duration_since(before));
            before = now;
            sink.update(&meter.measure(start + reached.bytes, now));
        };
        let beside = (kept.is_some() || !medium.is_direct()).then_some(&checkpoints);
        run_pass(&plan, settings.threads, cancel, beside, &new_filler, &fill, &mut tick)
    }

    fn flush(&mut self, offset: u64) -> Result<(), Fault> {
        let Work { medium, settings, .. } = self.work;
        let mut meter =
            Meter::new(Phase::Flushing, offset, self.report.size_bytes, settings.stall_after, Instant::now());
        let sink = &mut *self.sink;
        let mut tick = || sink.update(&meter.measure(offset, Instant::now()));
        tick();
        let flush = || {
            medium.flush()?;
            medium.forget_cached()
        };
        run_beside(flush, &mut tick).map_err(Fault::Flush)
    }

    fn verify(&mut self) -> Result<(), Fault> {
        let (size, chunk) = (self.report.size_bytes, self.chunk);
        let (plan, start) = match self.work.settings.verify {
            Verify::None => return Ok(()),
            Verify::Full => (Plan::Range { start: self.verified, end: size, chunk }, self.verified),
            Verify::Sample { confidence, damage } => {
                // Where to look must not be known to the drive: the numbers are a random stream of their own.
                let key = Key::random().map_err(|error| Fault::Journal(JournalError::Random(error)))?;
                let mut stream = Keystream::new(self.report.generator, &key);
                let mut at = 0;
                let random = move || {
                    let mut bytes = [0; 8];
                    // The stream doesn't end within any number of places.
                    let _ = stream.fill(at, &mut bytes);
                    at += 8;
                    u64::from_ne_bytes(bytes)
                };
                (sample_plan(size, chunk, confidence, damage, random), 0)
            }
        };
        let begun = Instant::now();
        let found = Mutex::new(Compared::default());
        let mut profile = Profile::new(size, start);
        let end = self.verify_pass(&plan, start, &found, &mut profile);
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.mismatches.sort_unstable();
        found.unreadable.sort_unstable();
        let bytes = end.as_ref().map_or(0, |end| end.reached.bytes);
        let damage = describe_damage(&found);
        let full = self.work.settings.verify == Verify::Full;
        self.report.verification = Some(Verification {
            mode: self.work.settings.verify,
            bytes: start + bytes,
            by_checksum_bytes: found.by_checksum + start.min(self.key_start),
            ok: damage.is_none()
                && end.as_ref().is_ok_and(|end| !end.cancelled)
                && self.report.unwritable.is_empty(),
            mismatches: found.mismatches,
            unreadable: found.unreadable,
            mean_bytes_per_second: mean(bytes, begun.elapsed().as_secs_f64()),
            profile: if full { profile.zones() } else { Vec::new() },
        });
        let end = end?;
        if let Some(what) = damage {
            return Err(Fault::Verification(what));
        }
        if end.cancelled {
            if let (Some(kept), true) = (&self.kept, full) {
                kept.save(|record| record.verified = end.reached.offset)?;
            }
            return Err(Fault::Cancelled(end.reached.offset));
        }
        Ok(())
    }

    fn verify_pass(
        &mut self,
        plan: &Plan,
        start: u64,
        found: &Mutex<Compared>,
        profile: &mut Profile,
    ) -> Result<PassEnd, Fault> {
        let Work { medium, settings, cancel, .. } = self.work;
        let kept = self.kept.as_ref();
        let lost = kept.filter(|_| self.key_start > 0).map(|kept| LostPart {
            journal: &kept.journal,
            end: self.key_start,
            chunk: self.chunk,
        });
        let record = |reached: Reached| -> Result<(), Fault> {
            let damaged = describe_damage(&locked(found)).is_some();
            match kept {
                Some(kept) if !damaged => Ok(kept.save(|record| record.verified = reached.offset)?),
                _ => Ok(()),
            }
        };
        let checkpoints = Checkpoints { interval: settings.checkpoint, record: &record };
        let beside = (kept.is_some() && settings.verify == Verify::Full).then_some(&checkpoints);
        let (generator, key) = (self.report.generator, &self.key);
        let (chunk, skipped) = (self.chunk, &self.report.unwritable);
        let new_reader = || Reader::new(Keystream::new(generator, key), chunk);
        let compare = |reader: &mut Reader, extent: Extent| -> Result<(), Fault> {
            let compared = reader.compare(medium, extent, lost.as_ref(), skipped)?;
            let mut found = locked(found);
            found.by_checksum += compared.by_checksum;
            if found.mismatches.len() + found.unreadable.len() < MAX_REGIONS {
                found.mismatches.extend(compared.mismatches);
                found.unreadable.extend(compared.unreadable);
            }
            Ok(())
        };
        let total = plan.total_bytes() + start;
        let mut before = Instant::now();
        let mut meter = Meter::new(Phase::Verifying, start, total, settings.stall_after, before);
        let sink = &mut *self.sink;
        let mut tick = |reached: Reached| {
            let now = Instant::now();
            profile.advance(reached.offset, now.duration_since(before));
            before = now;
            sink.update(&meter.measure(start + reached.bytes, now));
        };
        run_pass(plan, settings.threads, cancel, beside, &new_reader, &compare, &mut tick)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
fn mean(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 }
}

fn overlaps(region: Region, offset: u64, length: usize) -> bool {
    region.offset < offset + length as u64 && offset < region.offset + region.length
}

/// The first damage in words; `None` if there is none.
fn describe_damage(found: &Compared) -> Option<String> {
    let first = |regions: &[Region]| regions.iter().min().map(|region| region.offset);
    match (first(&found.mismatches), first(&found.unreadable)) {
        (None, None) => None,
        (Some(offset), _) => Some(format!(
            "{} stretches differ from what was written, the first at offset {offset}",
            found.mismatches.len()
        )),
        (None, Some(offset)) => {
            Some(format!("{} stretches can't be read, the first at offset {offset}", found.unreadable.len()))
        }
    }
}
