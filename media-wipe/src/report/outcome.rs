//! What was done to a drive, for a program and for a person.

use jiff::Timestamp;
use serde::Serialize;

use super::health::Health;
use super::verify::Verify;
use crate::identity::examine::Identity;
use crate::io::profile::Zone;
use crate::io::region::Region;
use crate::stream::keystream::Generator;

/// How a wipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// All was written, flushed, and verified as asked.
    Complete,
    /// It was stopped on request.
    Cancelled,
    /// Something went wrong; the errors say what.
    Failed,
}

/// What reading back found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// What was asked for.
    #[serde(flatten)]
    pub mode: Verify,
    /// Bytes compared.
    pub bytes: u64,
    /// Bytes that were to be compared.
    pub total_bytes: u64,
    /// Bytes among them that an earlier run wrote with a lost key, compared by checksum.
    pub by_checksum_bytes: u64,
    /// Whether all that was to be compared was, and agreed.
    pub ok: bool,
    /// Where the drive holds something else than was written: the first and the last wrong byte of each stretch.
    pub mismatches: Vec<Region>,
    /// What could not be read.
    pub unreadable: Vec<Region>,
    /// Mean rate in bytes per second.
    pub mean_bytes_per_second: f64,
    /// The rate over the drive.
    pub profile: Vec<Zone>,
}

/// What was done to a drive.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Which drive it was, and what was on it.
    pub identity: Identity,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes written by this run.
    pub bytes_written: u64,
    /// Where this run began to write, if it went on with an earlier one.
    pub resumed_from: Option<u64>,
    /// What made the random stream.
    pub generator: Generator,
    /// Whether the page cache was passed by; through it, verification may have read memory in part.
    pub direct: bool,
    /// When this run began.
    pub started: Timestamp,
    /// When this run ended.
    pub finished: Timestamp,
    /// How long this run took, in seconds.
    pub seconds: f64,
    /// Mean rate of writing with the flush, in bytes per second.
    pub mean_bytes_per_second: f64,
    /// The rate of writing over the drive; a slow zone is the first sign of a dying disk.
    pub profile: Vec<Zone>,
    /// What could not be written.
    pub unwritable: Vec<Region>,
    /// What reading back found; `None` if it didn't come to that.
    pub verification: Option<Verification>,
    /// The drive's own account of its health before and after, as the caller's probe gave it.
    pub health: Health,
    /// What went wrong, a line each.
    pub errors: Vec<String>,
    /// Whether a journal is there by which the same wipe can go on.
    pub resumable: bool,
}

impl Report {
    /// Says whether every byte was written, by this run or an earlier one, whatever came of verifying.
    pub fn is_filled(&self) -> bool {
        self.unwritable.is_empty()
            && self.resumed_from.unwrap_or(0).saturating_add(self.bytes_written) >= self.size_bytes
    }

    /// Says whether all was written, flushed, and verified as asked.
    pub fn is_complete(&self) -> bool {
        self.outcome == Outcome::Complete
    }
}
