//! The part of an automount that outlives its server: the kernel's pipe and the list of open requests.
//!
//! A process that dies leaves those who wait for its answers in the kernel, beyond the reach of most signals, and only
//! members of its process group may answer them. A [`Relay`] is held by a parent process that does nothing else. It
//! passes requests to the server through a socket, hears which of them were answered, and fails the others when the
//! server dies. The server has the pipe as well, so that it can do the same when the relay dies.
//!
//! The socket keeps the boundaries of messages (`SOCK_SEQPACKET`). The server gets the kernel's packets as they are
//! (see [`packet`](super::packet)), and sends [`Word`]s back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::unistd::read;

use super::attach::{self, Attached, AutofsError};
use super::deadline::until;
use super::errors::StopError;
use super::hand_over::send_descriptor;
use super::kernel::Kernel;
use super::link::{Word, fail, take_request};
use super::packet::{Token, token_of};
use super::settings::{Access, Stop};
use super::teardown::unmount_root;
use crate::device::system::System;
use crate::mount::table::MountTable;

/// Why a relay can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Someone unmounted the automount or made it catatonic.
    #[error("the automount at {} was taken away", dir.display())]
    Lost {
        /// The mount point.
        dir: PathBuf,
    },
    /// The kernel refused to wait, or to make a socket.
    #[error("can't pass on requests of the automount at {}", dir.display())]
    System {
        /// The mount point.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why [`Relay::pass_on`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// One of the caller's descriptors is readable.
    Woken,
    /// The time is over.
    TimedOut,
    /// The server hung up, and was cut off.
    Gone,
    /// The server said this by [`Automount::tell_relay`](crate::Automount::tell_relay).
    Said(u32),
}

/// The relay's end of the socket.
#[derive(Debug)]
struct Server {
    pub(super) socket: OwnedFd,
    /// It said that it serves.
    serving: bool,
    /// A request that it had no room for yet.
    held: Option<Vec<u8>>,
}

/// An automount point that is kept by one process and served by another, which may die.
///
/// Both must be in one process group, which the kernel takes for the automounter's, so the server is a child of the
/// process that holds the relay. It serves with [`Automount::join`](crate::Automount::join) on the socket that
/// [`Relay::connect`] returned. When it dies, those who wait for its answers get `EAGAIN`, what is mounted stays mounted,
/// and new requests wait for the next server, but no longer than [`Relay::set_patience`] says.
///
/// A relay that is dropped fails all requests and leaves the automount as [`Relay::close`] does with
/// [`Stop::KeepMounts`].
#[derive(Debug)]
pub struct Relay {
    system: System,
    dir: PathBuf,
    pub(super) kernel: Kernel,
    pub(super) pipe: OwnedFd,
    /// Requests that the server has not answered yet.
    open: BTreeSet<Token>,
    server: Option<Server>,
    patience: Duration,
    /// When the last server ceased to serve.
    unserved: Instant,
}

impl Relay {
    /// Mounts an automount on the directory `dir` of the running system, or takes over the one that an earlier process
    /// left there; `source` is the same as in [`AutomountSettings`](crate::AutomountSettings).
    ///
    /// # Errors
    /// See [`Automount::mount`](crate::Automount::mount).
    pub fn mount(system: &System, dir: &Path, source: &str) -> Result<Relay, AutofsError> {
        let Attached { dir, kernel, pipe, inherited: _ } = attach::attach(system, dir, source)?;
        let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(&pipe, flags).map_err(|errno| AutofsError::Resources {
            dir: dir.clone(),
            what: "pipes that don't block",
            source: errno.into(),
        })?;
        Ok(Relay {
            system: system.clone(),
            dir,
            kernel,
            pipe,
            open: BTreeSet::new(),
            server: None,
            patience: Duration::from_secs(3),
            unserved: Instant::now(),
        })
    }

    /// Sets how long a request waits for a server to come, 3 seconds unless set; later it fails with `EAGAIN`.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sets who may look for names, see [`Automount::set_access`](crate::Automount::set_access).
    ///
    /// # Errors
    /// [`AutofsError::Access`] if the kernel refuses.
    pub fn set_access(&self, access: &Access) -> Result<(), AutofsError> {
        let set = self.kernel.set_access(access);
        set.map_err(|errno| AutofsError::Access { dir: self.dir.clone(), source: errno.into() })
    }

    /// The directory, with symbolic links resolved.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a socket for the next server; the one before is cut off as by [`Relay::cut_off`].
    ///
    /// # Errors
    /// [`RelayError::System`].
    pub fn connect(&mut self) -> Result<OwnedFd, RelayError> {
        self.cut_off();
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (socket, theirs) = pair.map_err(|errno| self.system_error(errno))?;
        send_descriptor(socket.as_fd(), self.pipe.as_fd()).map_err(|errno| self.system_error(errno))?;
        self.server = Some(Server { socket, serving: false, held: None });
        Ok(theirs)
    }

    /// Fails every request that the server has not answered, and passes nothing on to it any more. To be called when it
    /// has died or is taken for dead.
    pub fn cut_off(&mut self) {
        if self.server.take().is_some_and(|server| server.serving) {
            self.unserved = Instant::now();
        }
        self.fail_open();
    }

    fn fail_open(&mut self) {
        fail(&self.kernel, std::mem::take(&mut self.open));
    }

