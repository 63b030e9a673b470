//! What goes to stdout as a whole: a page for a person, JSON for a script.

use std::io::Write as _;

use serde::Serialize;

use crate::failure::{Failure, OrFail as _};

/// Prints one JSON value, readable by a person as well.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    text(&(serde_json::to_string_pretty(value).or_fail("cannot write JSON")? + "\n"))
}

/// Prints a page; fails if it doesn't arrive.
pub fn text(page: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(page.as_bytes()).and_then(|()| out.flush()).or_fail("cannot write to stdout")
}
