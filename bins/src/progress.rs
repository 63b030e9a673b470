//! Progress of a fill as a person follows it: a bar on a terminal, a line a minute elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use media_wipe::{Phase, Progress};

use crate::confirm::size;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_mins(1);

/// All drives' progress on one screen.
#[derive(Debug)]
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// Uses bars when stderr is a terminal.
    pub fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Adds one drive, called `name` on the screen.
    pub fn drive(&self, name: &str) -> DriveProgress {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {percent:>3}% {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(0).with_style(style));
            bar.set_prefix(name.to_owned());
            bar
        });
        DriveProgress { name: name.to_owned(), bar, last_line: None, last_phase: None }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// One drive's progress.
#[derive(Debug)]
pub struct DriveProgress {
    name: String,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    last_phase: Option<Phase>,
}

impl DriveProgress {
    /// Shows how far the fill has come.
    pub fn show(&mut self, progress: &Progress) {
        let new_phase = self.last_phase != Some(progress.phase);
        self.last_phase = Some(progress.phase);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
            bar.set_message(describe(progress));
        } else if new_phase || self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            let percent = (u128::from(progress.done_bytes) * 100)
                .checked_div(progress.total_bytes.into())
                .unwrap_or(100);
            eprintln!("{}: {percent}% {}", self.name, describe(progress));
        }
    }

    /// Leaves the last state standing.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

fn describe(progress: &Progress) -> String {
    let phase = match progress.phase {
        Phase::Writing => "writing",
        Phase::Flushing => "flushing",
        Phase::Verifying => "verifying",
        _ => "working",
    };
    if let Some(still) = progress.stalled {
        return format!("{phase}, STALLED for {} s: the drive doesn't answer", still.as_secs());
    }
    let eta = progress.eta.map(|eta| format!(", {} left", duration(eta))).unwrap_or_default();
    format!("{phase} {}, mean {}{eta}", rate(progress.rate_now), rate(progress.rate_mean))
}

/// A rate in bytes per second, as a person reads it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is finite and not negative"
)]
fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", size(bytes_per_second as u64))
}

/// Hours, minutes and seconds, the first two that count.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_what_counts() {
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(3_700)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(200_000)), "2 d 7 h");
    }
}
