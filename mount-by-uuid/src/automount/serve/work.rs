//! The workers: what is done with a name.

use std::ffi::OsStr;
use std::sync::Arc;

use super::call::{call, failed, no_thread};
use super::{Service, State};
use crate::automount::keeper::{Keeper, Refusal};
use crate::automount::locking::lock;
use crate::automount::names::Want;
use crate::mount::filesystem::UnmountMode;

/// How many names are worked on at a time; more wait in line.
const WORKERS_MAX: usize = 64;

/// What came of a job.
struct Outcome {
    mounted: bool,
    result: Result<(), Refusal>,
}

impl Service {
    /// Has a job done by a worker: a new one, or the next one free if there are many.
    pub(super) fn line_up(self: &Arc<Service>, state: &mut State, name: &OsStr, want: Want) {
        state.line.push_back((name.to_owned(), want));
        if state.workers >= WORKERS_MAX {
            return;
        }
        let service = Arc::clone(self);
        let worker = std::thread::Builder::new().name("autofs-work".to_owned());
        match worker.spawn(move || service.work()) {
            Ok(_) => state.workers += 1,
            Err(_) if state.workers > 0 => {}
            Err(_) => self.give_up(state),
        }
    }

    /// Without a single thread nothing in line can be done.
    fn give_up(&self, state: &mut State) {
        while let Some((name, want)) = state.line.pop_front() {
            let mounted = want == Want::Unmounted;
            let finished = state.names.finished(&name, want, mounted);
            self.answer_all(finished.answers, &Err(no_thread()));
            state.line.extend(finished.next.map(|next| (name, next)));
        }
    }

    fn work(self: Arc<Service>) {
        let mut state = lock(&self.state);
        while let Some((name, want)) = state.line.pop_front() {
            let keeper = state.keeper.clone();
            drop(state);
            let outcome = match keeper {
                Some(keeper) => self.job(keeper.as_ref(), &name, want),
                None => Outcome { mounted: self.kernel.is_mounted(&name), result: Err(Refusal::Absent) },
            };
            state = lock(&self.state);
            let finished = state.names.finished(&name, want, outcome.mounted);
            state.line.extend(finished.next.map(|next| (name, next)));
            drop(state);
            self.answer_all(finished.answers, &outcome.result);
            self.changed.notify_all();
            state = lock(&self.state);
        }
        state.workers -= 1;
    }

    fn job(&self, keeper: &dyn Keeper, name: &OsStr, want: Want) -> Outcome {
        match want {
            Want::Mounted => self.mount(keeper, name),
            Want::Unmounted => self.unmount(keeper, name),
        }
    }

    fn mount(&self, keeper: &dyn Keeper, name: &OsStr) -> Outcome {
        if self.kernel.is_mounted(name) {
            return Outcome { mounted: true, result: Ok(()) };
        }
        let at = self.dir.join(name);
        let made = self.kernel.make_directory(name);
        let result = match made {
            Ok(()) => call(|| keeper.mount(name, &at)),
            Err(errno) => Err(failed(&format!("can't make its directory: {errno}"))),
        };
        let mut mounted = self.kernel.is_mounted(name);
        let result = match result {
            Ok(()) if !mounted => Err(failed("nothing was mounted")),
            Err(refusal) if mounted => {
                // Nobody must get at something that the keeper has refused.
                mounted = self.system.unmount(&at, UnmountMode::Lazy).is_err();
                Err(refusal)
            }
            result => result,
        };
        if !mounted {
            self.clear(name);
        }
        Outcome { mounted, result }
    }

    fn unmount(&self, keeper: &dyn Keeper, name: &OsStr) -> Outcome {
        let result = call(|| keeper.unmount(name, &self.dir.join(name)));
        let mounted = self.kernel.is_mounted(name);
        let result = if mounted { result.and(Err(Refusal::Busy)) } else { result };
        if !mounted {
            self.clear(name);
        }
        Outcome { mounted, result }
    }

    pub(super) fn clear(&self, name: &OsStr) {
        // A directory that can't be removed is empty, and so a trap for the next visitor all the same.
        let _ = self.kernel.remove_directory(name);
    }
}
