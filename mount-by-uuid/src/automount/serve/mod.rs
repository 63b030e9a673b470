//! The threads that serve an automount.
//!
//! The reader takes requests from the pipe, or from the relay that reads the pipe, and never does anything slow. Workers, one to a name, call the keeper. The
//! expirer asks the kernel every second for idle names while anything is mounted; the kernel tells them by requests
//! through the pipe and lets the expirer wait until those are answered, hence a thread of its own.
//!
//! One lock guards the state. It is never held while the keeper is called, or the kernel for something that may take
//! time.

mod call;
mod work;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use call::{call, no_thread};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::attach::{Attached, AutofsError};
use super::deadline::until;
use super::keeper::{Asker, Keeper, Refusal, UNSERVED};
use super::kernel::Kernel;
use super::link::Link;
use super::locking::lock;
use super::names::{Names, Waiter, Want};
use super::packet::{PACKET_MAX, Packet, Token, Unserved};
use crate::device::system::System;
use crate::mount::table::MountTable;

/// How often the kernel is asked for idle names. It measures the time since the last use that it has noticed, and notices
/// a file held open only when it is asked, so asking seldom would end up unmounting too early and too late.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Where a job's result goes.
enum Answer {
    /// To those who wait in the kernel.
    Kernel(Token),
    /// To a thread of this process.
    Local(Sender<Result<(), Refusal>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::automount) enum Phase {
    /// Everything is served (or will be, once there are threads).
    Serving,
    /// Nothing new is mounted, but unmounting is possible.
    Refusing,
    /// The threads are to end, or have.
    Stopped,
    /// The kernel hung up.
    Lost,
}

struct State {
    phase: Phase,
    keeper: Option<Arc<dyn Keeper>>,
    names: Names<Answer>,
    /// Jobs that no worker has taken yet.
    line: VecDeque<(OsString, Want)>,
    workers: usize,
}

/// An automount being served.
pub(in crate::automount) struct Service {
    pub(in crate::automount) kernel: Kernel,
    pub(in crate::automount) dir: PathBuf,
    pub(in crate::automount) answer_within: Duration,
    state: Mutex<State>,
    /// Notified when names are mounted or unmounted, jobs end, or the phase changes.
    changed: Condvar,
    /// Wakes the reader to end.
    wake: EventFd,
    /// Where to say which requests were answered, if they come by a relay.
    pub(in crate::automount) link: Option<Link>,
    system: System,
}

/// The threads of a service that live until it is stopped.
pub(in crate::automount) struct Threads {
    pub(in crate::automount) expirer: JoinHandle<()>,
    pub(in crate::automount) reader: JoinHandle<()>,
}

impl Service {
    pub(in crate::automount) fn new(
        attached: Attached,
        link: Option<Link>,
        system: System,
        answer_within: Duration,
    ) -> Result<(Service, OwnedFd), AutofsError> {
        let Attached { dir, kernel, pipe, inherited } = attached;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = wake.map_err(|errno| AutofsError::Resources {
            dir: dir.clone(),
            what: "file descriptors",
            source: errno.into(),
        })?;
        let mut names = Names::new();
        for name in &inherited {
            names.inherit(name);
        }
        let state = State { phase: Phase::Serving, keeper: None, names, line: VecDeque::new(), workers: 0 };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok((Service { kernel, dir, answer_within, state, changed, wake, link, system }, pipe))
    }

    pub(in crate::automount) fn start(
        self: &Arc<Service>,
        pipe: OwnedFd,
        keeper: Arc<dyn Keeper>,
    ) -> io::Result<Threads> {
        // The kernel marks this file when mounts change (proc_pid_mounts(5)).
        let mounts = File::open(self.system.mounts_below("mountinfo"))?;
        lock(&self.state).keeper = Some(keeper);
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let service = Arc::clone(self);
        let expirer = thread("autofs-expire").spawn(move || service.expire())?;
        let service = Arc::clone(self);
        let reader = thread("autofs-read").spawn(move || service.read(&pipe, &mounts));
        let reader = reader.inspect_err(|_| self.set_phase(Phase::Stopped))?;
        self.link.iter().for_each(Link::serving);
        Ok(Threads { expirer, reader })
    }

    fn set_phase(&self, phase: Phase) {
        lock(&self.state).phase = phase;
        self.changed.notify_all();
    }

    fn wait_changed<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_changed_for<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    // What the owner asks for.

    pub(in crate::automount) fn mounted(&self) -> Vec<OsString> {
        let names = lock(&self.state).names.mounted();
        names.into_iter().filter(|name| self.kernel.is_mounted(name)).collect()
    }

    /// None if nobody serves.
    pub(in crate::automount) fn ask_and_wait(
        self: &Arc<Service>,
        name: &OsStr,
        want: Want,
    ) -> Option<Result<(), Refusal>> {
        let receiver = {
            let mut state = lock(&self.state);
            if state.phase != Phase::Serving || state.keeper.is_none() {
                return None;
            }
            if want == Want::Unmounted && !state.names.is_known(name) {
                return Some(Ok(()));
            }
            self.ask_locally(&mut state, name, want)
        };
        // The sender is dropped unanswered only if threads can't be started.
        Some(receiver.recv().unwrap_or_else(|_| Err(no_thread())))
    }

