//! How far a wipe is, and how fast.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pass::Reached;
use super::profile::{Profile, Zone};

/// What a wipe is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// The random stream is being written.
    Writing,
    /// The drive is asked to put what it holds in its cache on the medium.
    Flushing,
    /// What was written is being read back and compared.
    Verifying,
}

/// How far a wipe is; reported some times a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase, those of an earlier run included.
    pub done_bytes: u64,
    /// Bytes that this phase does in all.
    pub total_bytes: u64,
    /// Rate over the last seconds, in bytes per second.
    pub rate_now: f64,
    /// Rate since this phase began in this run, in bytes per second.
    pub rate_mean: f64,
    /// Time left for this phase at the recent rate; `None` while nothing is known.
    pub eta: Option<Duration>,
    /// Time since the device answered last, once that is longer than a healthy drive takes.
    pub stalled: Option<Duration>,
}

/// Shows the progress of a wipe, and hears of nothing else.
pub trait ProgressSink: Send {
    /// Takes the latest progress; it should return at once.
    fn update(&mut self, progress: &Progress);
}

impl<F: FnMut(&Progress) + Send> ProgressSink for F {
    fn update(&mut self, progress: &Progress) {
        self(progress);
    }
}

/// The time over which the present rate is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// Turns counts of bytes into rates.
pub(crate) struct Meter {
    phase: Phase,
    total: u64,
    first: (Instant, u64),
    recent: VecDeque<(Instant, u64)>,
    stall_after: Duration,
    last_change: Instant,
}

impl Meter {
    pub(crate) fn new(phase: Phase, done: u64, total: u64, stall_after: Duration, now: Instant) -> Self {
        Self {
            phase,
            total,
            first: (now, done),
            recent: VecDeque::from([(now, done)]),
            stall_after,
            last_change: now,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(crate) fn measure(&mut self, done: u64, now: Instant) -> Progress {
        if self.recent.back().is_some_and(|(_, before)| *before != done) {
            self.last_change = now;
        }
        self.recent.push_back((now, done));
        while self.recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let rate = |(at, before): (Instant, u64)| {
            let seconds = now.duration_since(at).as_secs_f64();
            if seconds > 0.0 { done.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        let rate_now = self.recent.front().copied().map_or(0.0, rate);
        let silent = now.duration_since(self.last_change);
        let left = self.total.saturating_sub(done) as f64;
        Progress {
            phase: self.phase,
            done_bytes: done,
            total_bytes: self.total,
            rate_now,
            rate_mean: rate(self.first),
            eta: (rate_now > 0.0).then(|| Duration::try_from_secs_f64(left / rate_now).ok()).flatten(),
            stalled: (silent >= self.stall_after).then_some(silent),
        }
    }
}

/// Follows a pass: tells the sink how far it is, and keeps the profile.
pub(crate) struct Watch<'a> {
    sink: &'a mut dyn ProgressSink,
    meter: Meter,
    profile: Profile,
    start: u64,
    before: Instant,
}

impl<'a> Watch<'a> {
    /// Begins at the offset `start` of a device of `size` bytes, to work up to `total`.
    pub(crate) fn new(
        phase: Phase,
        [start, total, size]: [u64; 3],
        stall_after: Duration,
        sink: &'a mut dyn ProgressSink,
    ) -> Self {
        let now = Instant::now();
        let meter = Meter::new(phase, start, total, stall_after, now);
        Self { sink, meter, profile: Profile::new(size, start), start, before: now }
    }

    pub(crate) fn tick(&mut self, reached: Reached) {
        let now = Instant::now();
        self.profile.advance(reached.offset, now.duration_since(self.before));
        self.before = now;
        self.sink.update(&self.meter.measure(self.start + reached.bytes, now));
    }

    pub(crate) fn zones(&self) -> Vec<Zone> {
        self.profile.zones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_rates_and_stalls() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(Phase::Writing, 1000, 11_000, Duration::from_secs(4), start);
        for second in 1..=10 {
            meter.measure(1000 + second * 100, at(second));
        }
        let fast = meter.measure(4000, at(12));
        assert!((fast.rate_mean - 250.0).abs() < 1e-9, "{fast:?}");
        assert!((fast.rate_now - 2300.0 / 5.0).abs() < 1e-9, "{fast:?}");
        assert_eq!(fast.stalled, None);
        assert_eq!(meter.measure(4000, at(15)).stalled, None);
        let slow = meter.measure(4000, at(18));
        assert_eq!(slow.stalled, Some(Duration::from_secs(6)));
        assert_eq!((slow.rate_now > 0.0, slow.eta), (false, None));
    }
}
