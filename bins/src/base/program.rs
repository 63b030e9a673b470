//! Running another program, the one way in which it is done here.
//!
//! It is found once by absolute path and gets its arguments as a list. It inherits nothing: an environment of two
//! words, `/` as its directory, no descriptor but the three that everyone has and one that it is handed, no ignored signal, no terminal. Its time
//! and the memory for its output are limited. When its time is over, or its caller ends, it ends with all that it
//! started; what it leaves behind at its own end isn't waited for.

pub(crate) mod account;
mod child;
mod converse;
mod descendants;
mod syscalls;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use account::Account;
use converse::{Conversation, Ended};
use nix::sys::signal::Signal;

use super::failure::{Exit, Failure, OrFail};
use super::paths::Root;

pub use syscalls::Files;

/// Where administrators' programs are installed; the caller's PATH plays no part.
const DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// Maximum of a program's output that an error quotes, in bytes.
const QUOTED_BYTES: usize = 2000;

/// Maximum of a program's output that is kept unless said otherwise, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// The time limit of a program unless said otherwise.
const LIMIT: Duration = Duration::from_mins(1);

/// A program of the system, ready to run.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    shown: String,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    account: Option<Account>,
    inherited: Option<OwnedFd>,
    limit: Duration,
    most: usize,
    memory: Option<u64>,
    filter: Option<Files>,
    apart: bool,
    stop: Option<Arc<AtomicBool>>,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// stdout and stderr, in the order in which they came; of very much the beginning and the end.
    pub text: String,
    /// stderr, where it was asked for apart ([`Program::apart`]).
    pub errors: String,
    /// Whether the text is less than what was said.
    pub is_cut: bool,
}

impl Program {
    /// Takes a program by its absolute path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            shown: path.display().to_string(),
            path,
            arguments: Vec::new(),
            input: Vec::new(),
            account: None,
            inherited: None,
            limit: LIMIT,
            most: KEPT_BYTES,
            memory: None,
            filter: None,
            apart: false,
            stop: None,
        }
    }

    /// Takes the program that is running, whatever has become of its file; failures call it `shown`.
    pub fn itself(shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), ..Self::at("/proc/self/exe") }
    }

    /// Finds `name`; `package` is what Debian calls the package that holds it.
    pub fn find(name: &str, package: &str) -> Result<Self, Failure> {
        let path = locate(name).ok_or_else(|| {
            Failure::new(Exit::Failed, format!("the program {name} isn't installed"))
                .hint(format!("install it: apt-get install {package}"))
        })?;
        Ok(Self::at(path))
    }

    /// Looks for `name` below `root`, then on the running system; `None` where it isn't installed.
    pub fn installed(root: &Root, name: &str) -> Option<Self> {
        let below = DIRECTORIES.iter().map(|d| root.join(d).join(name)).find(|path| path.is_file());
        Some(Self::at(below.or_else(|| locate(name))?))
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets what the program reads on stdin (nothing unless set).
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs it as another user, who can't become anyone else any more: no set-user-ID program has effect. Needs root,
    /// unless it is the caller's own account.
    #[must_use]
    pub fn user(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Hands one descriptor to the program, under the number that it has here.
    #[must_use]
    pub fn inherit(mut self, descriptor: OwnedFd) -> Self {
        self.inherited = Some(descriptor);
        self
    }

    /// Sets the time after which the program is ended (one minute unless set).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how much of its output is kept, in bytes (1 MiB unless set).
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// Sets how much memory each of its processes may take, in bytes of address space (no limit unless set).
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Allows it only the system calls that a program needs which reads and repairs one device, and one thread more as
    /// often as it likes: no other program, no process, no network, no mount. What only an intruder tries ends it with
    /// SIGSYS.
    #[must_use]
    pub fn filter(mut self, files: Files) -> Self {
        self.filter = Some(files);
        self
    }

    /// Keeps stderr out of the text.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Ends the program within a moment once `stop` is true.
    #[must_use]
    pub fn until(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Runs it and takes anything but exit status 0 as a failure that quotes its output.
    pub fn must(self) -> Result<String, Failure> {
        let shown = self.shown.clone();
        let finished = self.run()?;
        if finished.code == Some(0) {
            return Ok(finished.text);
        }
        Err(failed(&shown, finished.code, &finished.text))
    }

    /// Runs it for what it says on stdout, which must be whole: exit status 0, and no more than is kept. A failure
    /// quotes what it says on stderr.
    pub fn answer(self) -> Result<String, Failure> {
        let (shown, most) = (self.shown.clone(), self.most);
        let finished = self.apart().run()?;
        if finished.code != Some(0) {
            return Err(failed(&shown, finished.code, &finished.errors));
        }
        if finished.is_cut {
            return Err(Failure::new(Exit::Failed, format!("{shown} answered more than {most} bytes")));
        }
        Ok(finished.text)
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Finished, Failure> {
        let shown = &self.shown;
        let pipe = || std::io::pipe().or_fail("cannot make a pipe");
        let (output, writer) = pipe()?;
        let (errors, error_writer) = if self.apart {
            let (reader, writer) = pipe()?;
            (Some(reader), writer)
        } else {
            (None, writer.try_clone().or_fail("cannot make a pipe")?)
        };
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).current_dir("/").stdout(writer).stderr(error_writer);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        // Where the path lies that the child gives to execve(2): its memory is a copy of this process'.
        let path_at = command.get_program().as_bytes().as_ptr().addr() as u64;
        let filters = self.filter.map(|files| syscalls::compile(files, path_at)).transpose();
        let filters = filters.or_fail(format!("cannot confine {shown}"))?;
        child::isolate(&mut command, self.account.as_ref(), self.inherited.as_ref(), self.memory, filters);
        let child = command.spawn().or_fail(format!("cannot start {shown}"))?;
        drop(command); // it holds the pipes' writing ends; their end would never be seen
        let conversation = Conversation {
            child,
            input: &self.input,
            output: Some(output),
            errors,
            most: self.most,
            limit: self.limit,
            stop: self.stop.as_deref(),
        };
        let (ended, said, complained) = conversation.hold().or_fail(format!("cannot wait for {shown}"))?;
        let is_cut = said.is_cut();
        let (text, errors) = (said.text(), complained.text());
        let heard = last_words(if errors.is_empty() { &text } else { &errors });
        let limit = self.limit.as_secs();
        match ended {
            Ended::Itself(code, signal) => Ok(Finished { code, signal, text, errors, is_cut }),
            Ended::TimedOut => {
                Err(Failure::new(Exit::TimeLimit, format!("{shown} did not end within {limit} s{heard}")))
            }
            Ended::Stopped => Err(Failure::new(Exit::Failed, format!("{shown} was stopped{heard}"))),
        }
    }
}

fn failed(shown: &str, code: Option<i32>, text: &str) -> Failure {
    let status = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with status {code}"));
    Failure::new(Exit::Failed, format!("{shown} ended {status}{}", last_words(text)))
}

/// `: ` and the end of what a program said; nothing if it said nothing.
fn last_words(text: &str) -> String {
    let text = text.trim();
    let cut = text.len().saturating_sub(QUOTED_BYTES);
    let tail = text.get(text.ceil_char_boundary(cut)..).unwrap_or_default();
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

/// The absolute path of an installed program.
pub fn locate(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests;
