//! What Bacula's Director says. It is asked in a thread of its own, so that `status` never waits for it longer than a
//! moment.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::catalog::Bell;
use super::fleet::Fleet;
use super::say;
use crate::bacula_view::{self, Known};

/// While nothing happens Bacula is asked this often: a job may wait for a drive.
const LOOK: Duration = Duration::from_mins(10);

/// An answer that is older than this is renewed when somebody wants to know.
const FRESH: Duration = Duration::from_secs(1);

/// Timeout for the new answer while somebody waits for it; then the old one has to do.
const PATIENCE: Duration = Duration::from_millis(300);

/// What the Director said when it was asked last.
#[derive(Debug, Default)]
pub(super) struct Director {
    bell: Bell,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// When the question that is under way was asked.
    asked: Option<Instant>,
    /// When the last one ended, and how many there were.
    ended: Option<Instant>,
    count: u64,
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that asks Bacula, and says in the journal when a job waits for a drive that is away.
pub(super) fn start(fleet: Arc<Fleet>) {
    std::thread::spawn(move || {
        let (mut wanted, mut said) = (Vec::new(), None);
        while fleet.director.bell.wait(LOOK) {
            let director = &fleet.director;
            director.state().asked = Some(Instant::now());
            let answer = bacula_view::ask(fleet.root(), &fleet.site());
            let known = {
                let mut state = director.state();
                state.known.update(answer, Timestamp::now());
                (state.asked, state.ended, state.count) = (None, Some(Instant::now()), state.count + 1);
                state.known.clone()
            };
            director.changed.notify_all();
            let error = known.bacula.error;
            if let Some(message) = error.as_ref().filter(|_| error != said) {
                say(message);
            }
            said = error;
            let now = known.waiting.unwrap_or_default();
            for wish in now.iter().filter(|wish| !wish.here && !wanted.contains(*wish)) {
                say(&wish.to_string());
            }
            wanted = now;
        }
    });
}
