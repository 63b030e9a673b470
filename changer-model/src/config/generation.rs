//! The two generations of vchanger.

use std::fmt;

/// Which vchanger a configuration was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Generation {
    /// 0.8.x: bays, a fixed number of slots, volumes at `WORK/N/driveN`.
    V08,
    /// 1.0.x: slots by volume, volumes at `WORK/N`.
    V1,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V08 => "0.8",
            Self::V1 => "1.0",
        })
    }
}
