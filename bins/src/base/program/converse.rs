//! Feeding and draining a program until it ends or is ended. Nothing here blocks, so that neither the program nor
//! what it started can hold this up.

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read, Write as _};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::descendants;

/// The pauses between two looks at a program that says nothing grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Timeout for the end of a killed program. One that waits for a device in the kernel ends later, or never.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself, with this exit status, or by this signal.
    Itself(Option<i32>, Option<Signal>),
    /// Its time was over.
    TimedOut,
    /// Its caller wanted it no more.
    Stopped,
}

/// A program that runs, and the ends of its pipes that are ours.
pub(super) struct Conversation<'a> {
    pub(super) child: Child,
    pub(super) input: &'a [u8],
    pub(super) output: Option<PipeReader>,
    /// Its stderr, where that isn't the same pipe.
    pub(super) errors: Option<PipeReader>,
    /// How much of each is kept, in bytes.
    pub(super) most: usize,
    pub(super) limit: Duration,
    pub(super) stop: Option<&'a AtomicBool>,
}

impl Conversation<'_> {
    /// Goes on until the program ends or is ended; gives how, and what it said.
    pub(super) fn hold(mut self) -> io::Result<(Ended, Kept, Kept)> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).map_err(io::Error::other)?);
        let (mut said, mut complained) = (Kept::new(self.most), Kept::new(self.most));
        let ended = self.listen(pid, &mut said, &mut complained);
        if let Ok(Ended::Itself(..)) = ended {
            let _ = killpg(pid, Signal::SIGKILL); // what it left behind; mostly nothing
        } else {
            descendants::end(pid);
        }
        reap(self.child);
        Ok((ended?, said, complained))
    }

    fn listen(&mut self, pid: Pid, said: &mut Kept, complained: &mut Kept) -> io::Result<Ended> {
        let mut stdin = self.child.stdin.take();
        let (mut output, mut errors) = (self.output.take(), self.errors.take());
        let fds = [
            stdin.as_ref().map(AsFd::as_fd),
            output.as_ref().map(AsFd::as_fd),
            errors.as_ref().map(AsFd::as_fd),
        ];
        for fd in fds.into_iter().flatten() {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let deadline = Instant::now().checked_add(self.limit);
        let mut pause = PAUSES.0;
        loop {
            // Looked at before the pipes, so that what it said before its end is in them.
            let ended = how_it_ended(pid)?;
            feed(&mut stdin, &mut self.input);
            drain(&mut output, said);
            drain(&mut errors, complained);
            if let Some(ended) = ended {
                return Ok(ended);
            }
            if self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst)) {
                return Ok(Ended::Stopped);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Ended::TimedOut);
            }
            rest(stdin.as_ref(), [output.as_ref(), errors.as_ref()], pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// How a program ended; `None` while it runs. It isn't waited for, so its number stays its own.
fn how_it_ended(pid: Pid) -> io::Result<Option<Ended>> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(pid), flags) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(None),
        Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ended::Itself(Some(code), None))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Itself(None, Some(signal)))),
        Ok(_) => Ok(Some(Ended::Itself(None, None))),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a program that was killed or has ended, in a thread of its own if that takes long.
fn reap(mut child: Child) {
    let deadline = Instant::now() + LAST_WAIT;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(PAUSES.0);
    }
    let named = std::thread::Builder::new().name("reaper".to_owned());
    let _ = named.spawn(move || child.wait()); // without a thread it stays a zombie until this process ends
}

/// Writes what the program takes, and closes its input behind the last byte.
fn feed(stdin: &mut Option<ChildStdin>, left: &mut &[u8]) {
    while let Some(pipe) = stdin {
        if left.is_empty() {
            *stdin = None;
            return;
        }
        match pipe.write(left) {
            Ok(written) => *left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A program that doesn't read its input to the end is no failure of the run.
            Err(_) => *left = &[],
        }
    }
}

/// Takes what there is; of an endless stream some megabytes, so that time limits have their turn.
fn drain(pipe: &mut Option<PipeReader>, kept: &mut Kept) {
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..64 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => kept.add(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

/// Waits until there is something to read or to write, but not for long: the program's end is looked for.
fn rest(stdin: Option<&ChildStdin>, outputs: [Option<&PipeReader>; 2], pause: Duration) {
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    fds.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    fds.extend(outputs.into_iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut fds, timeout); // a signal only makes the rest shorter
}

/// The beginning and the end of what a program said.
#[derive(Debug)]
pub(super) struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: usize,
    half: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), dropped: 0, half: most / 2 }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..over);
        self.dropped = self.dropped.saturating_add(over);
    }

    /// Whether something was left out.
    pub(super) fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    pub(super) fn text(mut self) -> String {
        if self.dropped > 0 {
            self.head.extend(format!("\n[{} bytes left out]\n", self.dropped).as_bytes());
        }
        self.head.extend(self.tail);
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_speech_is_left_out() {
        let mut kept = Kept::new(8);
        for piece in ["ab", "cd", "ef", "gh"] {
            kept.add(piece.as_bytes());
        }
        assert!(!kept.is_cut());
        kept.add(b"ijklmnopq");
        assert!(kept.is_cut());
        assert_eq!(kept.text(), "abcd\n[9 bytes left out]\nnopq");
    }
}
