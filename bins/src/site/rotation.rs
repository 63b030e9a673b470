//! `[rotation]` of site.toml: how the drives take turns, and how much is backed up.

use std::fmt;
use std::str::FromStr;

use bacula_conf::{Bacula, Period, Size};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// How the drives take turns; every key can be left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long a drive stays in the dock.
    pub swap_every: Period,
    /// By how much a swap may be late; one swap's time unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Period>,
    /// How many drives take turns; those that are enrolled unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drives: Option<u32>,
    /// What one drive holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drive_size: Option<Size>,
    /// What a full backup takes today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Size>,
    /// What an incremental backup takes today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incremental: Option<Size>,
    /// Days between two full backups; what the schedule says unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_every_days: Option<u32>,
    /// By how many percent the backups grow in a year.
    pub growth_percent: u32,
    /// Days on which nobody swaps drives.
    pub holidays: Vec<Holiday>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            swap_every: Period::weeks(1),
            late: None,
            drives: None,
            drive_size: None,
            full: None,
            incremental: None,
            full_every_days: None,
            growth_percent: 20,
            holidays: Vec::new(),
        }
    }
}

impl Rotation {
    /// The arithmetic of the turns; `enrolled` drives take part unless a number is given.
    pub fn turns(&self, enrolled: usize) -> bacula_conf::Rotation {
        let drives = self.drives.or(u32::try_from(enrolled).ok()).unwrap_or(1).max(1);
        let turns = bacula_conf::Rotation::new(drives, self.swap_every);
        bacula_conf::Rotation { slack: self.late.unwrap_or(turns.slack), ..turns }
    }
}

/// Days between two full backups, by the lines of the schedule.
pub fn full_every(bacula: &Bacula) -> u32 {
    let days = |line: &str| {
        let line = line.to_ascii_lowercase();
        if !line.contains("full") || line.contains("virtualfull") {
            return None;
        }
        let words: Vec<_> = line.split([' ', ',']).collect();
        let is = |names: &[&str]| {
            words.iter().filter(|word| names.iter().any(|name| word.starts_with(name))).count()
        };
        let weekdays = is(&["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);
        let weeks = is(&["1st", "2nd", "3rd", "4th", "5th", "first", "second", "third", "fourth", "last"]);
        let months = words.contains(&"on") || line.contains("monthly");
        let ranges = words.iter().any(|word| word.contains('-'));
        Some(match (months, weeks, weekdays) {
            (true, _, _) => 30,
            (_, 1.., _) if !ranges => 28 / u32::try_from(weeks).unwrap_or(1).max(1),
            (_, _, 0) => 1,
            (_, _, _) if ranges => 1,
            (_, _, several) => 7 / u32::try_from(several).unwrap_or(1).clamp(1, 7),
        })
    };
    bacula.schedule.runs.iter().filter_map(|run| days(run.as_str())).min().unwrap_or(7).max(1)
}

/// A day, or several in a row, on which nobody swaps drives: `2026-12-24` or `2026-12-24..2027-01-06`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holiday {
    /// The first day.
    pub first: Date,
    /// The last day.
    pub last: Date,
}

impl Holiday {
    /// Whether a day is one of them.
    pub fn contains(&self, day: Date) -> bool {
        self.first <= day && day <= self.last
    }
}

impl FromStr for Holiday {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let date = |part: &str| {
            part.trim()
                .parse::<Date>()
                .map_err(|_| format!("{text:?} is no day; write 2026-12-24 or 2026-12-24..2027-01-06"))
        };
        let (first, last) = (date(first)?, date(last)?);
        if first > last {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for Holiday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..{}", self.first, self.last)
        }
    }
}

impl TryFrom<String> for Holiday {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Holiday> for String {
    fn from(holiday: Holiday) -> Self {
        holiday.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_tells_how_often_all_is_saved() {
        let every = |runs: &[&str]| {
            let mut bacula = Bacula::default();
            bacula.schedule.runs = runs.iter().map(|run| run.parse().unwrap()).collect();
            full_every(&bacula)
        };
        assert_eq!(every(&["Level=Full sun at 23:05", "Level=Incremental mon-sat at 23:05"]), 7);
        assert_eq!(every(&["Full 1st sun at 23:05", "Differential 2nd-5th sun at 23:05"]), 28);
        assert_eq!(every(&["Full 1st,3rd sun at 23:05"]), 14);
        assert_eq!(every(&["Full mon-fri at 23:05"]), 1);
        assert_eq!(every(&["Full on 1 at 2:00"]), 30);
        assert_eq!(every(&["Incremental mon-sat at 23:05"]), 7);
    }

    #[test]
    fn a_holiday_is_a_day_or_several() {
        let holiday: Holiday = "2026-12-24..2027-01-06".parse().unwrap();
        assert!(
            holiday.contains("2026-12-31".parse().unwrap())
                && !holiday.contains("2027-01-07".parse().unwrap())
        );
        assert_eq!(holiday.to_string(), "2026-12-24..2027-01-06");
        assert_eq!("2026-12-24".parse::<Holiday>().unwrap().to_string(), "2026-12-24");
        for wrong in ["", "24.12.", "2027-01-06..2026-12-24", "2026-02-30"] {
            assert!(wrong.parse::<Holiday>().is_err(), "{wrong}");
        }
    }
}
