//! What Bacula's Director says. It is asked in a thread of its own, so that `status` never waits for it longer than a
//! moment.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::notifier::Bell;
use crate::bacula::view::Known;

/// An answer that is older than this is renewed when somebody wants to know.
const FRESH: Duration = Duration::from_secs(1);

/// Timeout for the new answer while somebody waits for it; then the old one has to do.
const PATIENCE: Duration = Duration::from_millis(300);

/// What the Director said when it was asked last.
#[derive(Debug, Default)]
pub(super) struct Director {
    pub(super) bell: Bell,
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) known: Known,
    /// When the question that is under way was asked.
    pub(super) asked: Option<Instant>,
    /// When the last one ended, and how many there were.
    pub(super) ended: Option<Instant>,
    pub(super) count: u64,
}

impl Director {
    /// Has Bacula asked.
    pub(super) fn ask(&self) {
        self.bell.ring();
    }

    /// Ends the thread that asks.
    pub(super) fn stop(&self) {
        self.bell.stop();
    }

    /// What Bacula says, or said: a new answer is waited for only for a moment, and not at all where one is overdue.
    pub(super) fn known(&self) -> Known {
        let state = self.state();
        if state.ended.is_some_and(|ended| ended.elapsed() < FRESH)
            || state.asked.is_some_and(|asked| asked.elapsed() > PATIENCE)
        {
            return state.known.clone();
        }
        self.bell.ring();
        let before = state.count;
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.count == before);
        waited.unwrap_or_else(PoisonError::into_inner).0.known.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
