//! The thread that asks Bacula's Director.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::fleet::Fleet;
use super::journal::say;
use crate::bacula::view;

/// While nothing happens Bacula is asked this often: a job may wait for a drive.
pub(crate) const LOOK: Duration = Duration::from_mins(10);

/// Starts the thread that asks Bacula, and says in the journal when a job waits for a drive that is away.
pub(super) fn start(fleet: Arc<Fleet>) {
    std::thread::spawn(move || {
        let (mut wanted, mut said) = (Vec::new(), None);
        while fleet.director.bell.wait(LOOK) {
            let director = &fleet.director;
            director.state().asked = Some(Instant::now());
            let answer = view::ask(fleet.root(), &fleet.site());
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
