//! The log file, written as vchanger writes it: `Mon DD HH:MM:SS:  [PID]: text`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::config::Config;
use crate::environment::Environment;

/// A message's weight, as syslog(3) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error = 3,
    Notice = 5,
}

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
}

impl Log {
    /// Opens the configuration's log; the default one may be missing, a configured one may not.
    pub(crate) fn open(config: &Config, env: &Environment) -> Result<Self, LogError> {
        let Some((path, explicit)) = &config.logfile else { return Ok(Self { file: None, level: 0 }) };
        let path = env.path(path);
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        match opened {
            Ok(file) => Ok(Self { file: Some(file), level: config.log_level }),
            Err(_) if !explicit => Ok(Self { file: None, level: 0 }),
            Err(source) => Err(LogError { path, source }),
        }
    }

    /// Writes a line; a full disk must not stop a restore, so failures are not reported.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        let Some(file) = self.file.as_mut().filter(|_| level as u8 <= self.level) else { return };
        let now = jiff::Zoned::now().strftime("%b %d %H:%M:%S");
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = file.write_all(format!("{now}:  [{}]: {line}\n", std::process::id()).as_bytes());
    }
}