    fn ask_locally(
        self: &Arc<Service>,
        state: &mut State,
        name: &OsStr,
        want: Want,
    ) -> Receiver<Result<(), Refusal>> {
        let (sender, receiver) = channel();
        let waiter = Waiter { want, answer: Answer::Local(sender), deadline: None };
        if state.names.ask(name, waiter) {
            self.line_up(state, name, want);
        }
        receiver
    }

    /// Tears a name away by `tear`, and releases whoever waits for it.
    ///
    /// A name at rest counts as being worked on meanwhile, lest it is taken for unmounted by someone else.
    pub(in crate::automount) fn tear_away<T>(&self, name: &OsStr, tear: impl FnOnce() -> T) -> T {
        let at_rest = {
            let mut state = lock(&self.state);
            state.names.is_at_rest(name) && state.names.begin(name, Want::Unmounted)
        };
        let result = tear();
        let mut state = lock(&self.state);
        let released = state.names.release(name);
        if at_rest {
            let mounted = self.kernel.is_mounted(name);
            if !mounted {
                self.clear(name);
            }
            // Nobody waits any more, so there is nothing to answer or to do next.
            state.names.finished(name, Want::Unmounted, mounted);
        }
        drop(state);
        self.changed.notify_all();
        self.answer_all(released, &Err(Refusal::Absent));
        result
    }

    /// Mounts nothing new from now on. Returns the phase for [`Service::go_on`], none if it is over already.
    pub(in crate::automount) fn refuse_requests(&self) -> Option<Phase> {
        let mut state = lock(&self.state);
        let before = state.phase;
        match before {
            Phase::Serving | Phase::Lost => {
                state.phase = Phase::Refusing;
                Some(before)
            }
            Phase::Refusing | Phase::Stopped => None,
        }
    }

    pub(in crate::automount) fn go_on(&self, before: Phase) {
        self.set_phase(before);
    }

    /// Waits until no job is under way, and returns the names that still have one at the deadline.
    pub(in crate::automount) fn wait_for_jobs(&self, deadline: Instant) -> Vec<OsString> {
        let mut state = lock(&self.state);
        loop {
            let busy = state.names.busy();
            let left = deadline.saturating_duration_since(Instant::now());
            if busy.is_empty() || left.is_zero() {
                return busy;
            }
            state = self.wait_changed_for(state, left);
        }
    }

    /// Unmounts every name, and returns those that would not.
    pub(in crate::automount) fn unmount_all(self: &Arc<Service>) -> Vec<(OsString, Refusal)> {
        let asked: Vec<_> = {
            let mut state = lock(&self.state);
            let names = if state.keeper.is_some() { state.names.mounted() } else { Vec::new() };
            names
                .into_iter()
                .map(|name| {
                    let receiver = self.ask_locally(&mut state, &name, Want::Unmounted);
                    (name, receiver)
                })
                .collect()
        };
        let answered = asked.into_iter().map(|(name, receiver)| {
            let result = receiver.recv().unwrap_or_else(|_| Err(no_thread()));
            (name, result)
        });
        answered.filter_map(|(name, result)| Some((name, result.err()?))).collect()
    }

    /// Lets the expirer end, and lets go of the keeper.
    pub(in crate::automount) fn stop(&self) {
        self.set_phase(Phase::Stopped);
        let keeper = lock(&self.state).keeper.take();
        drop(keeper);
    }

    /// Lets the reader end.
    pub(in crate::automount) fn stop_reader(&self) {
        // The counter of an eventfd is full only after 2^64 - 1 calls.
        let _ = self.wake.write(1);
    }

    pub(in crate::automount) fn is_lost(&self) -> bool {
        lock(&self.state).phase == Phase::Lost
    }

    /// Waits for the end, and returns whether it was wished for.
    pub(in crate::automount) fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        while matches!(state.phase, Phase::Serving | Phase::Refusing) {
            state = self.wait_changed(state);
        }
        state.phase == Phase::Stopped
    }

    // The reader.

    fn read(self: Arc<Service>, pipe: &OwnedFd, mounts: &File) {
        loop {
            let deadline = lock(&self.state).names.next_deadline();
            let mut fds = [
                PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(mounts.as_fd(), PollFlags::POLLPRI),
            ];
            let polled = poll(&mut fds, until(deadline));
            let [pipe_ready, wake_ready, mounts_changed] =
                fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            match polled {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return self.lose(),
            }
            if pipe_ready.contains(PollFlags::POLLIN) {
                let mut buffer = [0; PACKET_MAX];
                match nix::unistd::read(pipe, &mut buffer) {
                    Ok(0) => return self.lose(),
                    Ok(length) => self.take(Packet::decode(buffer.get(..length).unwrap_or_default())),
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(_) => return self.lose(),
                }
            } else if wake_ready.contains(PollFlags::POLLIN) {
                return;
            } else if !pipe_ready.is_empty() {
                // The kernel closed its end: someone made the mount catatonic or unmounted it. Or the relay has ended.
                return self.lose();
            }
            if !mounts_changed.is_empty() && !self.is_in_place() {
                return self.lose();
            }
            let overdue = lock(&self.state).names.overdue(Instant::now());
            self.answer_all(overdue, &Err(Refusal::TimedOut));
        }
    }

