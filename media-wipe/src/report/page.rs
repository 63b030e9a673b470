//! The report as a page for a person.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::outcome::{Outcome, Report, Verification};
use super::verify::Verify;
use crate::io::profile::Zone;
use crate::io::region::Region;
use crate::stream::keystream::Generator;

impl Report {
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
            Outcome::Cancelled if self.is_filled() => {
                "CANCELLED, the drive is overwritten but not verified as asked"
            }
            Outcome::Cancelled => "CANCELLED, the drive is overwritten in part only",
            Outcome::Failed => "FAILED",
        };
        let identity = &self.identity;
        writeln!(page, "Erasure report: {outcome}\n")?;
        writeln!(page, "Drive          {}", one_line(identity.device.display()))?;
        writeln!(page, "Serial number  {}", one_line(&identity.id))?;
        writeln!(page, "Model          {}", one_line(identity.model.as_deref().unwrap_or("not shown")))?;
        if let Some(link) = &identity.by_id {
            writeln!(page, "Link           {}", one_line(link.display()))?;
        }
        writeln!(page, "Size           {} ({} bytes)", decimal_bytes(self.size_bytes), self.size_bytes)?;
        writeln!(page, "Held before    {}", one_line(&identity.contents))?;
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
        for (when, account) in self.health.lines() {
            writeln!(page, "SMART {when:<9}{}", one_line(account))?;
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
            writeln!(page, "Error          {}", one_line(error))?;
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
        let damaged = !verification.mismatches.is_empty() || !verification.unreadable.is_empty();
        let result = match verification {
            _ if damaged => "NOT as written",
            Verification { ok: true, .. } => "all as written",
            Verification { bytes, total_bytes, .. } if bytes < total_bytes => {
                "in part, all as written so far"
            }
            _ => "as written, all but what is unwritable",
        };
        writeln!(
            page,
            "Verified       {result}: {} of {} bytes read back, {mode}, at {}",
            verification.bytes,
            verification.total_bytes,
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

/// What a drive or a program says of itself: it makes no line of its own, nor does it steer a terminal.
fn one_line(said: impl Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    said.to_string().chars().map(escape).collect()
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
        let worst = zone.slowest_second.map(|worst| format!(", slowest second {}", rate(worst)));
        let slow = if zone.slow { ", SLOW" } else { "" };
        writeln!(
            page,
            "{:>20}  {:<40}  {}{}{slow}",
            zone.offset,
            "#".repeat(columns.min(40)),
            rate(speed),
            worst.unwrap_or_default()
        )?;
    }
    let slow = zones.iter().filter(|zone| zone.slow).count();
    if slow > 0 {
        writeln!(page, "Slow zones     {slow}, less than half as fast as those around: watch this drive")?;
    }
    Ok(())
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
    fn what_a_drive_says_of_itself_makes_no_line() {
        assert_eq!(one_line("X\nOutcome  fine\x1b[2J"), "X\\nOutcome  fine\\u{1b}[2J");
        assert_eq!(one_line("Größe 1"), "Größe 1");
    }

    #[test]
    fn a_slow_zone_is_named() {
        let zone = |offset, speed, slow| Zone {
            offset,
            length: 1000,
            bytes_per_second: Some(speed),
            slowest_second: Some(speed / 2.0),
            slow,
        };
        let (good, bad) = (zone(0, 2e8, false), zone(1000, 2e7, true));
        let mut page = String::new();
        write_profile(&mut page, "Writing", &[&good, &bad]).unwrap();
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[1], "Writing over the drive, 20 MB/s to 200 MB/s");
        assert!(lines[2].ends_with("  200 MB/s, slowest second 100 MB/s"), "{page}");
        assert!(
            lines[3].ends_with(
                " ####                                      20 MB/s, slowest second 10 MB/s, SLOW"
            ),
            "{page}"
        );
        assert!(lines[4].starts_with("Slow zones     1,"), "{page}");
    }
}
