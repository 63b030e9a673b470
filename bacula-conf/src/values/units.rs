//! Durations and sizes: strict where a person writes them for us, lenient where Bacula reads them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A duration in whole seconds; a month is 30 days, a quarter 91, a year 365, as Bacula counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

/// A duration or size that can't be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// Not a duration.
    #[error("{text:?} is no duration; write for example \"4 weeks\", \"2 hours\" or \"1 day 12 hours\"")]
    Period {
        /// What was given.
        text: String,
    },
    /// `m` is a month for Bacula and a minute for everybody else.
    #[error("{text:?} is ambiguous (Bacula reads \"m\" as months); write \"min\" or \"months\"")]
    AmbiguousMinute {
        /// What was given.
        text: String,
    },
    /// Not a size.
    #[error(
        "{text:?} is no size; write for example \"10 GiB\" (1024-based), \"10 GB\" (1000-based) or \"4096 bytes\""
    )]
    Size {
        /// What was given.
        text: String,
    },
    /// `10 G` means different things to different programs.
    #[error("{text:?} is ambiguous; write \"GiB\" (1024-based) or \"GB\" (1000-based)")]
    AmbiguousSize {
        /// What was given.
        text: String,
    },
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
const MONTH: u64 = 30 * DAY;
const QUARTER: u64 = 91 * DAY;
const YEAR: u64 = 365 * DAY;

/// Bacula's units in the order in which it tries them; a prefix is enough (`lib/edit.c`, `duration_to_utime`).
const BACULA_PERIODS: [(&str, u64); 10] = [
    ("n", MINUTE),
    ("seconds", 1),
    ("months", MONTH),
    ("minutes", MINUTE),
    ("mins", MINUTE),
    ("hours", HOUR),
    ("days", DAY),
    ("weeks", WEEK),
    ("quarters", QUARTER),
    ("years", YEAR),
];