    /// Passes requests on until one of the `wakers` is readable, `end` has come, or there is news of the server.
    ///
    /// # Errors
    /// [`RelayError::Lost`], after which only dropping makes sense.
    pub fn pass_on(&mut self, wakers: &[BorrowedFd<'_>], end: Option<Instant>) -> Result<Passed, RelayError> {
        loop {
            let ready = self.wait(wakers, end)?;
            if ready.contains(&Ready::News)
                && let Some(news) = self.hear()
            {
                return Ok(news);
            }
            if ready.contains(&Ready::Waker) {
                return Ok(Passed::Woken);
            }
            if ready.contains(&Ready::Room)
                && let Some(held) = self.server.as_mut().and_then(|server| server.held.take())
            {
                self.forward(held);
            }
            if ready.contains(&Ready::Request) {
                match self.next_request()? {
                    Some(request) if self.is_served() => self.forward(request),
                    Some(_) => self.fail_open(),
                    None => {}
                }
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                return Ok(Passed::TimedOut);
            }
        }
    }

    /// Tells whether the automount is still mounted somewhere.
    pub fn is_in_place(&self) -> bool {
        let table = MountTable::read(&self.system);
        table.map_or(true, |table| table.mounts_of(self.kernel.devnum()).next().is_some())
    }

    /// Ends the service. All requests fail. With [`Stop::Unmount`] the automount itself is unmounted, if nothing is
    /// mounted below it.
    ///
    /// # Errors
    /// [`StopError::Unmount`].
    pub fn close(mut self, stop: Stop) -> Result<(), StopError> {
        self.end();
        let is_empty = || {
            let names = self.kernel.directories();
            names.is_ok_and(|names| !names.iter().any(|name| self.kernel.is_mounted(name)))
        };
        match stop {
            Stop::Unmount if is_empty() => unmount_root(&self.system, &self.dir, self.kernel.devnum())
                .map_err(|source| StopError::Unmount { source }),
            _ => Ok(()),
        }
    }

    fn end(&mut self) {
        while let Ok(Some(_)) = self.next_request() {}
        self.cut_off();
        // Later requests fail by the kernel. If it refuses, it is dead or no automount any more.
        let _ = self.kernel.catatonic();
    }

    fn is_served(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.serving)
    }

    /// Waits for what can be done now.
    fn wait(&self, wakers: &[BorrowedFd<'_>], end: Option<Instant>) -> Result<Vec<Ready>, RelayError> {
        let requests_from = match &self.server {
            Some(server) if server.serving => server.held.is_none().then(Instant::now),
            _ => Some(self.unserved + self.patience),
        };
        let now = Instant::now();
        let takes_requests = requests_from.is_some_and(|from| from <= now);
        let later = requests_from.filter(|_| !takes_requests);
        let mut fds: Vec<_> = wakers.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        // Without the flag for requests only the hanging up of the kernel is told.
        let flags = if takes_requests { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.push(PollFd::new(self.pipe.as_fd(), flags));
        if let Some(server) = &self.server {
            let room = if server.held.is_some() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(server.socket.as_fd(), PollFlags::POLLIN | room));
        }
        match poll(&mut fds, until(later.into_iter().chain(end).min())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(self.system_error(errno)),
        }
        let events = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (pipe, socket) = (events(wakers.len()), events(wakers.len() + 1));
        if pipe.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) && !pipe.contains(PollFlags::POLLIN) {
            return Err(RelayError::Lost { dir: self.dir.clone() });
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        let ready = [
            (Ready::News, socket.intersects(PollFlags::POLLIN | gone)),
            (Ready::Waker, (0..wakers.len()).any(|at| !events(at).is_empty())),
            (Ready::Room, socket.contains(PollFlags::POLLOUT)),
            (Ready::Request, pipe.contains(PollFlags::POLLIN)),
        ];
        Ok(ready.into_iter().filter(|(_, is_so)| *is_so).map(|(what, _)| what).collect())
    }

    /// Takes a request from the kernel, if there is one.
    fn next_request(&mut self) -> Result<Option<Vec<u8>>, RelayError> {
        let request = take_request(&self.pipe).map_err(|errno| match errno {
            Errno::EPIPE => RelayError::Lost { dir: self.dir.clone() },
            errno => self.system_error(errno),
        })?;
        self.open.extend(request.as_deref().and_then(token_of));
        Ok(request)
    }

    fn forward(&mut self, request: Vec<u8>) {
        let Some(server) = &mut self.server else { return self.cut_off() };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(server.socket.as_raw_fd(), &request, flags) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => server.held = Some(request),
            Err(_) => self.cut_off(),
        }
    }

    /// Takes one message of the server's.
    fn hear(&mut self) -> Option<Passed> {
        let mut bytes = [0; 16];
        let server = self.server.as_mut()?;
        match read(&server.socket, &mut bytes) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(0) | Err(_) => {
                self.cut_off();
                return Some(Passed::Gone);
            }
            Ok(length) => match bytes.get(..length).and_then(Word::decode) {
                Some(Word::Serving) => server.serving = true,
                Some(Word::Answered(token)) => drop(self.open.remove(&token)),
                Some(Word::Note(note)) => return Some(Passed::Said(note)),
                None => {}
            },
        }
        None
    }

    fn system_error(&self, errno: Errno) -> RelayError {
        RelayError::System { dir: self.dir.clone(), source: errno.into() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a relay can do without waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// Hear what the server says.
    News,
    /// Return, as the caller wishes.
    Waker,
    /// Send the server what it had no room for.
    Room,
    /// Take a request.
    Request,
}
