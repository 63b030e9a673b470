//! Who waits for which name: the bookkeeping of an automount, without threads, clock or kernel.
//!
//! A name is idle or has one job under way; requests that come meanwhile wait and are answered together by the job that
//! gives them what they want. So mounting by the kernel's request, by the owner's wish, expiring and ejecting the same
//! name never overlap.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

/// What a request wants a name to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Mounted,
    Unmounted,
}

/// A request that waits for an answer.
#[derive(Clone, Debug)]
pub(super) struct Waiter<A> {
    pub(super) want: Want,
    /// Where the answer goes.
    pub(super) answer: A,
    /// When it must have an answer at the latest, even if the job goes on.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug)]
struct Name<A> {
    mounted: bool,
    job: Option<Want>,
    waiters: Vec<Waiter<A>>,
}

/// All names that are mounted, have a job under way, or are waited for.
#[derive(Debug)]
pub(super) struct Names<A> {
    names: BTreeMap<OsString, Name<A>>,
}

/// What is to be done after a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished<A> {
    /// Whom to tell the job's result.
    pub(super) answers: Vec<A>,
    /// The job to start next on the same name.
    pub(super) next: Option<Want>,
}

impl<A> Names<A> {
    pub(super) fn new() -> Names<A> {
        Names { names: BTreeMap::new() }
    }

    fn entry(&mut self, name: &OsStr) -> &mut Name<A> {
        let idle = || Name { mounted: false, job: None, waiters: Vec::new() };
        self.names.entry(name.to_owned()).or_insert_with(idle)
    }

    /// Takes over a name that is mounted already.
    pub(super) fn inherit(&mut self, name: &OsStr) {
        self.entry(name).mounted = true;
    }

    /// Adds a request. True if the caller has to start the job that it wants.
    pub(super) fn ask(&mut self, name: &OsStr, waiter: Waiter<A>) -> bool {
        let want = waiter.want;
        self.entry(name).waiters.push(waiter);
        self.begin(name, want)
    }

    /// Marks a job as under way, for which nobody need wait. False if another one is.
    pub(super) fn begin(&mut self, name: &OsStr, want: Want) -> bool {
        let entry = self.entry(name);
        let idle = entry.job.is_none();
        if idle {
            entry.job = Some(want);
        }
        idle
    }

    /// Tells whether the name is mounted or has a job under way.
    pub(super) fn is_known(&self, name: &OsStr) -> bool {
        self.names.contains_key(name)
    }

    /// Tells whether the name is mounted and nothing is under way.
    pub(super) fn is_at_rest(&self, name: &OsStr) -> bool {
        self.names.get(name).is_some_and(|entry| entry.mounted && entry.job.is_none())
    }

    /// Takes note that the job `done` has ended, with the name `mounted` or not.
    pub(super) fn finished(&mut self, name: &OsStr, done: Want, mounted: bool) -> Finished<A> {
        let entry = self.entry(name);
        entry.mounted = mounted;
        let served = entry.waiters.extract_if(.., |waiter| waiter.want == done);
        let answers = served.map(|waiter| waiter.answer).collect();
        entry.job = entry.waiters.first().map(|waiter| waiter.want);
        let next = entry.job;
        if next.is_none() && !mounted {
            self.names.remove(name);
        }
        Finished { answers, next }
    }

    /// Removes and returns all requests for a name. Its job goes on.
    pub(super) fn release(&mut self, name: &OsStr) -> Vec<A> {
        let waiters = self.names.get_mut(name).map(|entry| std::mem::take(&mut entry.waiters));
        waiters.into_iter().flatten().map(|waiter| waiter.answer).collect()
    }

    /// Removes and returns all requests. Jobs go on.
    pub(super) fn release_all(&mut self) -> Vec<A> {
        let waiters = self.names.values_mut().flat_map(|entry| std::mem::take(&mut entry.waiters));
        waiters.map(|waiter| waiter.answer).collect()
    }

