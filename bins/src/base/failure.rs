//! What went wrong, what to do about it, and the exit code that scripts rely on.

use std::fmt;

use super::{escape, output};

/// Exit codes of every program here; listed in docs/administrator.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The work was tried and failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Refused, because going on could destroy something.
    Refused = 3,
    /// The drive, volume or daemon asked for isn't there.
    NotThere = 4,
    /// A time limit passed.
    TimeLimit = 5,
}

impl Exit {
    /// The failure behind a numeric exit code; `None` for 0.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            2 => Some(Self::Usage),
            3 => Some(Self::Refused),
            4 => Some(Self::NotThere),
            5 => Some(Self::TimeLimit),
            _ => Some(Self::Failed),
        }
    }
}

/// An error as a person meets it: one line that names the place, and one that names the remedy.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Makes a failure with the given exit code and one line of text.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Wraps an error and all its sources into one line behind `context`.
    pub fn because(exit: Exit, context: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self::new(exit, format!("{context}: {}", chain(error)))
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The line without its prefix.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The remedy, where there is one.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", escape::message(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {}", escape::message(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Joins an error and its sources into one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A library that already quotes its source must not say it twice.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Turns a library's error into a [`Failure`] at the place where its meaning is known.
pub trait OrFail<T> {
    /// Fails with [`Exit::Failed`] and says what was being done.
    fn or_fail(self, context: impl fmt::Display) -> Result<T, Failure>
    where
        Self: Sized,
    {
        self.or_exit(Exit::Failed, context)
    }

    /// Fails with the given exit code and says what was being done.
    fn or_exit(self, exit: Exit, context: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_exit(self, exit: Exit, context: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::because(exit, context, &error))
    }
}

/// Prints the failure on stderr and gives the process its exit code.
///
/// What didn't arrive on stdout is a failure too; a reader that closed a pipe early, as `head` does, knows of it.
pub fn exit_code(result: Result<(), Failure>) -> std::process::ExitCode {
    let failure = match (result, output::end()) {
        (Ok(()), Ok(())) => return std::process::ExitCode::SUCCESS,
        (Ok(()), Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            return std::process::ExitCode::from(Exit::Failed as u8);
        }
        (Ok(()), Err(error)) => Failure::because(Exit::Failed, "cannot write to stdout", &error),
        (Err(failure), _) => failure,
    };
    eprint!("{failure}\n"); // a page of two lines
    std::process::ExitCode::from(failure.exit() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_quoted_forges_no_line(said in escape::tests::hostile(), hint in escape::tests::hostile()) {
            let shown = Failure::new(Exit::Failed, said).hint(hint).to_string();
            proptest::prop_assert!(escape::tests::is_plain(&shown), "{shown:?}");
            let ours = shown.lines().filter(|line| !line.starts_with("  | "));
            let ours: Vec<_> = ours.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
            proptest::prop_assert_eq!(ours, ["error:", "hint:"]);
        }
    }
}