    /// Tells whether the autofs is still mounted somewhere. While it is open here it would live on without a place.
    fn is_in_place(&self) -> bool {
        let table = MountTable::read(&self.system);
        table.map_or(true, |table| table.mounts_of(self.kernel.devnum()).next().is_some())
    }

    fn lose(&self) {
        let mut state = lock(&self.state);
        if state.phase != Phase::Stopped {
            state.phase = Phase::Lost;
        }
        let waiting = state.names.release_all();
        drop(state);
        self.changed.notify_all();
        self.answer_all(waiting, &Err(Refusal::Interrupted));
        self.link.iter().for_each(|link| link.end(&self.kernel));
    }

    fn take(self: &Arc<Service>, packet: Result<Packet, Unserved>) {
        match packet {
            Ok(Packet::Missing { token, name, asker }) => {
                if let Err(refusal) = self.admit(&name, &asker) {
                    return self.fail(token, refusal.errno());
                }
                let mut state = lock(&self.state);
                if state.phase == Phase::Serving {
                    let deadline = Instant::now().checked_add(self.answer_within);
                    let waiter = Waiter { want: Want::Mounted, answer: Answer::Kernel(token), deadline };
                    if state.names.ask(&name, waiter) {
                        self.line_up(&mut state, &name, Want::Mounted);
                    }
                } else {
                    drop(state);
                    self.fail(token, UNSERVED);
                }
            }
            Ok(Packet::Expire { token, name }) => {
                // Until it has an answer the kernel lets everyone who looks at the name wait, beyond the reach of
                // signals. So it is told at once that the name is in use, which leaves it mounted for now, and the
                // unmounting is done like an eject: it fails if someone came meanwhile.
                self.fail(token, Errno::EBUSY);
                self.unmount_at_rest(&name);
            }
            Err(Unserved(Some(token))) => self.fail(token, Errno::EINVAL),
            Err(Unserved(None)) => {}
        }
    }

    fn admit(&self, name: &OsStr, asker: &Asker) -> Result<(), Refusal> {
        let keeper = lock(&self.state).keeper.clone();
        keeper.map_or(Ok(()), |keeper| call(|| keeper.admit(name, asker)))
    }

    /// Has a name unmounted without anyone waiting for it, unless something is under way.
    fn unmount_at_rest(self: &Arc<Service>, name: &OsStr) {
        let mut state = lock(&self.state);
        if state.names.is_at_rest(name) && state.names.begin(name, Want::Unmounted) {
            self.line_up(&mut state, name, Want::Unmounted);
        }
    }

    // Answers.

    fn fail(&self, token: Token, errno: Errno) {
        // The kernel refuses tokens that it doesn't know: then nobody waits any more.
        let _ = self.kernel.fail(token, errno);
        self.answered(token);
    }

    fn answered(&self, token: Token) {
        self.link.iter().for_each(|link| link.answered(token));
    }

    fn answer(&self, answer: Answer, result: &Result<(), Refusal>) {
        match (answer, result) {
            (Answer::Local(sender), result) => {
                // The thread that asked may have given up.
                let _ = sender.send(result.clone());
            }
            (Answer::Kernel(token), Err(refusal)) => self.fail(token, refusal.errno()),
            (Answer::Kernel(token), Ok(())) => {
                let _ = self.kernel.ready(token);
                self.answered(token);
            }
        }
    }

    fn answer_all(&self, answers: Vec<Answer>, result: &Result<(), Refusal>) {
        for answer in answers {
            self.answer(answer, result);
        }
    }

    // The expirer.

    fn expire(self: Arc<Service>) {
        while self.wait_for_expire_time() {
            self.clean_up_after_others();
            // Each call finds one name, which the kernel then leaves alone for the idle time; the limit is only against
            // a kernel that doesn't.
            for _ in 0..=self.mounted().len() {
                if self.kernel.expire() == Err(Errno::EAGAIN) {
                    break;
                }
            }
        }
    }

    /// Waits while nothing is mounted, then for the interval; false when it is over.
    fn wait_for_expire_time(&self) -> bool {
        let mut state = lock(&self.state);
        let over = |state: &State| matches!(state.phase, Phase::Stopped | Phase::Lost);
        while !over(&state) && !state.names.any_mounted() {
            state = self.wait_changed(state);
        }
        let start = Instant::now();
        loop {
            let left = EXPIRE_EVERY.saturating_sub(start.elapsed());
            if over(&state) || left.is_zero() {
                return !over(&state);
            }
            state = self.wait_changed_for(state, left);
        }
    }

    /// Lets the keeper clean up what someone else has unmounted.
    fn clean_up_after_others(self: &Arc<Service>) {
        let names = lock(&self.state).names.mounted();
        let gone = names.into_iter().filter(|name| !self.kernel.is_mounted(name));
        for name in gone {
            self.unmount_at_rest(&name);
        }
    }
}