/// Bacula's size suffixes (`lib/edit.c`, `size_to_uint64`; measured with `bsdjson` 9.6.7).
const BACULA_SIZES: [(&str, u64); 8] = [
    ("k", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Bacula's suffixes of speeds (`lib/edit.c`, `speed_to_uint64`); `/s` may stand behind them, nothing there is read.
const BACULA_SPEEDS: [(&str, u64); 4] = [("k", 1 << 10), ("kb", 1_000), ("m", 1 << 20), ("mb", 1_000_000)];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("bytes", 1),
];

impl Period {
    /// A number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// A number of hours of 3600 seconds.
    pub const fn hours(hours: u64) -> Self {
        Self(hours * HOUR)
    }

    /// A number of days of 24 hours.
    pub const fn days(days: u64) -> Self {
        Self(days * DAY)
    }

    /// A number of weeks of 7 days.
    pub const fn weeks(weeks: u64) -> Self {
        Self(weeks * WEEK)
    }

    /// The whole in seconds.
    pub const fn as_seconds(self) -> u64 {
        self.0
    }

    /// The sum, or the longest period that can be told.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// This many times the period, or the longest period that can be told.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Reads a duration as Bacula's daemons do: `4 weeks`, `4w`, `5 m` (months!), `90`; `None` where they refuse it.
    pub fn from_bacula(text: &str) -> Option<Self> {
        let mut total = 0.0;
        for (number, unit) in numbers_with_units(text)? {
            let factor = if unit.is_empty() {
                1
            } else {
                BACULA_PERIODS.iter().find(|(name, _)| starts_with_ignore_case(name, unit))?.1
            };
            total += scaled(number, factor)?;
        }
        whole(total).map(Self)
    }
}

impl Size {
    /// A number of bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A number of gibibytes of 1024³ bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The whole in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Reads a speed in bytes a second as Bacula's daemons do: `5 mb/s` is 1000-based, `5 m/s` 1024-based; `None` where
    /// they refuse it.
    pub fn speed_from_bacula(text: &str) -> Option<Self> {
        first_with_unit(text, &BACULA_SPEEDS).map(Self)
    }

    /// Reads a size as Bacula's daemons do: `10G` is 1024-based, `10 GB` 1000-based; `None` where they refuse it.
    pub fn from_bacula(text: &str) -> Option<Self> {
        first_with_unit(text, &BACULA_SIZES).map(Self)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Period { text: text.to_owned() };
        let parts = numbers_with_units(text).ok_or_else(wrong)?;
        let mut total: u64 = 0;
        for (number, unit) in parts {
            let factor = match unit.to_ascii_lowercase().as_str() {
                "s" | "sec" | "secs" | "second" | "seconds" => 1,
                "min" | "mins" | "minute" | "minutes" => MINUTE,
                "h" | "hour" | "hours" => HOUR,
                "d" | "day" | "days" => DAY,
                "w" | "week" | "weeks" => WEEK,
                "month" | "months" => MONTH,
                "quarter" | "quarters" => QUARTER,
                "y" | "year" | "years" => YEAR,
                "m" => return Err(UnitError::AmbiguousMinute { text: text.to_owned() }),
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        }
        Ok(Self(total))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Size { text: text.to_owned() };
        let parts = numbers_with_units(text).ok_or_else(wrong)?;
        let [(number, unit)] = parts.as_slice() else { return Err(wrong()) };
        if matches!(unit.to_ascii_lowercase().as_str(), "k" | "m" | "g" | "t") {
            return Err(UnitError::AmbiguousSize { text: text.to_owned() });
        }
        let unit = if unit.eq_ignore_ascii_case("byte") { "bytes" } else { unit };
        let factor = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl Display for Period {
    /// Writes the longest unit that leaves no rest, in a form that Bacula reads as well.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [("week", WEEK), ("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", 1)];
        let (name, factor) = units
            .into_iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(("second", 1));
        let count = self.0 / factor;
        write!(f, "{count} {name}{}", if count == 1 { "" } else { "s" })
    }
}

impl Display for Size {
    /// Writes the largest unit that leaves no rest.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, factor) = SIZES
            .into_iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(("bytes", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

macro_rules! as_string {
    ($($type:ty),*) => { $(
        impl TryFrom<String> for $type {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )* };
}
as_string!(Period, Size);

/// Splits `1 day 2 hours` into numbers and the letters behind them; `None` if it is anything else.
fn numbers_with_units(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let after = after.trim_start();
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if number.is_empty() {
            return None;
        }
        parts.push((number, unit));
        rest = next.trim_start();
    }
    (!parts.is_empty()).then_some(parts)
}

/// The first number of a text times its unit; what stands behind the unit's letters is not read (`lib/edit.c`,
/// `strunit_to_uint64`).
fn first_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, rest) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let rest = rest.trim_start();
    let unit = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    let factor = match unit {
        "" => 1,
        _ => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    whole(scaled(number, factor)?)
}

fn starts_with_ignore_case(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Multiplies as Bacula does, in floating point.
fn scaled(number: &str, factor: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "factors are small, or powers of two")]
    let factor = factor as f64;
    // A point alone makes no number (`is_a_number` of `lib/edit.c`), which Rust is lenient about.
    let number = number.strip_prefix('.').map_or(Some(number), |_| None)?;
    Some(number.parse::<f64>().ok()? * factor)
}

fn whole(number: f64) -> Option<u64> {
    if !(0.0..9.0e18).contains(&number) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values printed by `bsdjson` 9.6.7 for `Volume Poll Interval` and `Maximum File Size`.
    #[test]
    fn reads_units_as_bacula_does() {
        let period = |text| Period::from_bacula(text).map(Period::as_seconds);
        assert_eq!(period("5 m"), Some(12_960_000));
        assert_eq!(period("5 mi"), Some(300));
        assert_eq!(period("5 n"), Some(300));
        assert_eq!(period("1d"), Some(86_400));
        assert_eq!(period("1 day 2 hours 3 min"), Some(93_780));
        assert_eq!(period("1.5 h"), Some(5_400));
        assert_eq!(period("1 q"), Some(7_862_400));
        assert_eq!(period("1y"), Some(31_536_000));
        assert_eq!(period("4 weeks"), Some(2_419_200));
        assert_eq!(period("90"), Some(90));
        assert_eq!(period("7 foo"), None);
        assert_eq!(period("-5"), None);
        let size = |text| Size::from_bacula(text).map(Size::as_bytes);
        assert_eq!(size("10k"), Some(10_240));
        assert_eq!(size("10kb"), Some(10_000));
        assert_eq!(size("10 K"), Some(10_240));
        assert_eq!(size("10 GB"), Some(10_000_000_000));
        assert_eq!(size("1.5g"), Some(1_610_612_736));
        assert_eq!(size("10MiB"), None);
        assert_eq!(size("1000 b"), None);
        let speed = |text| Size::speed_from_bacula(text).map(Size::as_bytes);
        assert_eq!(speed("5mb/s"), Some(5_000_000));
        assert_eq!(speed("5 m/s"), Some(5 << 20));
        assert_eq!(speed("300"), Some(300));
        assert_eq!(speed("5 g/s"), None);
    }

    #[test]
    fn people_have_to_be_clear() {
        assert_eq!("4 weeks".parse(), Ok(Period::weeks(4)));
        assert_eq!("1 day 12 hours".parse(), Ok(Period::hours(36)));
        assert_eq!("5 m".parse::<Period>(), Err(UnitError::AmbiguousMinute { text: "5 m".into() }));
        assert!("5".parse::<Period>().is_err());
        assert!("999999999999999999 years".parse::<Period>().is_err());
        assert_eq!("10 GiB".parse(), Ok(Size::gib(10)));
        assert_eq!("10 GB".parse(), Ok(Size::bytes(10_000_000_000)));
        assert_eq!("10 G".parse::<Size>(), Err(UnitError::AmbiguousSize { text: "10 G".into() }));
        assert!("ten GB".parse::<Size>().is_err());
    }

    proptest! {
        #[test]
        fn printing_loses_nothing(number in 0..u64::MAX / 2) {
            prop_assert_eq!(Period(number).to_string().parse(), Ok(Period(number)));
            prop_assert_eq!(Size(number).to_string().parse(), Ok(Size(number)));
        }

        #[test]
        fn bacula_reads_what_we_print(number in 0..1u64 << 50) {
            prop_assert_eq!(Period::from_bacula(&Period(number).to_string()), Some(Period(number)));
        }
    }
}
