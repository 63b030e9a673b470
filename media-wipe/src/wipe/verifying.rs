//! The second half of a wipe: what the drive holds is read back and compared.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::journal::JournalError;
use super::readback::{Compared, LostPart, Reader};
use super::run::{Fault, MAX_REGIONS, Run, Work, locked, mean};
use crate::io::pass::{Checkpoints, Extent, How, PassEnd, Plan, Reached, run_pass};
use crate::io::profile::Zone;
use crate::io::progress::{Phase, Watch};
use crate::io::region::Region;
use crate::report::outcome::Verification;
use crate::report::verify::{Verify, sample_plan};
use crate::stream::keystream::{Key, Keystream};

impl Run<'_> {
    pub(crate) fn verify(&mut self) -> Result<(), Fault> {
        let mode = self.work.settings.verify;
        let full = mode == Verify::Full;
        let Some((plan, start)) = self.verify_plan()? else { return Ok(()) };
        let begun = Instant::now();
        let found = Mutex::new(Compared::default());
        let (end, profile) = self.verify_pass(&plan, start, &found);
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.mismatches.sort_unstable();
        found.unreadable.sort_unstable();
        if !found.unreadable.is_empty() && self.work.medium.went_away() {
            return Err(Fault::Gone);
        }
        let bytes = end.reached.bytes;
        let damage = describe_damage(&found);
        self.report.verification = Some(Verification {
            mode,
            bytes: start + bytes,
            total_bytes: start + plan.total_bytes(),
            by_checksum_bytes: found.by_checksum + start.min(self.key_start),
            ok: damage.is_none() && matches!(end.how, How::Complete) && self.report.unwritable.is_empty(),
            mismatches: found.mismatches,
            unreadable: found.unreadable,
            mean_bytes_per_second: mean(bytes, begun.elapsed().as_secs_f64()),
            profile: if full { profile } else { Vec::new() },
        });
        match (end.how, damage) {
            (How::Failed(Fault::Gone), _) => Err(Fault::Gone),
            // Whatever else went wrong, this drive is damaged.
            (_, Some(what)) => Err(Fault::Verification(what)),
            (How::Failed(fault), None) => Err(fault),
            (how, None) => {
                if let (Some(kept), true) = (&self.kept, full) {
                    kept.save(|record| record.verified = end.reached.offset)?;
                }
                if matches!(how, How::Cancelled) { Err(Fault::Cancelled(end.reached.offset)) } else { Ok(()) }
            }
        }
    }

    /// What is to be read, and how much of it an earlier run read; `None` for nothing.
    fn verify_plan(&self) -> Result<Option<(Plan, u64)>, Fault> {
        let (size, chunk) = (self.report.size_bytes, self.chunk);
        Ok(match self.work.settings.verify {
            Verify::None => None,
            Verify::Full => Some((Plan::Range { start: self.verified, end: size, chunk }, self.verified)),
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
                Some((sample_plan(size, chunk, confidence, damage, random), 0))
            }
        })
    }

    fn verify_pass(
        &mut self,
        plan: &Plan,
        start: u64,
        found: &Mutex<Compared>,
    ) -> (PassEnd<Fault>, Vec<Zone>) {
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
            if !compared.unreadable.is_empty() && !medium.is_there() {
                return Err(Fault::Gone);
            }
            let mut found = locked(found);
            found.by_checksum += compared.by_checksum;
            found.mismatches.extend(compared.mismatches);
            found.unreadable.extend(compared.unreadable);
            if found.mismatches.len() + found.unreadable.len() > MAX_REGIONS {
                // Enough is known.
                return Err(Fault::Verification(String::new()));
            }
            Ok(())
        };
        let total = plan.total_bytes() + start;
        let size = self.report.size_bytes;
        let mut watch =
            Watch::new(Phase::Verifying, [start, total, size], settings.stall_after, &mut *self.sink);
        let mut tick = |reached| watch.tick(reached);
        let end = run_pass(plan, settings.threads, cancel, beside, &new_reader, &compare, &mut tick);
        (end, watch.zones())
    }
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
