//! Time limits as poll(2) takes them.

use std::time::Instant;

use nix::poll::PollTimeout;

pub(in crate::automount) fn until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, lest the last fraction of a millisecond is spent in a busy loop.
    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}
