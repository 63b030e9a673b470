//! Running another program: found once by absolute path, arguments as a list, drained while it runs,
//! ended when its time is over or its caller ends, its last words kept for the error.

mod bound;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Exit, Failure, OrFail};
use crate::paths::Root;

/// Where administrators' programs are installed; the caller's PATH plays no part.
const DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// How much of a program's output an error quotes.
const QUOTED_BYTES: usize = 2000;

/// A program of the system, ready to run.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    limit: Duration,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// stdout and stderr, in the order in which they came.
    pub text: String,
}

impl Program {
    /// Finds `name`; `package` is what Debian calls the package that holds it.
    pub fn find(name: &str, package: &str) -> Result<Self, Failure> {
        let path = locate(name).ok_or_else(|| {
            Failure::new(Exit::Failed, format!("the program {name} isn't installed"))
                .hint(format!("install it: apt-get install {package}"))
        })?;
        Ok(Self { path, arguments: Vec::new(), limit: Duration::from_mins(1) })
    }

    /// Looks for `name` below `root`, then on the running system; `None` where it isn't installed.
    pub fn installed(root: &Root, name: &str) -> Option<Self> {
        let below = DIRECTORIES.iter().map(|d| root.join(d).join(name)).find(|path| path.is_file());
        let path = below.or_else(|| locate(name))?;
        Some(Self { path, arguments: Vec::new(), limit: Duration::from_mins(1) })
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets the time after which the program is ended (one minute unless set).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Finished, Failure> {
        let shown = self.path.display().to_string();
        let (mut reader, writer) = std::io::pipe().or_fail("cannot make a pipe")?;
        let second = writer.try_clone().or_fail("cannot make a pipe")?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(writer).stderr(second).env("LC_ALL", "C");
        bound::bind(&mut command);
        let mut child = command.spawn().or_fail(format!("cannot start {shown}"))?;
        drop(command); // it holds the pipe's writing end; the reader would never see its end
        let drain = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = reader.read_to_end(&mut bytes); // what was read until an error is all there is to show
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait().or_fail(format!("cannot wait for {shown}"))? {
                break status;
            }
            if started.elapsed() > self.limit {
                let _ = child.kill(); // it may have ended by itself just now
                let _ = child.wait();
                return Err(Failure::new(
                    Exit::TimeLimit,
                    format!("{shown} did not end within {} s", self.limit.as_secs()),
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        };
        let text = drain.join().unwrap_or_default();
        Ok(Finished { code: status.code(), text })
    }

    /// Runs it and takes anything but exit status 0 as a failure that quotes its output.
    pub fn must(self) -> Result<String, Failure> {
        let shown = self.path.display().to_string();
        let finished = self.run()?;
        if finished.code == Some(0) {
            return Ok(finished.text);
        }
        let status = finished.code.map_or_else(|| "by a signal".to_owned(), |c| format!("with status {c}"));
        let text = finished.text.trim();
        let cut = text.len().saturating_sub(QUOTED_BYTES);
        let tail = text.get(text.ceil_char_boundary(cut)..).unwrap_or_default();
        Err(Failure::new(Exit::Failed, format!("{shown} ended {status}: {tail}")))
    }
}

/// The absolute path of an installed program.
pub fn locate(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let failure = Program::find("mkfs.no-such", "no-such-progs").unwrap_err();
        assert!(failure.remedy().unwrap().contains("apt-get install no-such-progs"));
    }

    #[test]
    fn output_longer_than_a_pipe_is_drained() {
        let text = Program::find("seq", "coreutils").unwrap().args(["1", "100000"]).must().unwrap();
        assert_eq!(text.lines().count(), 100_000);
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let program = Program::find("sleep", "coreutils").unwrap().args(["60"]);
        let failure = program.limit(Duration::from_millis(50)).run().unwrap_err();
        assert_eq!(failure.exit(), Exit::TimeLimit);
    }

    #[test]
    fn a_failure_quotes_the_last_words() {
        let failure = Program::find("ls", "coreutils").unwrap().args(["/no/such/place"]).must().unwrap_err();
        assert!(failure.message().contains("/no/such/place"), "{failure}");
    }
}
