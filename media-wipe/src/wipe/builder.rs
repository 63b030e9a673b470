//! The wipe as a whole: what is asked for, and how it may fail.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::error::WipeError;
use super::fill::BadRegions;
use super::run::{Run, Work};
use super::settings::{CHUNK, HealthProbe, MAX_CHUNK, MIN_CHUNK, Settings};
use crate::io::device::ALIGNMENT;
use crate::io::progress::{Progress, ProgressSink};
use crate::report::outcome::Report;
use crate::report::verify::Verify;
use crate::stream::keystream::Generator;
use crate::target::open::Target;

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