    /// Removes and returns the requests whose time is over at `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<A> {
        let late = |waiter: &mut Waiter<A>| waiter.deadline.is_some_and(|deadline| deadline <= now);
        let entries = self.names.values_mut();
        entries.flat_map(|entry| entry.waiters.extract_if(.., late)).map(|waiter| waiter.answer).collect()
    }

    /// The earliest time at which [`Names::overdue`] will have something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.names.values().flat_map(|entry| &entry.waiters).filter_map(|waiter| waiter.deadline).min()
    }

    /// The names that are mounted, whether or not a job is under way.
    pub(super) fn mounted(&self) -> Vec<OsString> {
        self.names.iter().filter(|(_, entry)| entry.mounted).map(|(name, _)| name.clone()).collect()
    }

    /// The names with a job under way.
    pub(super) fn busy(&self) -> Vec<OsString> {
        self.names.iter().filter(|(_, entry)| entry.job.is_some()).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn any_mounted(&self) -> bool {
        self.names.values().any(|entry| entry.mounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Duration;

    fn waiter(want: Want, answer: u32) -> Waiter<u32> {
        Waiter { want, answer, deadline: None }
    }

    #[test]
    fn many_waiters_for_one_name_share_one_job() {
        let mut names = Names::new();
        let name = OsStr::new("a");
        assert!(names.ask(name, waiter(Want::Mounted, 1)));
        assert!(!names.ask(name, waiter(Want::Mounted, 2)));
        assert!(!names.is_at_rest(name));
        let finished = names.finished(name, Want::Mounted, true);
        assert_eq!(finished, Finished { answers: vec![1, 2], next: None });
        assert!(names.is_at_rest(name));
        assert_eq!(names.mounted(), ["a"]);
    }

    #[test]
    fn a_mount_asked_for_during_an_unmount_comes_after_it() {
        let mut names = Names::new();
        let name = OsStr::new("a");
        names.inherit(name);
        assert!(names.ask(name, waiter(Want::Unmounted, 1)));
        assert!(!names.ask(name, waiter(Want::Mounted, 2)));
        let finished = names.finished(name, Want::Unmounted, false);
        assert_eq!(finished, Finished { answers: vec![1], next: Some(Want::Mounted) });
        assert_eq!(names.finished(name, Want::Mounted, true).answers, [2]);
    }

    #[test]
    fn a_failed_mount_leaves_no_trace() {
        let mut names = Names::new();
        let name = OsStr::new("a");
        assert!(names.ask(name, waiter(Want::Mounted, 1)));
        assert_eq!(names.finished(name, Want::Mounted, false).answers, [1]);
        assert!(names.names.is_empty());
    }

    #[test]
    fn a_late_request_is_released_but_its_job_goes_on() {
        let mut names = Names::new();
        let name = OsStr::new("a");
        let now = Instant::now();
        let deadline = now + Duration::from_secs(5);
        assert!(names.ask(name, Waiter { want: Want::Mounted, answer: 1, deadline: Some(deadline) }));
        assert_eq!(names.next_deadline(), Some(deadline));
        assert!(names.overdue(now).is_empty());
        assert_eq!(names.overdue(deadline), [1]);
        assert_eq!(names.next_deadline(), None);
        assert!(!names.ask(name, waiter(Want::Mounted, 2)));
        assert_eq!(names.finished(name, Want::Mounted, true).answers, [2]);
    }

    #[test]
    fn released_requests_are_not_answered_again() {
        let mut names = Names::new();
        let name = OsStr::new("a");
        assert!(names.release(name).is_empty());
        assert!(names.ask(name, waiter(Want::Mounted, 1)));
        assert!(!names.ask(name, waiter(Want::Unmounted, 2)));
        assert_eq!(names.release(name), [1, 2]);
        assert_eq!(names.finished(name, Want::Mounted, true), Finished { answers: Vec::new(), next: None });
        assert!(names.is_at_rest(name));
    }

    #[test]
    fn a_job_begins_only_where_none_is_under_way() {
        let mut names: Names<u32> = Names::new();
        let name = OsStr::new("a");
        names.inherit(name);
        assert!(names.begin(name, Want::Unmounted));
        assert!(!names.begin(name, Want::Unmounted));
        assert_eq!(names.busy(), ["a"]);
        assert_eq!(names.finished(name, Want::Unmounted, false).next, None);
        assert!(!names.any_mounted() && !names.is_known(name));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask { name: u8, mounted: bool },
        Finish { name: u8, mounted: bool },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..3, any::<bool>()).prop_map(|(name, mounted)| Step::Ask { name, mounted }),
            (0u8..3, any::<bool>()).prop_map(|(name, mounted)| Step::Finish { name, mounted }),
        ]
    }

    proptest! {
        /// Every request gets exactly one answer, from a job that wanted the same, and no name has two jobs.
        #[test]
        fn every_request_is_answered_once(steps in prop::collection::vec(any_step(), 0..60)) {
            let mut names = Names::new();
            let mut jobs: HashMap<u8, Want> = HashMap::new();
            let mut open: HashMap<u32, (u8, Want)> = HashMap::new();
            let finish = |names: &mut Names<u32>, jobs: &mut HashMap<u8, Want>,
                              open: &mut HashMap<u32, (u8, Want)>, name: u8, mounted: bool| {
                let Some(done) = jobs.remove(&name) else { return };
                let finished = names.finished(OsStr::new(&name.to_string()), done, mounted);
                for answer in finished.answers {
                    assert_eq!(open.remove(&answer), Some((name, done)));
                }
                if let Some(next) = finished.next {
                    jobs.insert(name, next);
                }
            };
            for (number, step) in (0u32..).zip(steps) {
                match step {
                    Step::Ask { name, mounted } => {
                        let want = if mounted { Want::Mounted } else { Want::Unmounted };
                        open.insert(number, (name, want));
                        if names.ask(OsStr::new(&name.to_string()), waiter(want, number)) {
                            prop_assert_eq!(jobs.insert(name, want), None);
                        }
                    }
                    Step::Finish { name, mounted } => finish(&mut names, &mut jobs, &mut open, name, mounted),
                }
            }
            while let Some(name) = jobs.keys().next().copied() {
                finish(&mut names, &mut jobs, &mut open, name, false);
            }
            prop_assert!(open.is_empty(), "unanswered: {:?}", open);
            prop_assert!(names.names.values().all(|entry| entry.mounted && entry.job.is_none()));
        }
    }
}
