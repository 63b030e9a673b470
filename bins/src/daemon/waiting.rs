//! What a person is told while a drive is worked on for long, and when waiting is given up.
//!
//! A drive that fails may take minutes for each request, and what waits for it in the kernel can't be ended. So the work
//! has a thread of its own, and whoever asked for it hears every few seconds how it stands, by the kernel's counters. When
//! nothing has come back for [`GIVE_UP`], the person is let go; the work goes on, and `offsite status` tells its end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use mount_by_uuid::Activity;

use super::drive::{Doing, Drive};
use super::fleet::Fleet;
use crate::base::failure::{Exit, Failure};
use crate::protocol::site_status::Problem;

/// Work on the magazine that a word names.
pub(super) type Work = fn(&Arc<Fleet>, &str) -> Result<String, Failure>;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What takes no longer than this needs no word.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// The pause between two words.
const WORDS: Duration = Duration::from_secs(5);

/// A drive that answers nothing for this long is said to answer nothing.
const SILENT: Duration = Duration::from_secs(5);

/// Maximum time in which nothing comes back. It is longer than the kernel's own timeout for one request (30 s) and the
/// resets that follow it.
const GIVE_UP: Duration = Duration::from_mins(2);

/// What to do with a drive that answers nothing.
const PULL: &str =
    "wait; if it never answers, pull it: what has not reached it is lost, and it is checked at its next plug";

/// Has `work` done in a thread of its own, and says meanwhile what it waits for.
///
/// # Errors
/// When nobody hears any more; the work goes on.
pub(super) fn attend(
    fleet: &Arc<Fleet>,
    magazine: &str,
    work: Work,
    mut tell: impl FnMut(String) -> io::Result<()>,
) -> io::Result<Result<String, Failure>> {
    let drive = match fleet.drive(magazine) {
        Ok(drive) => drive,
        Err(failure) => return Ok(Err(failure)),
    };
    let (send, done) = mpsc::channel();
    let (at_work, name, known) = (Arc::clone(fleet), magazine.to_owned(), Arc::clone(&drive));
    std::thread::Builder::new().name("work".to_owned()).spawn(move || {
        let done = work(&at_work, &name);
        known.note(|seen| seen.silent = None);
        if let Err(mpsc::SendError(Err(failure))) = send.send(done) {
            known.warn(&failure.to_string()); // nobody waits for it any more
        }
    })?;
    let started = Instant::now();
    let mut watch = Watch::new(started);
    let mut next_word = started + FIRST_WORD;
    loop {
        match done.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err(Failure::new(Exit::Failed, "the work on the drive broke off")
                    .hint("offsited's journal says why: journalctl -u offsited")));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        let state = watch.look(now, look(fleet, &drive));
        let silent = state.is_silent().then(silent);
        drive.note(|seen| seen.silent = if seen.doing.is_some() { silent } else { None });
        if state.is_hopeless() {
            return Ok(Err(state.give_up(&drive.magazine().name)));
        }
        if now >= next_word {
            next_word = now + WORDS;
            tell(format!("{}: {state}", drive.magazine()))?;
        }
    }
}

/// What a person should know meanwhile.
fn silent() -> Problem {
    Problem {
        message: "it answers nothing, and what waits for it in the kernel can't be ended".into(),
        remedy: PULL.into(),
    }
}

/// What is seen of a drive that is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    doing: Option<Doing>,
    activity: Option<Activity>,
}

fn look(fleet: &Fleet, drive: &Drive) -> Look {
    let seen = drive.seen();
    let activity = seen.plugged.and_then(|plugged| fleet.system.activity(plugged.devnum));
    Look { doing: seen.doing, activity }
}

/// Follows a drive's counters.
#[derive(Debug)]
struct Watch {
    started: Instant,
    /// What was written before.
    written_before: Option<u64>,
    last: Option<Look>,
    /// When something last came back from the drive, or other work began.
    heard: Instant,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self { started: now, written_before: None, last: None, heard: now }
    }

    fn look(&mut self, now: Instant, look: Look) -> State {
        let completed = |look: &Look| look.activity.map(|activity| activity.completed);
        if self.last.is_none_or(|last| last.doing != look.doing || completed(&last) != completed(&look)) {
            self.heard = now;
        }
        self.last = Some(look);
        let written = look.activity.map_or(0, |activity| activity.written_bytes);
        let before = *self.written_before.get_or_insert(written);
        State {
            doing: look.doing,
            in_flight: look.activity.is_some_and(|activity| activity.in_flight > 0),
            written_bytes: written.saturating_sub(before),
            waited: now - self.started,
            silent: now - self.heard,
        }
    }
}

