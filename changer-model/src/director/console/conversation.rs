//! Feeding and draining a console until it ends or is ended. Nothing here blocks, so that neither the console nor
//! what it started can hold this up.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::limits::Limits;

/// The pauses between two looks at a console that says nothing grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Timeout for the end of a killed console.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The console ended with exit status 0.
    Well,
    /// It ended otherwise.
    Badly(String),
    /// It was cut off after this time.
    CutOff(Duration),
    /// It said more than is kept.
    Endless,
}

/// Holds a conversation with a console that leads a process group of its own, and ends that group.
pub(super) fn hold(mut child: Child, script: &str, limits: Limits, most: usize) -> (Ended, Vec<u8>) {
    let mut said = Vec::new();
    let ended = converse(&mut child, script.as_bytes(), limits, most, &mut said);
    if let Ok(leader) = i32::try_from(child.id()).map(Pid::from_raw) {
        // It is not waited for yet, so the number is still this group's.
        let _ = killpg(leader, Signal::SIGKILL);
    }
    // One that waits for a device in the kernel ends later; init waits for it then.
    let deadline = Instant::now() + LAST_WAIT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(PAUSES.0);
    }
    (ended, said)
}

fn converse(child: &mut Child, mut left: &[u8], limits: Limits, most: usize, said: &mut Vec<u8>) -> Ended {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let fds =
        [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
    for fd in fds.into_iter().flatten() {
        // A pipe takes this. If it did not, the time limits would not hold.
        let _ = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    }
    let begun = Instant::now();
    let (mut heard, mut pause) = (begun, PAUSES.0);
    loop {
        // First of all, so that what was said before the end is all there.
        let ended = how_it_ended(child);
        feed(&mut stdin, &mut left);
        let before = said.len();
        drain(&mut stdout, said, most);
        drain(&mut stderr, said, most);
        if said.len() > before {
            (heard, pause) = (Instant::now(), PAUSES.0);
        }
        if said.len() >= most {
            return Ended::Endless;
        }
        if let Some(ended) = ended {
            return ended;
        }
        if begun.elapsed() >= limits.total || heard.elapsed() >= limits.silence {
            return Ended::CutOff(begun.elapsed());
        }
        rest(stdin.as_ref(), [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)], pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// How the console ended, if it did. It stays to be waited for, so its number stays its own.
fn how_it_ended(child: &Child) -> Option<Ended> {
    let pid = i32::try_from(child.id()).map(Pid::from_raw).ok()?;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(pid), flags) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
        Ok(WaitStatus::Exited(_, 0)) => Some(Ended::Well),
        Ok(WaitStatus::Exited(_, code)) => Some(Ended::Badly(format!("exit status: {code}"))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Badly(format!("signal: {signal}"))),
        Ok(_) => Some(Ended::Badly("an unknown status".to_owned())),
        Err(errno) => Some(Ended::Badly(errno.desc().to_owned())),
    }
}

/// Waits until there is something to read or to write, but not for long: the console's end is looked for.
fn rest(stdin: Option<&ChildStdin>, outputs: [Option<BorrowedFd<'_>>; 2], pause: Duration) {
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    fds.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    fds.extend(outputs.into_iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
    // A signal only makes the rest shorter.
    let _ = poll(&mut fds, timeout);
}

/// Writes what the console takes, and closes its input behind the last command.
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
            // A console that ends early closes its input; its output says why.
            Err(_) => *left = &[],
        }
    }
}

/// Takes what there is, and of an endless stream some megabytes, so that the limits have their turn.
fn drain<P: Read>(pipe: &mut Option<P>, said: &mut Vec<u8>, most: usize) {
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..64 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => {
                let room = most.saturating_sub(said.len());
                said.extend_from_slice(buffer.get(..read.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}
