//! How long the console may take.

use std::time::Duration;

/// How long a conversation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Without a word of the console's.
    pub(crate) silence: Duration,
    /// In all.
    pub(crate) total: Duration,
}

impl From<Duration> for Limits {
    fn from(limit: Duration) -> Self {
        Self { silence: limit, total: limit }
    }
}
