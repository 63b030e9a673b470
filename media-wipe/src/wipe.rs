//! The wipe as a whole: what is asked for, and how it may fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::device_io::ALIGNMENT;
use crate::fill::BadRegions;
use crate::journal::JournalError;
use crate::progress::{Progress, ProgressSink};
use crate::report::{Region, Report};
use crate::run::{Run, Work};
use crate::stream::Generator;
use crate::target::Target;
use crate::verify::Verify;

/// A wipe that is being prepared: what to fill, and how.
///
/// Without further settings every byte is written and verified, without a journal.
#[must_use = "nothing is written before `run`"]
pub struct Wipe<'a> {
    target: Target,
    settings: Settings,
    sink: Option<Box<dyn ProgressSink + 'a>>,
    cancel: Option<&'a AtomicBool>,
    probe: Box<HealthProbe<'a>>,
}

/// Asks a drive about its health, by its path.
pub(crate) type HealthProbe<'a> = dyn FnMut(&Path) -> Option<serde_json::Value> + Send + 'a;

/// What can be chosen.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) verify: Verify,
    pub(crate) journal: Option<PathBuf>,
    pub(crate) keep_journal: bool,
    pub(crate) resume: bool,
    pub(crate) threads: usize,
    pub(crate) chunk: usize,
    pub(crate) bad_regions: BadRegions,
    pub(crate) checkpoint: Duration,
    pub(crate) stall_after: Duration,
    pub(crate) generator: Generator,
}

/// The size of a request, in bytes, unless the drive prefers another multiple.
///
/// What was just generated is still in the processor's cache when the kernel takes it: with four requests in
/// flight this was the fastest of 1 and 4 MiB by 1, 2 and 4 threads on a loop device over tmpfs.
const CHUNK: usize = 1 << 20;

/// The largest size of a request; eight threads then stay within 64 MiB.
pub(crate) const MAX_CHUNK: usize = 8 << 20;

/// The smallest size of a request.
pub(crate) const MIN_CHUNK: usize = 64 << 10;

impl Default for Settings {
    fn default() -> Self {
        Self {
            verify: Verify::Full,
            journal: None,
            keep_journal: false,
            resume: false,
            threads: 4,
            chunk: CHUNK,
            bad_regions: BadRegions::Stop,
            checkpoint: Duration::from_secs(5),
            stall_after: Duration::from_secs(10),
            generator: Generator::fastest(),
        }
    }
}

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
fn mending(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::StorageFull {
        "it ends before the size that it states: make room where its file or thin volume lies, then resume; a drive that does this lies about its size, retire it"
    } else {
        "check the cable, then resume, or retire the drive"
    }
}

fn again(report: &Report) -> &'static str {
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

impl<'a> Wipe<'a> {
    /// Prepares to fill a target.
    pub fn new(target: Target) -> Self {
        let mut settings = Settings::default();
        if let Some(optimal) = target.identity().optimal_io.and_then(|size| usize::try_from(size).ok())
            && (1..=MAX_CHUNK).contains(&optimal)
            && optimal.is_multiple_of(ALIGNMENT)
        {
            settings.chunk = (CHUNK / optimal).max(1) * optimal;
        }
        Self { target, settings, sink: None, cancel: None, probe: Box::new(|_| None) }
    }

    /// Chooses what is read back; everything, unless set.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.settings.verify = verify;
        self
    }

    /// Calls `sink` with the progress, about ten times a second, in the thread that calls [`run`](Self::run).
    pub fn progress(mut self, sink: impl FnMut(&Progress) + Send + 'a) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Shows the progress in `sink`, in place of a closure.
    pub fn progress_sink(mut self, sink: &'a mut dyn ProgressSink) -> Self {
        self.sink = Some(Box::new(move |progress: &Progress| sink.update(progress)));
        self
    }

    /// Stops soon after `cancel` becomes true, with what is needed to resume.
    ///
    /// A request that the drive doesn't answer is waited for: the kernel lets nobody take it back.
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Keeps a journal at `path`, which survives the process and a power cut, until the wipe is complete.
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.journal = Some(path.into());
        self
    }

    /// Leaves the journal of a wipe that is over to [`forget_journal`](crate::forget_journal), so that who dies before the
    /// report is filed can resume and have it again, at once.
    pub fn keep_journal(mut self) -> Self {
        self.settings.keep_journal = true;
        self
    }

    /// Asks the drive about its health before and after, for the report.
    ///
    /// This crate starts no programs: `probe` may run `smartctl --json --all` and return what it prints.
    pub fn health(mut self, probe: impl FnMut(&Path) -> Option<serde_json::Value> + Send + 'a) -> Self {
        self.probe = Box::new(probe);
        self
    }

    /// Goes on where the journal's last checkpoint is, if there is a journal; otherwise starts anew.
    pub fn resume(mut self, resume: bool) -> Self {
        self.settings.resume = resume;
        self
    }

    /// Chooses what happens at a region that can't be written; the wipe stops, unless set.
    pub fn bad_regions(mut self, policy: BadRegions) -> Self {
        self.settings.bad_regions = policy;
        self
    }

    /// Sets how many requests are in flight, 1 to 8; 4, unless set.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads.clamp(1, 8);
        self
    }

    /// Sets the size of a request in bytes, rounded down to a multiple of 4096 from 64 KiB to 8 MiB; 1 MiB or the
    /// drive's preferred multiple, unless set.
    pub fn request_bytes(mut self, bytes: usize) -> Self {
        self.settings.chunk = bytes.clamp(MIN_CHUNK, MAX_CHUNK) / ALIGNMENT * ALIGNMENT;
        self
    }

    /// Sets how often the journal is brought up to date, which is what a power cut can cost; 5 seconds, unless set.
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.settings.checkpoint = interval;
        self
    }

    /// Sets how long a drive may be silent before its progress says so; 10 seconds, unless set.
    pub fn stall_after(mut self, silence: Duration) -> Self {
        self.settings.stall_after = silence;
        self
    }

    /// Chooses the cipher; the faster one for this processor, unless set.
    pub fn generator(mut self, generator: Generator) -> Self {
        self.settings.generator = generator;
        self
    }

    /// Fills the target, flushes and verifies it.
    ///
    /// It returns `Ok` only when every byte was written and flushed, and verified as asked.
    pub fn run(self) -> Result<Report, WipeError> {
        let never = AtomicBool::new(false);
        let Target { system, identity, io } = self.target;
        let mut sink = self.sink;
        let mut silent = |_: &Progress| ();
        let sink: &mut dyn ProgressSink = match &mut sink {
            Some(sink) => sink.as_mut(),
            None => &mut silent,
        };
        let work = Work {
            medium: &io,
            system: &system,
            identity: &identity,
            settings: &self.settings,
            cancel: self.cancel.unwrap_or(&never),
        };
        let mut probe = self.probe;
        Run::begin(work, sink, probe.as_mut())?.finish()
    }
}
