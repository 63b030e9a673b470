//! The log file, written as vchanger writes it: `Mon DD HH:MM:SS:  [PID]: text`.
//!
//! No command fails for its log. What must be known although the log can't be written goes to the system's log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};

use crate::config::Config;
use crate::config::environment::Environment;

/// A message's weight, as syslog(3) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error = 3,
    Notice = 5,
}

/// Where the system's log takes messages (systemd's journal and syslog daemons alike).
const SYSTEM_LOG: &str = "/dev/log";

/// `daemon` and `err` of syslog(3).
const PRIORITY: u32 = (3 << 3) | 3;

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("cannot open the log file {}", path.display())]
pub struct LogError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// An open log, or none.
pub(crate) struct Log {
    file: Option<File>,
    level: u8,
    system: PathBuf,
}

impl Log {
    /// Opens the configuration's log. Where it can't be opened there is none; of the default one nobody needs to know.
    pub(crate) fn open(config: &Config, env: &Environment) -> (Self, Option<LogError>) {
        let none = || Self { file: None, level: 0, system: env.path(SYSTEM_LOG) };
        let Some((path, explicit)) = &config.logfile else { return (none(), None) };
        let path = env.path(path);
        match options().create(true).open(&path) {
            Ok(file) => (Self { file: Some(file), level: config.log_level, ..none() }, None),
            Err(source) => (none(), explicit.then_some(LogError { path, source })),
        }
    }

    /// Why the configuration's log can't be written, found out without making it.
    pub(crate) fn problem(config: &Config, env: &Environment) -> Option<LogError> {
        let (path, _) = config.logfile.as_ref().filter(|(_, explicit)| *explicit)?;
        let path = env.path(path);
        let source = match options().open(&path) {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => makes_files_in(path.parent()?).err()?,
            Err(error) => error,
        };
        Some(LogError { path, source })
    }

    /// Writes a line; a full disk must not stop a restore, so failures are not reported.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        let Some(file) = self.file.as_mut().filter(|_| level as u8 <= self.level) else { return };
        let now = jiff::Zoned::now().strftime("%b %d %H:%M:%S");
        let line = one_line(text);
        let _ = file.write_all(format!("{now}:  [{}]: {line}\n", std::process::id()).as_bytes());
    }

    /// Writes what a person has to know, into the system's log where there is no other.
    pub(crate) fn tell(&mut self, text: &str) {
        match &self.file {
            Some(_) => self.write(Level::Error, text),
            None => to_system(&self.system, text),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn makes_files_in(directory: &Path) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Sends a message to the system's log, if there is one that takes it at once.
fn to_system(log: &Path, text: &str) {
    let message = format!("<{PRIORITY}>vchanger[{}]: {}", std::process::id(), one_line(text));
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), log)
    });
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
