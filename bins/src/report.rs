//! What goes to stdout for a script.

use serde::Serialize;

use crate::failure::{Failure, OrFail as _};

/// Prints one JSON value, readable by a person as well.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value).or_fail("cannot write JSON")?);
    Ok(())
}
