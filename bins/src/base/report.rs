//! What goes to stdout as a whole: a page for a person, JSON for a script.

use std::io::Write as _;

use serde::Serialize;

use super::escape;
use super::failure::{Failure, OrFail as _};

/// Prints one JSON value, readable by a person as well.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).or_fail("cannot write JSON")? + "\n";
    write(&escape::json(&text))
}

/// A JSON value as one line.
pub fn line_of(value: &impl Serialize) -> Result<String, Failure> {
    Ok(escape::json(&serde_json::to_string(value).or_fail("cannot write JSON")?).into_owned() + "\n")
}

/// Prints a page of lines; fails if it doesn't arrive.
pub fn text(page: &str) -> Result<(), Failure> {
    write(&escape::page(page))
}

/// Clears the screen of a terminal that shows one page after another.
pub fn clear_screen() -> Result<(), Failure> {
    write("\x1b[H\x1b[2J") // cursor home, clear screen
}

fn write(page: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(page.as_bytes()).and_then(|()| out.flush()).or_fail("cannot write to stdout")
}
