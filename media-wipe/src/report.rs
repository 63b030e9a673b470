//! What was done to a drive, for a program and for a person.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::stream::Generator;
use crate::verify::Verify;

/// A stretch of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Region {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

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

/// The rate over one stretch of the drive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Zone {
    /// The stretch.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Mean rate in bytes per second; `None` where nothing was measured, as in a part that an earlier run wrote.
    pub bytes_per_second: Option<f64>,
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

/// What a drive says about its health, in the JSON of `smartctl --json --all` (smartmontools 7).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Before the first write.
    pub before: Option<serde_json::Value>,
    /// After verifying.
    pub after: Option<serde_json::Value>,
}

/// The ATA attributes that count sectors lost or about to be: reallocated, pending, uncorrectable.
const SECTOR_COUNTS: [u64; 3] = [5, 197, 198];

impl Health {
    /// What a page says about one account: the verdict and the counts of bad sectors.
    fn words(account: &serde_json::Value) -> String {
        let verdict = match account.pointer("/smart_status/passed").and_then(serde_json::Value::as_bool) {
            Some(true) => "passed",
            Some(false) => "FAILING",
            None => "no verdict",
        };
        let table = account.pointer("/ata_smart_attributes/table").and_then(serde_json::Value::as_array);
        let number =
            |entry: &serde_json::Value, place: &str| entry.pointer(place).and_then(serde_json::Value::as_u64);
        let counts: String = table
            .into_iter()
            .flatten()
            .filter(|entry| number(entry, "/id").is_some_and(|id| SECTOR_COUNTS.contains(&id)))
            .filter_map(|entry| Some((entry.get("name")?.as_str()?, number(entry, "/raw/value")?)))
            .fold(String::new(), |words, (name, count)| words + ", " + name + " " + &count.to_string());
        format!("{verdict}{counts}")
    }
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
}

impl Report {
    /// Says whether all was written, flushed, and verified as asked.
    pub fn is_complete(&self) -> bool {
        self.outcome == Outcome::Complete
    }

    /// Writes the report as a page to read and file.
    pub fn to_text(&self) -> String {
        let mut page = String::new();
        // Writing to a string can't fail.
        let _ = self.write_page(&mut page);
        page
    }

    fn write_page(&self, page: &mut String) -> std::fmt::Result {
        let outcome = match self.outcome {
            Outcome::Complete => "COMPLETE",
            Outcome::Cancelled => "CANCELLED, the drive is overwritten in part only",
            Outcome::Failed => "FAILED",
        };
        let identity = &self.identity;
        writeln!(page, "Erasure report: {outcome}\n")?;
        writeln!(page, "Drive          {}", identity.device.display())?;
        writeln!(page, "Serial number  {}", identity.id)?;
        writeln!(page, "Model          {}", identity.model.as_deref().unwrap_or("not shown"))?;
        if let Some(link) = &identity.by_id {
            writeln!(page, "Link           {}", link.display())?;
        }
        writeln!(page, "Size           {} ({} bytes)", decimal_bytes(self.size_bytes), self.size_bytes)?;
        writeln!(page, "Held before    {}", identity.contents)?;
        writeln!(page, "Started        {:.0}", self.started)?;
        writeln!(page, "Finished       {:.0}", self.finished)?;
        writeln!(page, "Duration       {}", clock(self.seconds))?;
        let generator = match self.generator {
            Generator::Aes256Ctr => "AES-256 in counter mode",
            Generator::ChaCha20 => "ChaCha20",
        };
        writeln!(
            page,
            "Written        {} bytes of {generator} at {}",
            self.bytes_written,
            rate(self.mean_bytes_per_second)
        )?;
        if let Some(offset) = self.resumed_from {
            writeln!(page, "Resumed        at byte {offset}")?;
        }
        if !self.direct {
            writeln!(
                page,
                "Note           the filesystem allowed no direct access; reads went through the page cache"
            )?;
        }
        self.write_verification(page)?;
        for (when, account) in [("before", &self.health.before), ("after", &self.health.after)] {
            if let Some(account) = account {
                writeln!(page, "SMART {when:<9}{}", Health::words(account))?;
            }
        }
        for (what, zones) in [
            ("Writing", Some(&self.profile)),
            ("Reading", self.verification.as_ref().map(|verification| &verification.profile)),
        ] {
            let measured: Vec<_> =
                zones.into_iter().flatten().filter(|zone| zone.bytes_per_second.is_some()).collect();
            if !measured.is_empty() {
                write_profile(page, what, &measured)?;
            }
        }
        write_regions(page, "Unwritable", &self.unwritable)?;
        for error in &self.errors {
            writeln!(page, "Error          {error}")?;
        }
        Ok(())
    }

    fn write_verification(&self, page: &mut String) -> std::fmt::Result {
        let Some(verification) = &self.verification else {
            return writeln!(page, "Verified       no");
        };
        let mode = match verification.mode {
            Verify::Full => "every byte".into(),
            Verify::Sample { confidence, damage } => format!(
                "a random sample that finds damage to {:.3} % of the drive with {:.3} % probability",
                damage * 100.0,
                confidence * 100.0
            ),
            Verify::None => return writeln!(page, "Verified       no, as asked"),
        };
        let result = if verification.ok { "all as written" } else { "NOT as written" };
        writeln!(
            page,
            "Verified       {result}: {} bytes read back, {mode}, at {}",
            verification.bytes,
            rate(verification.mean_bytes_per_second)
        )?;
        if verification.by_checksum_bytes > 0 {
            writeln!(
                page,
                "               {} bytes of an earlier run by checksum",
                verification.by_checksum_bytes
            )?;
        }
        write_regions(page, "Differs", &verification.mismatches)?;
        write_regions(page, "Unreadable", &verification.unreadable)
    }
}

