//! Progress of a fill as a person follows it: a bar for each drive on a terminal, a line a minute elsewhere, and
//! a line whenever SIGUSR1 asks for one.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use media_wipe::{Phase, Progress};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

use super::confirm::size;
use super::escape;
use super::failure::{Failure, OrFail as _};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_mins(1);

/// How often SIGUSR1 came.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// All drives' progress on one screen.
#[derive(Debug)]
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// Uses bars when stderr is a terminal. From now on SIGUSR1 asks for a line of each drive.
    pub fn new() -> Result<Self, Failure> {
        answer_sigusr1()?;
        Ok(Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) })
    }

    /// Adds one drive, called `name` on the screen.
    pub fn drive(&self, name: &str) -> DriveProgress {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {percent:>3}% {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(0).with_style(style));
            bar.set_prefix(escape::line(name).into_owned());
            bar
        });
        let lines = Lines { bars: bar.is_some(), ..Lines::default() };
        DriveProgress { name: name.to_owned(), bar, lines }
    }
}

/// Counts the requests in a thread of its own, so that each drive's thread sees every one.
fn answer_sigusr1() -> Result<(), Failure> {
    static WATCHED: OnceLock<()> = OnceLock::new();
    if WATCHED.set(()).is_err() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGUSR1]).or_fail("cannot watch signals")?;
    let count = move || {
        for _ in signals.forever() {
            ASKED.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new().name("sigusr1".into()).spawn(count).or_fail("cannot start a thread")?;
    Ok(())
}

/// One drive's progress.
#[derive(Debug)]
pub struct DriveProgress {
    name: String,
    bar: Option<ProgressBar>,
    lines: Lines,
}

impl DriveProgress {
    /// Shows how far the fill has come.
    pub fn show(&mut self, progress: &Progress) {
        let line = self.lines.due(progress, Instant::now(), ASKED.load(Ordering::Relaxed));
        let line = line.map(|words| format!("{}: {words}", self.name));
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
            bar.set_message(escape::line(&describe(progress)).into_owned());
        }
        if let Some(line) = line {
            self.say(&line);
        }
    }

    /// Writes a line, above the bars where there are any.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(escape::line(line)),
            None => eprintln!("{line}"),
        }
    }

    /// Leaves the last state standing.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

/// Which lines are written when.
#[derive(Debug, Default)]
struct Lines {
    /// Bars show everything but what was asked for.
    bars: bool,
    asked: u64,
    last: Option<(Instant, Phase, bool)>,
}

impl Lines {
    /// The line to write now: one was asked for, a minute is over, or what is happening changed.
    fn due(&mut self, progress: &Progress, now: Instant, asked: u64) -> Option<String> {
        let was_asked = asked != self.asked;
        self.asked = asked;
        let state = (progress.phase, progress.stalled.is_some());
        let news = self.last.is_none_or(|(at, phase, stalled)| {
            (phase, stalled) != state || now.duration_since(at) >= LINE_EVERY
        });
        if !was_asked && (self.bars || !news) {
            return None;
        }
        self.last = Some((now, state.0, state.1));
        let percent =
            (u128::from(progress.done_bytes) * 100).checked_div(progress.total_bytes.into()).unwrap_or(100);
        let bytes = if was_asked {
            format!(" ({} of {} bytes)", progress.done_bytes, progress.total_bytes)
        } else {
            String::new()
        };
        Some(format!("{percent}%{bytes} {}", describe(progress)))
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

    /// What the library tells, as a wipe of an own file makes it: there is no other way to one.
    fn progress() -> Progress {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let path = file.path().canonicalize().unwrap();
        let system = media_wipe::System::new(std::path::Path::new("/"));
        let target = media_wipe::Target::open(&system, &path, path.to_str().unwrap()).unwrap();
        let mut seen = None;
        media_wipe::Wipe::new(target)
            .verify(media_wipe::Verify::None)
            .progress(|p| seen = seen.take().or_else(|| (p.phase == Phase::Writing).then(|| p.clone())))
            .run()
            .unwrap();
        seen.unwrap()
    }

    #[test]
    fn a_line_a_minute_and_whenever_something_happens() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lines = Lines::default();
        let mut now = progress();
        assert!(lines.due(&now, at(0), 0).is_some(), "the first one");
        assert!((1..60).all(|second| lines.due(&now, at(second), 0).is_none()));
        assert!(lines.due(&now, at(60), 0).is_some(), "a minute later");
        now.stalled = Some(Duration::from_secs(10));
        assert!(lines.due(&now, at(61), 0).unwrap().contains("STALLED for 10 s"));
        assert!(lines.due(&now, at(62), 0).is_none());
        now.stalled = None;
        assert!(lines.due(&now, at(63), 0).is_some(), "it goes on");
        now.phase = Phase::Verifying;
        assert!(lines.due(&now, at(64), 0).unwrap().contains("verifying"));
        assert!(lines.due(&now, at(65), 0).is_none());
    }

    #[test]
    fn who_asks_is_answered_with_bytes_also_beside_a_bar() {
        let now = progress();
        for bars in [false, true] {
            let mut lines = Lines { bars, ..Lines::default() };
            let begun = Instant::now();
            assert_eq!(lines.due(&now, begun, 0).is_some(), !bars);
            let line = lines.due(&now, begun, 1).unwrap();
            assert!(line.contains(&format!(" of {} bytes) writing ", 1 << 20)), "{line}");
            assert!(lines.due(&now, begun, 1).is_none(), "answered once");
        }
    }
}
