//! What the programs say, also to nobody: a terminal or a reader that went away ends no work.
//!
//! Each of `println!` and `eprintln!` says one line, whatever is in it, and `print!` and `eprint!` lines that are ours: what
//! is foreign passes [`escape`](crate::base::escape).
//!
//! The standard library's macros panic where a line can't be written, and would take a wipe or an unlocked drive down
//! with them. The macros here have their names, and take their place in all of this crate. What could not be said on stdout
//! makes the program fail in the end ([`failure::exit_code`](crate::base::failure::exit_code)); what could not be said on stderr is lost.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use super::escape;

/// The first error of stdout, until somebody takes it.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

macro_rules! print {
    ($($words:tt)*) => { $crate::base::output::on_stdout(format_args!($($words)*)) };
}

macro_rules! println {
    () => { $crate::base::output::on_stdout(format_args!("\n")) };
    ($($words:tt)*) => { $crate::base::output::line_on_stdout(format_args!($($words)*)) };
}

macro_rules! eprint {
    ($($words:tt)*) => { $crate::base::output::on_stderr(format_args!($($words)*)) };
}

macro_rules! eprintln {
    () => { $crate::base::output::on_stderr(format_args!("\n")) };
    ($($words:tt)*) => { $crate::base::output::line_on_stderr(format_args!($($words)*)) };
}

pub(crate) fn on_stdout(words: fmt::Arguments<'_>) {
    write_on_stdout(&escape::page(&words.to_string()));
}

pub(crate) fn line_on_stdout(words: fmt::Arguments<'_>) {
    write_on_stdout(&format!("{}\n", escape::line(&words.to_string())));
}

fn write_on_stdout(text: &str) {
    if let Err(error) = io::stdout().write_all(text.as_bytes()) {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

pub(crate) fn on_stderr(words: fmt::Arguments<'_>) {
    write_on_stderr(&escape::page(&words.to_string()));
}

pub(crate) fn line_on_stderr(words: fmt::Arguments<'_>) {
    write_on_stderr(&format!("{}\n", escape::line(&words.to_string())));
}

fn write_on_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes()); // there is nowhere left to say so
}

/// Brings out what was said on stdout; fails if any of it didn't arrive.
pub(crate) fn end() -> io::Result<()> {
    match FAILED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => io::stdout().flush(),
    }
}
