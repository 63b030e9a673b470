//! The figures of one run: as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What a figure is counted in, and so which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; less is better.
    Seconds,
    /// Milliseconds; less is better.
    Milliseconds,
    /// Millions of bytes a second; more is better.
    MegabytesPerSecond,
    /// Seconds of processor time for 10^9 bytes; less is better.
    CpuSecondsPerGigabyte,
    /// Peak resident memory in 2^20 bytes; less is better.
    Mebibytes,
    /// Parts of a hundred; more is better.
    Percent,
    /// How often something went wrong; less is better.
    Count,
    /// How often all was well; more is better.
    Times,
    /// How often threads were given the processor in a minute; less is better.
    WakeUps,
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::MegabytesPerSecond => "MB/s",
            Self::CpuSecondsPerGigabyte => "CPU s/GB",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
            Self::Count => "times",
            Self::Times => "well",
            Self::WakeUps => "a minute",
        }
    }

    fn more_is_better(self) -> bool {
        matches!(self, Self::MegabytesPerSecond | Self::Percent | Self::Times)
    }
}

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median of ours.
    pub ours: f64,
    /// What both values are counted in.
    pub unit: &'static str,
    /// What ours is compared with.
    pub peer: String,
    /// The median of the peer.
    pub peer_value: f64,
    /// Ours by the peer's.
    pub ratio: f64,
    #[serde(skip)]
    better: &'static str,
    #[serde(skip)]
    spread: String,
}

/// All figures of a run, and what could not be measured.
#[derive(Debug)]
pub struct Figures {
    filter: String,
    measured: Vec<Figure>,
    skipped: Vec<(String, String)>,
    failed: Vec<(String, String)>,
}

impl Figures {
    pub(super) fn new(filter: &str) -> Self {
        Self { filter: filter.to_owned(), measured: Vec::new(), skipped: Vec::new(), failed: Vec::new() }
    }

    /// Whether a figure was asked for and is still missing.
    pub(super) fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
            && !self.skipped.iter().any(|(skipped, _)| skipped == name)
            && !self.measured.iter().any(|figure| figure.name == name)
    }

    /// Says that a figure takes too long for a run of all figures; a filter asks for it.
    pub(super) fn long(&mut self, name: &str) {
        if self.filter.is_empty() {
            self.skip(name, "takes half an hour or more; a part of its name as FILTER asks for it");
        }
    }

    /// Takes the samples of one comparison, and shows it at once.
    pub(super) fn record(&mut self, name: &str, unit: Unit, ours: &[f64], peer: &str, peers: &[f64]) {
        let (Some(median_ours), Some(median_peers)) = (median(ours), median(peers)) else {
            self.fail(name, "nothing was measured");
            return;
        };
        let figure = Figure {
            name: name.to_owned(),
            ours: median_ours,
            unit: unit.symbol(),
            peer: peer.to_owned(),
            peer_value: median_peers,
            ratio: median_ours / median_peers,
            better: if unit.more_is_better() { "more" } else { "less" },
            spread: format!("[{}] [{}]", range(ours), range(peers)),
        };
        println!("{}", line(&figure));
        self.measured.push(figure);
    }

    /// Says that a figure can't be measured here.
    pub(super) fn skip(&mut self, name: &str, why: &str) {
        if self.wants(name) {
            println!("SKIPPED {name}: {why}");
            self.skipped.push((name.to_owned(), why.to_owned()));
        }
    }

    /// Says that measuring a figure went wrong.
    pub(super) fn fail(&mut self, name: &str, why: &str) {
        println!("FAILED {name}: {why}");
        self.failed.push((name.to_owned(), why.to_owned()));
    }

    /// Whether every figure that was asked for was measured or skipped by name.
    pub fn complete(&self) -> bool {
        self.failed.is_empty() && !(self.measured.is_empty() && self.skipped.is_empty())
    }

    /// The measured figures as a JSON array.
    ///
    /// # Errors
    /// When a value isn't a number.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(&self.measured)? + "\n")
    }

    /// The table for people.
    pub fn to_table(&self) -> String {
        let mut text = String::from(
            "Medians; ratio = ours / peer. Better is MORE for MB/s, % and well, and LESS for all others.\n\
             Ranges are [ours] [peer].\n\n",
        );
        let _ = writeln!(text, "{}", head());
        for figure in &self.measured {
            let _ = writeln!(text, "{}", line(figure));
        }
        for (word, list) in [("SKIPPED", &self.skipped), ("FAILED", &self.failed)] {
            for (name, why) in list {
                let _ = writeln!(text, "{word} {name}: {}", why.lines().next().unwrap_or_default());
            }
        }
        text
    }
}

fn head() -> String {
    format!(
        "{:66} {:>9} {:8} {:>9} {:>7} {:6}  {:44} ranges",
        "figure", "ours", "unit", "peer's", "ratio", "better", "peer"
    )
}

fn line(figure: &Figure) -> String {
    format!(
        "{:66} {:>9} {:8} {:>9} {:>7} {:6}  {:44} {}",
        figure.name,
        short(figure.ours),
        figure.unit,
        short(figure.peer_value),
        short(figure.ratio),
        figure.better,
        figure.peer,
        figure.spread
    )
}

fn short(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(f64::midpoint(*sorted.get(sorted.len() / 2 - 1)?, *upper))
}

fn range(samples: &[f64]) -> String {
    let sorted = sorted(samples);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => format!("{}-{} n={}", short(*least), short(*most), sorted.len()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn nothing_goes_missing_silently() {
        let mut figures = Figures::new("wipe");
        assert!(!figures.complete(), "no figure is no result");
        assert!(figures.wants("wipe rate") && !figures.wants("list"));
        figures.skip("list", "not asked for");
        figures.skip("wipe peak", "no loop device");
        assert!(
            !figures.wants("wipe peak") && figures.to_table().contains("SKIPPED wipe peak: no loop device")
        );
        figures.record("wipe rate", Unit::MegabytesPerSecond, &[200.0], "dd", &[100.0]);
        assert!(figures.complete());
        let json: serde_json::Value = serde_json::from_str(&figures.to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{
                "name": "wipe rate", "ours": 200.0, "unit": "MB/s", "peer": "dd", "peer_value": 100.0, "ratio": 2.0
            }])
        );
        figures.fail("wipe other", "broke\nall of it");
        assert!(!figures.complete() && figures.to_table().contains("FAILED wipe other: broke\n"));
    }
}