/// How many regions a page names one by one.
const NAMED_REGIONS: usize = 20;

fn write_regions(page: &mut String, what: &str, regions: &[Region]) -> std::fmt::Result {
    for region in regions.iter().take(NAMED_REGIONS) {
        writeln!(page, "{what:<15}{} bytes at offset {}", region.length, region.offset)?;
    }
    let more = regions.len().saturating_sub(NAMED_REGIONS);
    if more > 0 {
        writeln!(page, "{:<15}and {more} more", "")?;
    }
    Ok(())
}

fn write_profile(page: &mut String, what: &str, zones: &[&Zone]) -> std::fmt::Result {
    let rates = || zones.iter().filter_map(|zone| zone.bytes_per_second);
    let (slowest, fastest) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
    writeln!(page, "\n{what} over the drive, {} to {}", rate(slowest), rate(fastest))?;
    for zone in zones {
        let Some(speed) = zone.bytes_per_second else { continue };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 40 columns")]
        let columns = (speed / fastest * 40.0).round() as usize;
        writeln!(page, "{:>20}  {:<40}  {}", zone.offset, "#".repeat(columns.min(40)), rate(speed))?;
    }
    writeln!(page)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn decimal_bytes(bytes: u64) -> String {
    scaled(bytes as f64)
}

fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", scaled(bytes_per_second))
}

fn scaled(mut value: f64) -> String {
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = if value < 10.0 { 2 } else { 0 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.2} TB")
}

fn clock(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

/// Rates over the stretches of a drive, from how far the work is and when.
pub(crate) struct Profile {
    size: u64,
    at: u64,
    pending: Duration,
    zones: Vec<(u64, f64)>,
}

/// Into how many stretches a drive is cut.
const ZONES: u64 = 32;

impl Profile {
    pub(crate) fn new(size: u64, start: u64) -> Self {
        Self {
            size,
            at: start,
            pending: Duration::ZERO,
            zones: vec![(0, 0.0); usize::try_from(ZONES).unwrap_or(32)],
        }
    }

    fn bound(&self, index: u64) -> u64 {
        u64::try_from(u128::from(self.size) * u128::from(index) / u128::from(ZONES)).unwrap_or(self.size)
    }

    /// Takes note that everything before `offset` is done, `elapsed` after the last call.
    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(crate) fn advance(&mut self, offset: u64, elapsed: Duration) {
        self.pending += elapsed;
        if offset <= self.at {
            return;
        }
        let (from, span, seconds) = (self.at, (offset - self.at) as f64, self.pending.as_secs_f64());
        for index in 0..ZONES {
            let part = offset.min(self.bound(index + 1)).saturating_sub(from.max(self.bound(index)));
            if part > 0
                && let Some((bytes, time)) =
                    usize::try_from(index).ok().and_then(|index| self.zones.get_mut(index))
            {
                *bytes += part;
                *time += seconds * part as f64 / span;
            }
        }
        self.at = offset;
        self.pending = Duration::ZERO;
    }

    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(crate) fn zones(&self) -> Vec<Zone> {
        (0..ZONES)
            .zip(&self.zones)
            .map(|(index, (bytes, seconds))| {
                let offset = self.bound(index);
                let bytes_per_second = (*bytes > 0 && *seconds > 0.0).then(|| *bytes as f64 / seconds);
                Zone { offset, length: self.bound(index + 1) - offset, bytes_per_second }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!(scaled(512.0), "512 B");
        assert_eq!(scaled(6_400_000.0), "6.40 MB");
        assert_eq!(scaled(20e12), "20.00 TB");
        assert_eq!(clock(93_784.4), "26:03:04");
    }

    #[test]
    fn health_is_a_verdict_and_three_counts() {
        let account = serde_json::json!({
            "smart_status": {"passed": true},
            "ata_smart_attributes": {"table": [
                {"id": 5, "name": "Reallocated_Sector_Ct", "raw": {"value": 8}},
                {"id": 9, "name": "Power_On_Hours", "raw": {"value": 900}},
                {"id": 197, "name": "Current_Pending_Sector", "raw": {"value": 0}},
            ]},
        });
        assert_eq!(Health::words(&account), "passed, Reallocated_Sector_Ct 8, Current_Pending_Sector 0");
        assert_eq!(Health::words(&serde_json::Value::Null), "no verdict");
    }

    #[test]
    fn a_slow_zone_shows() {
        let mut profile = Profile::new(3200, 0);
        profile.advance(1600, Duration::from_secs(16));
        profile.advance(1600, Duration::from_secs(9));
        profile.advance(1700, Duration::from_secs(1));
        profile.advance(3200, Duration::from_secs(15));
        let zones = profile.zones();
        assert_eq!(zones.iter().map(|zone| zone.length).sum::<u64>(), 3200);
        assert_eq!(zones[15].bytes_per_second, Some(100.0));
        assert_eq!(zones[16].bytes_per_second, Some(10.0));
        assert_eq!(zones[31].bytes_per_second, Some(100.0));
    }

    #[test]
    fn a_resumed_part_has_no_rate() {
        let mut profile = Profile::new(3200, 1600);
        profile.advance(3200, Duration::from_secs(16));
        assert_eq!(profile.zones()[15].bytes_per_second, None);
        assert_eq!(profile.zones()[16].bytes_per_second, Some(100.0));
    }
}
