//! Running Bacula's console: a script goes in, everything that comes out is taken while it runs, time is limited.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How much of the console's output is kept; the rest is read and dropped.
const MOST_OUTPUT: usize = 16 << 20;

/// How often the console is looked at while it says nothing.
const TICK: Duration = Duration::from_millis(20);

/// Why Bacula could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The console cannot be started.
    #[error("cannot start Bacula's console {}; install it, or set bconsole = \"\"", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end in time.
    #[error("Bacula's console did not end within {seconds} s; is the Director well?{}", last_words(output))]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// What it had said.
        output: String,
    },
    /// It ended with an error.
    #[error("Bacula's console failed ({status}){}", last_words(output))]
    Failed {
        /// How it ended.
        status: String,
        /// What it had said.
        output: String,
    },
    /// It ended well, but the Director did not do what was asked.
    #[error("the Director did not confirm '{command}'{}", last_words(output))]
    Unconfirmed {
        /// The command.
        command: String,
        /// What it had said.
        output: String,
    },
    /// Some volumes stayed without a label.
    #[error(
        "the Director left {count} new volume(s) without a label, the first is {first}{}",
        last_words(output)
    )]
    Unlabelled {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// What it had said.
        output: String,
    },
}

/// The last lines that say something, on one line.
fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('*') && !line.starts_with("You have"))
        .collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" / ");
    let printable: String = last.chars().filter(|c| !c.is_control()).take(400).collect();
    if printable.is_empty() { String::new() } else { format!(": {printable}") }
}

/// How the console is called.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) program: PathBuf,
    pub(crate) config: Option<PathBuf>,
}

impl Console {
    /// Runs a script and returns what the console said.
    pub(crate) fn run(&self, script: &str, limit: Duration) -> Result<String, ConsoleError> {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        let connect_limit = limit.as_secs().clamp(1, 30).to_string();
        command.args(["-n", "-u", &connect_limit]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // a group of its own, so that whatever it starts ends with it
        command.current_dir("/").process_group(0);
        let mut child = command
            .spawn()
            .map_err(|source| ConsoleError::NotStarted { program: self.program.clone(), source })?;
        let outcome = converse(&mut child, script, limit);
        end_group(&mut child);
        outcome
    }
}

/// Feeds and drains a console until it ends. Reading and writing never block, so that what the console printed is
/// all there when it has ended, and nothing that it started can hold this up.
fn converse(child: &mut Child, script: &str, limit: Duration) -> Result<String, ConsoleError> {
    let deadline = Instant::now() + limit;
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let fds =
        [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
    for fd in fds.into_iter().flatten() {
        // a pipe takes this; if it did not, the time limit would not hold, and nothing else
        let _ = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    }
    let mut left = script.as_bytes();
    let mut output = Vec::new();
    loop {
        let ended = child.try_wait().ok().flatten();
        feed(&mut stdin, &mut left);
        drain(&mut stdout, &mut output);
        drain(&mut stderr, &mut output);
        if let Some(status) = ended {
            let output = text(&output);
            let failed = |output| ConsoleError::Failed { status: status.to_string(), output };
            return if status.success() { Ok(output) } else { Err(failed(output)) };
        }
        let Some(time) = deadline.checked_duration_since(Instant::now()) else {
            return Err(ConsoleError::TimedOut { seconds: limit.as_secs(), output: text(&output) });
        };
        rest(stdin.as_ref(), stdout.as_ref(), stderr.as_ref(), time.min(TICK));
    }
}

/// Waits until there is something to read or to write, but not for long: that the console ended is looked for.
fn rest(
    stdin: Option<&ChildStdin>,
    stdout: Option<&ChildStdout>,
    stderr: Option<&ChildStderr>,
    time: Duration,
) {
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    fds.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    fds.extend(stdout.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    fds.extend(stderr.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
    // a signal only makes the rest shorter
    let _ = poll(&mut fds, timeout);
}

/// Writes what the console takes, and closes its input behind the last command.
fn feed(stdin: &mut Option<ChildStdin>, left: &mut &[u8]) {
    while let Some(pipe) = stdin {
        match pipe.write(left) {
            Ok(written) => *left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // a console that ends early closes its input; its output says why
            Err(_) => *left = &[],
        }
        if left.is_empty() {
            *stdin = None;
        }
    }
}

/// Takes what there is, and of an endless stream more than a pipe holds; of very much only the beginning is kept.
fn drain<P: Read>(pipe: &mut Option<P>, output: &mut Vec<u8>) {
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..64 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => {
                let room = MOST_OUTPUT.saturating_sub(output.len());
                output.extend(buffer.iter().take(read.min(room)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    if let Ok(group) = group
        && child.try_wait().ok().flatten().is_none()
    {
        // not reaped, so the number is still this group's
        let _ = killpg(group, Signal::SIGTERM);
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience && child.try_wait().ok().flatten().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        if child.try_wait().ok().flatten().is_none() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
    let _ = child.wait();
}

/// Whether a program is there.
pub(crate) fn is_installed(program: &Path) -> bool {
    program.is_file()
}