/// How work on a drive stands.
#[derive(Debug, Clone, Copy)]
struct State {
    doing: Option<Doing>,
    in_flight: bool,
    written_bytes: u64,
    waited: Duration,
    silent: Duration,
}

impl State {
    fn is_silent(&self) -> bool {
        self.silent >= SILENT && self.in_flight
    }

    /// Whether there is no use in waiting on. A check may compute for long without asking the drive for anything.
    fn is_hopeless(&self) -> bool {
        self.silent >= GIVE_UP && (self.in_flight || self.doing != Some(Doing::Opening))
    }

    fn give_up(&self, name: &str) -> Failure {
        let silent = self.silent.as_secs();
        let (message, hint) = if self.in_flight {
            (
                format!("{name}: the drive has answered nothing for {silent} s"),
                format!(
                    "offsited goes on trying, and `offsite status` tells when the drive is locked; {PULL}"
                ),
            )
        } else {
            (
                format!("{name}: nothing has happened for {silent} s, and the drive has nothing to do"),
                "a frozen filesystem can't be unmounted: fsfreeze --unfreeze thaws it; offsited goes on trying, and \
                 `offsite status` tells when the drive is locked"
                    .to_owned(),
            )
        };
        Failure::new(Exit::TimeLimit, message).hint(hint)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waited = self.waited.as_secs();
        if self.is_silent() {
            let left = GIVE_UP.saturating_sub(self.silent).as_secs();
            return write!(
                f,
                "the drive has answered nothing for {} s; given up in {left} s",
                self.silent.as_secs()
            );
        }
        match self.doing {
            Some(Doing::Opening) => write!(f, "unlocking, checking and mounting it ({waited} s)"),
            Some(Doing::Closing) => write!(
                f,
                "writing what is not on it yet ({} written, {waited} s)",
                crate::base::confirm::size(self.written_bytes)
            ),
            None => write!(f, "until nothing has it open and it stands still ({waited} s)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(doing: Option<Doing>, completed: u64, in_flight: u64) -> Look {
        let written_bytes = completed * 1_000_000;
        Look { doing, activity: Some(Activity { completed, written_bytes, in_flight }) }
    }

    /// A watch that looked at this, and looks at it again after so many seconds.
    fn after(seconds: u64, look: Look) -> State {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.look(start, look);
        watch.look(start + Duration::from_secs(seconds), look)
    }

    #[test]
    fn a_drive_that_answers_is_waited_for_however_long_it_takes() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        for step in 0..4 {
            let now = start + Duration::from_secs(step * 100);
            let state = watch.look(now, seen(Some(Doing::Closing), step, 1));
            assert!(!state.is_hopeless(), "{step}");
            let told = state.to_string();
            let written = crate::base::confirm::size(step * 1_000_000);
            assert_eq!(told, format!("writing what is not on it yet ({written} written, {} s)", step * 100));
        }
    }

    #[test]
    fn a_drive_that_answers_nothing_is_named_and_given_up() {
        let closing = seen(Some(Doing::Closing), 7, 2);
        assert_eq!(
            after(50, closing).to_string(),
            "the drive has answered nothing for 50 s; given up in 70 s"
        );
        assert!(!after(119, closing).is_hopeless());
        let state = after(120, closing);
        assert!(state.is_hopeless());
        let failure = state.give_up("A");
        assert_eq!(failure.exit(), Exit::TimeLimit);
        assert_eq!(failure.message(), "A: the drive has answered nothing for 120 s");
        let frozen = after(120, seen(Some(Doing::Closing), 7, 0));
        assert!(frozen.is_hopeless());
        assert!(frozen.give_up("A").remedy().unwrap().contains("fsfreeze --unfreeze"));
    }

    #[test]
    fn a_check_that_computes_is_not_given_up() {
        let checked = after(3600, seen(Some(Doing::Opening), 7, 0));
        assert!(!checked.is_hopeless());
        assert_eq!(checked.to_string(), "unlocking, checking and mounting it (3600 s)");
        assert!(after(3600, seen(Some(Doing::Opening), 7, 1)).is_hopeless());
    }

    #[test]
    fn other_work_begins_the_time_again() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.look(start, seen(Some(Doing::Closing), 7, 1));
        let state = watch.look(start + Duration::from_secs(200), seen(None, 7, 1));
        assert!(!state.is_hopeless());
        assert_eq!(state.to_string(), "until nothing has it open and it stands still (200 s)");
    }
}
