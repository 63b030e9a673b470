//! The control socket: one line of JSON asked, one line answered, both with a version.
//!
//! `offsited` serves it (`serve::control`); `offsite status`, `eject`, `unlock` and `lock` ask through it. Whoever asks
//! for it gets lines before the answer that say what is waited for ([`Waiting`]).

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::site_status::SiteStatus;
use crate::base::escape;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::patience::patiently;

/// The protocol's version; both sides refuse another one.
pub const VERSION: u32 = 1;

/// No answer is longer than this many bytes.
const LONGEST_LINE: u64 = 4 << 20;

/// No question is longer than this many bytes.
pub const LONGEST_QUESTION: u64 = 4 << 10;

/// Timeout for a line of the daemon's. While it works on a drive it sends one every few seconds.
const ANSWER_LIMIT: Duration = Duration::from_mins(10);

/// How often is said that the daemon has not answered; while it works on a drive it says more, and more often.
const WORDS: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// How every drive is.
    Status,
    /// Flush, unmount and lock, and leave it so until it is plugged again.
    Eject,
    /// Unlock and mount now.
    Unlock,
    /// Unmount and lock now.
    Lock,
    /// Read site.toml again.
    Reload,
}

/// A question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub version: u32,
    /// What is asked.
    pub verb: Verb,
    /// Of which magazine, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magazine: Option<String>,
    /// Lines before the answer are understood.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub progress: bool,
}

/// What is waited for; a line before the answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// One line for a person.
    pub waiting: String,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The protocol's version.
    pub version: u32,
    /// The exit code that the asking program ends with.
    pub exit: u8,
    /// One line for a person.
    pub message: String,
    /// What to do, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The answer to [`Verb::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SiteStatus>,
}

impl Reply {
    /// Makes an answer out of what the daemon did.
    pub fn from_result(result: Result<String, Failure>) -> Self {
        let (exit, message, hint) = match result {
            Ok(message) => (0, message, None),
            Err(failure) => {
                (failure.exit() as u8, failure.message().to_owned(), failure.remedy().map(str::to_owned))
            }
        };
        Self { version: VERSION, exit, message, hint, status: None }
    }

    /// The line for a person, or the failure that the daemon met.
    pub fn into_result(self) -> Result<String, Failure> {
        let Some(exit) = Exit::from_code(self.exit) else { return Ok(self.message) };
        let failure = Failure::new(exit, self.message);
        Err(match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }
}

/// Asks the daemon, and says on stderr what it waits for; `Ok(None)` when none is running.
pub fn call(root: &Root, verb: Verb, magazine: Option<&str>) -> Result<Option<Reply>, Failure> {
    let path = root.control_socket();
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::because(
                Exit::Failed,
                format!("cannot ask offsited at {}", path.display()),
                &error,
            )
            .hint("root and the members of the group bacula may ask"));
        }
    };
    let talk = "the talk with offsited broke off";
    stream.set_read_timeout(Some(ANSWER_LIMIT)).or_fail(talk)?;
    let request = Request { version: VERSION, verb, magazine: magazine.map(str::to_owned), progress: true };
    let mut line = serde_json::to_vec(&request).or_fail(talk)?;
    line.push(b'\n');
    stream.write_all(&line).or_fail(talk)?;
    let mut lines = BufReader::new(stream);
    let answer = loop {
        let mut line = String::new();
        let read = || lines.by_ref().take(LONGEST_LINE).read_line(&mut line);
        match patiently("offsited's answer", WORDS, read) {
            // It was killed; what it had not read is lost.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => line.clear(),
            read => drop(read.or_fail(talk)?),
        }
        match serde_json::from_str::<Waiting>(&line) {
            Ok(said) => eprintln!("waiting: {}", escape::line(&said.waiting)),
            Err(_) => break line,
        }
    };
    if answer.is_empty() {
        return Err(Failure::new(Exit::Failed, "offsited ended before it answered")
            .hint("`offsite status` shows how far it came; its last words: journalctl -u offsited"));
    }
    let reply: Reply = serde_json::from_str(&answer).or_fail("offsited's answer can't be understood")?;
    if reply.version != VERSION {
        return Err(Failure::new(
            Exit::Failed,
            format!("offsited speaks version {}, not {VERSION}", reply.version),
        )
        .hint("restart it: systemctl restart offsited"));
    }
    Ok(Some(reply))
}

/// Tells a running daemon that site.toml changed; without one there is nobody to tell.
pub fn reload(root: &Root) {
    match call(root, Verb::Reload, None) {
        Ok(Some(reply)) if reply.exit != 0 => {
            eprintln!("warning: offsited keeps the old site.toml: {}", reply.message);
        }
        Ok(_) => {}
        Err(failure) => eprintln!("warning: {}", failure.message()),
    }
}

/// Nobody answers at the socket.
pub fn not_running() -> Failure {
    Failure::new(Exit::NotThere, "offsited isn't running").hint("start it: systemctl start offsited")
}
