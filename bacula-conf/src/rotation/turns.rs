//! How long drives are on their way, and what that asks of the retention.

use crate::values::units::Period;

/// Drives that take turns: one is at work while the others lie in the safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Number of drives, at least 1.
    pub drives: u32,
    /// How long a drive stays before the next one takes its place.
    pub swap_every: Period,
    /// By how much a swap may be late, e.g. for a holiday.
    pub slack: Period,
}

impl Rotation {
    /// A rotation in which one swap may be left out.
    pub fn new(drives: u32, swap_every: Period) -> Self {
        Self { drives, swap_every, slack: swap_every }
    }

    /// From the day a drive starts its turn to the day it starts the next one.
    ///
    /// # Examples
    /// ```
    /// use bacula_conf::{Period, Rotation};
    ///
    /// assert_eq!(Rotation::new(6, Period::weeks(1)).cycle(), Period::weeks(6));
    /// ```
    pub fn cycle(&self) -> Period {
        self.swap_every.times(u64::from(self.drives.max(1)))
    }

    /// How long a drive lies in the safe between two of its turns.
    pub fn away(&self) -> Period {
        self.swap_every.times(u64::from(self.drives.saturating_sub(1)))
    }

    /// The least retention that prunes no volume before its drive is back: a volume written on the first day of a turn
    /// is last written one cycle before the drive's next turn, and the swap may be late.
    pub fn minimum_retention(&self) -> Period {
        self.cycle().plus(self.slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tutorials_six_drives_need_seven_weeks() {
        let rotation = Rotation::new(6, Period::weeks(1));
        assert_eq!(rotation.cycle(), Period::weeks(6));
        assert_eq!(rotation.away(), Period::weeks(5));
        assert_eq!(rotation.minimum_retention(), Period::weeks(7));
    }

    #[test]
    fn one_drive_never_leaves() {
        let rotation = Rotation { drives: 1, swap_every: Period::days(3), slack: Period::seconds(0) };
        assert_eq!(rotation.away(), Period::seconds(0));
        assert_eq!(rotation.minimum_retention(), Period::days(3));
    }
}
