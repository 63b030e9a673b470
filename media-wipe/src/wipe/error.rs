//! How a wipe may fail.

use std::io;

use super::journal::JournalError;
use crate::io::region::Region;
use crate::report::outcome::Report;

/// Why a wipe did not succeed; what was done until then is in the report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WipeError {
    /// The system gives no random numbers, so there is no key.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// A thread could not be started.
    #[error("can't start a thread; look at the limits of processes and memory")]
    Threads {
        /// What the kernel answered.
        #[source]
        source: io::Error,
        /// What was done until then.
        report: Box<Report>,
    },
    /// The journal failed.
    #[error("{source}")]
    Journal {
        /// How.
        #[source]
        source: JournalError,
        /// What was done until then; `None` if nothing was begun.
        report: Option<Box<Report>>,
    },
    /// A write failed.
    #[error("can't write {} bytes at offset {} of {}: {source}; {}", region.length, region.offset, report.identity.device.display(), mending(source))]
    Write {
        /// What could not be written.
        region: Region,
        /// What the kernel answered.
        #[source]
        source: io::Error,
        /// What was done until then.
        report: Box<Report>,
    },
    /// The drive did not confirm that the bytes are on the medium.
    #[error("{} failed to flush its cache; what was written since the last checkpoint can't be trusted", report.identity.device.display())]
    Flush {
        /// What the kernel answered.
        #[source]
        source: io::Error,
        /// What was done until then.
        report: Box<Report>,
    },
    /// All was written, but the kernel still shows partitions of the table that was overwritten.
    #[error("the kernel still shows the partitions that {} had; see what has one open (fuser -v), then resume", report.identity.device.display())]
    Partitions {
        /// What the kernel answered.
        #[source]
        source: io::Error,
        /// What was done until then.
        report: Box<Report>,
    },
    /// All the rest was written, but some regions could not be.
    #[error("{} regions of {} can't be written; retire the drive", report.unwritable.len(), report.identity.device.display())]
    Unwritable {
        /// What was done, with the regions.
        report: Box<Report>,
    },
    /// The drive holds something else than was written, or can't be read.
    #[error("{} does not hold what was written: {what}; retire the drive", report.identity.device.display())]
    Verification {
        /// The first damage, in words.
        what: String,
        /// What was done, with the regions.
        report: Box<Report>,
    },
    /// The drive went away: it was pulled, or lost its power or its cable.
    #[error("{} went away; plug it in again, then {}", report.identity.device.display(), again(report))]
    Gone {
        /// What was done until then.
        report: Box<Report>,
    },
    /// It was stopped on request.
    #[error("stopped at {} of {} bytes of {}; {}", done, report.size_bytes, report.identity.device.display(), again(report))]
    Cancelled {
        /// Bytes written, or verified, and certain.
        done: u64,
        /// What was done until then.
        report: Box<Report>,
    },
}

/// What to do about a write that failed.
pub(crate) fn mending(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::StorageFull {
        "it ends before the size that it states: make room where its file or thin volume lies, then resume; a drive that does this lies about its size, retire it"
    } else {
        "check the cable, then resume, or retire the drive"
    }
}

pub(crate) fn again(report: &Report) -> &'static str {
    if report.resumable { "resume to go on" } else { "without a journal it starts anew" }
}

impl From<JournalError> for WipeError {
    fn from(source: JournalError) -> Self {
        Self::Journal { source, report: None }
    }
}

impl WipeError {
    /// Returns the report of what was done before the failure, if it came to any work.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Random(_) => None,
            Self::Journal { report, .. } => report.as_deref(),
            Self::Threads { report, .. }
            | Self::Write { report, .. }
            | Self::Flush { report, .. }
            | Self::Partitions { report, .. }
            | Self::Unwritable { report }
            | Self::Verification { report, .. }
            | Self::Gone { report }
            | Self::Cancelled { report, .. } => Some(report),
        }
    }
}
