//! Why no files can be made.

use std::fmt::Debug;
use std::path::PathBuf;

use thiserror::Error;

use crate::syntax::value::ValueError;
use crate::values::name::MAX_LENGTH;

/// The most virtual drives that are generated.
pub(crate) const MAX_DRIVES: u8 = 64;

/// A description that no configuration can be made from.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerateError {
    /// A text that can't be written.
    #[error("{directive} of {resource}: {source}")]
    Value {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// What is wrong with the text.
        source: ValueError,
    },
    /// Longer than Bacula takes.
    #[error(
        "{directive} of {resource} has {length} bytes, Bacula takes at most {MAX_LENGTH}: shorten {text:?}"
    )]
    TooLong {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The text.
        text: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A path that has to be absolute.
    #[error("{directive} of {resource} needs an absolute path in UTF-8, not {path:?}")]
    Path {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The path.
        path: PathBuf,
    },
    /// A path that Bacula hands to a shell when it starts, or in which it replaces codes.
    #[error(
        "{directive} of {resource} can't be {path:?}: Bacula gives {found:?} a meaning of its own there; choose another path"
    )]
    Expanded {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The path.
        path: PathBuf,
        /// The character.
        found: char,
    },
    /// Somebody to send mail to, whom Bacula puts into a command.
    #[error(
        "{address:?} in bacula.messages.mail holds {found:?}; write one plain address, e.g. root@localhost"
    )]
    Mail {
        /// What was given.
        address: String,
        /// The first wrong character.
        found: char,
    },
    /// A path inside a command, which Bacula splits at blanks and searches for `%`.
    #[error("{path:?} can't stand in a command of Bacula's: it holds {found:?}; choose another path")]
    CommandPath {
        /// The path.
        path: PathBuf,
        /// The character.
        found: char,
    },
    /// Two resources of one type with one name.
    #[error("two {kind} resources would be called {name}; give one of them another name")]
    Duplicate {
        /// The type.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A list that may not be empty.
    #[error("{what} is empty; add at least one entry to {key}")]
    Empty {
        /// What it is.
        what: &'static str,
        /// Its key in the site's description.
        key: &'static str,
    },
    /// Too few or too many virtual drives.
    #[error("{drives} virtual drives are set in bacula.autochanger.drives; use 1 to {MAX_DRIVES}")]
    Drives {
        /// The number given.
        drives: u8,
    },
    /// The Admin job would not run first.
    #[error(
        "job {update_slots} has priority {priority} and would not run before job {job} with priority {job_priority}; \
         lower bacula.update_slots.priority"
    )]
    Priority {
        /// The Admin job.
        update_slots: String,
        /// Its priority.
        priority: u32,
        /// The job that would run too early.
        job: String,
        /// Its priority.
        job_priority: u32,
    },
}
