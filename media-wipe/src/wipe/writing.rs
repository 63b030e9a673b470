//! The first half of a wipe: everything is written and flushed.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::fill::{Filler, WriteFault};
use super::run::{Fault, MAX_REGIONS, Run, Work, locked, mean};
use crate::io::device::AlignedBuffer;
use crate::io::pass::{Checkpoints, Extent, How, PassEnd, Plan, Reached, run_beside, run_pass};
use crate::io::progress::{Meter, Phase, Watch};
use crate::io::region::Region;
use crate::stream::keystream::Keystream;

impl Run<'_> {
    pub(crate) fn write(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        let unwritable = Mutex::new(std::mem::take(&mut self.report.unwritable));
        let end = self.write_pass(&unwritable);
        self.report.unwritable = unwritable.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.report.unwritable.sort_unstable();
        self.report.bytes_written = end.reached.bytes;
        let flushed = match end.how {
            How::Failed(fault) => Err(fault),
            How::Complete => self.flush(end.reached.offset).map(|()| false),
            How::Cancelled => self.flush(end.reached.offset).map(|()| true),
        };
        self.report.mean_bytes_per_second = mean(end.reached.bytes, begun.elapsed().as_secs_f64());
        let cancelled = flushed?;
        self.written = end.reached.offset;
        let unwritable = self.report.unwritable.clone();
        if let Some(kept) = &self.kept {
            kept.save(|record| {
                record.written = end.reached.offset;
                record.unwritable = unwritable;
            })?;
        }
        if cancelled { Err(Fault::Cancelled(end.reached.offset)) } else { Ok(()) }
    }

    fn write_pass(&mut self, unwritable: &Mutex<Vec<Region>>) -> PassEnd<Fault> {
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
            let region = Region { offset: extent.offset, length: extent.length as u64 };
            Err(Fault::Write(WriteFault {
                region,
                source: io::Error::other("too many bad regions to go on"),
            }))
        };
        let beside = (kept.is_some() || !medium.is_direct()).then_some(&checkpoints);
        let mut watch =
            Watch::new(Phase::Writing, [start, size, size], settings.stall_after, &mut *self.sink);
        let mut tick = |reached| watch.tick(reached);
        let end = run_pass(&plan, settings.threads, cancel, beside, &new_filler, &fill, &mut tick);
        self.report.profile = watch.zones();
        end
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
}
