//! Running Bacula's console: a script goes in, everything that comes out is taken while it runs.
//!
//! The console inherits nothing. Its time and its output are limited. It ends with what it started, at the latest
//! when the changer does.

mod conversation;
pub(crate) mod limits;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{io, thread};

use conversation::Ended;
use limits::Limits;

use crate::config::environment::Environment;
use crate::system::isolation::{Life, isolate};

/// Maximum of the console's output, in bytes: the list of a quarter of a million volumes.
const MOST_OUTPUT: usize = 64 << 20;

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
    /// It did not end in time. The Director goes on with the command that it was at.
    #[error("Bacula's console was cut off after {seconds} s; is the Director well?{}", last_words(output))]
    TimedOut {
        /// How long it had run.
        seconds: u64,
        /// What it had said.
        output: String,
    },
    /// It said more than any answer can be.
    #[error("Bacula's console said more than {mebibytes} MiB and was cut off{}", last_words(output))]
    Endless {
        /// The limit.
        mebibytes: usize,
        /// The beginning of it.
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
    let says = |line: &&str| !line.is_empty() && !line.starts_with('*') && !line.starts_with("You have");
    let mut last: Vec<&str> = output.lines().rev().map(str::trim).filter(says).take(3).collect();
    last.reverse();
    let last = last.join(" / ");
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
    pub(crate) fn run(&self, script: &str, limits: impl Into<Limits>) -> Result<String, ConsoleError> {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        // not -u: it ends each command in silence and with exit status 0, and the Director goes on with it
        command.arg("-n");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        isolate(&mut command, Life::Bound);
        let child = command
            .spawn()
            .map_err(|source| ConsoleError::NotStarted { program: self.program.clone(), source })?;
        let (ended, said) = conversation::hold(child, script, limits.into(), MOST_OUTPUT);
        let output = String::from_utf8_lossy(&said).into_owned();
        match ended {
            Ended::Well => Ok(output),
            Ended::Badly(status) => Err(ConsoleError::Failed { status, output }),
            Ended::CutOff(time) => Err(ConsoleError::TimedOut { seconds: time.as_secs(), output }),
            Ended::Endless => Err(ConsoleError::Endless { mebibytes: MOST_OUTPUT >> 20, output }),
        }
    }
}

/// Maximum number of consoles at once. The Director takes 20 by default, from all who use it.
const MOST_CONSOLES: usize = 8;

/// The fewest commands that are worth another console: to begin one takes as long as some commands.
const FEWEST_COMMANDS: usize = 10;

impl Console {
    /// Runs commands that do not depend on each other, several at once, and `last` when all of them have ended. The
    /// Director answers one console's commands some 40 ms apart, however little it has to do for them.
    pub(crate) fn run_all(
        &self,
        commands: &[String],
        last: &str,
        limits: impl Fn(usize) -> Limits,
    ) -> Result<String, ConsoleError> {
        let share = commands.len().div_ceil(MOST_CONSOLES).max(FEWEST_COMMANDS);
        let limits = limits(commands.len());
        if commands.len() <= share {
            return self.run(&(commands.concat() + last), limits);
        }
        let parts: Vec<String> = commands.chunks(share).map(<[String]>::concat).collect();
        let answers: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> =
                parts.iter().map(|part| scope.spawn(move || self.run(part, limits))).collect();
            running.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let mut output = String::new();
        for (part, answer) in parts.iter().zip(answers) {
            output += &match answer {
                // it has no room for so many: one after the other
                Ok(Err(ConsoleError::Failed { .. })) | Err(_) => self.run(part, limits)?,
                Ok(answer) => answer?,
            };
        }
        if !last.is_empty() {
            output += &self.run(last, limits)?;
        }
        Ok(output)
    }
}

/// Where a program is looked for that is named without a directory. Only root installs programs there, and no `PATH` of
/// a caller's has a say.
const DIRECTORIES: [&str; 7] =
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/bacula/bin"];

/// The path of a program below the root; of one that isn't installed, where it would be looked for first.
pub(crate) fn find_program(env: &Environment, program: &Path) -> PathBuf {
    if program.is_absolute() {
        return env.path(program);
    }
    let places = || DIRECTORIES.iter().map(|directory| env.path(directory).join(program));
    places().find(|path| is_installed(path)).or_else(|| places().next()).unwrap_or_default()
}

/// Whether a program is there.
pub(crate) fn is_installed(program: &Path) -> bool {
    program.is_file()
}
