//! What a worker says to its parent.

/// The worker says that it serves.
pub(crate) const READY: u32 = 1;

/// The worker says that it is alive.
pub(crate) const ALIVE: u32 = 2;
