//! A drive's own account of its health, by smartctl where that is installed.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::paths::Root;
use crate::program::Program;

/// Asks a drive; `None` where nobody can be asked: no smartctl, or a file in place of a drive.
///
/// smartctl's exit status tells of the drive's health as well as of its own errors (smartctl(8), EXIT STATUS), so only
/// what it prints counts. What isn't an account says why in smartctl's own form.
pub fn account(root: &Root, device: &Path) -> Option<Value> {
    let program = Program::installed(root, "smartctl")?;
    if !std::fs::metadata(device).is_ok_and(|meta| meta.file_type().is_block_device()) {
        return None;
    }
    let said = program.args(["--json", "--all"]).args([device]).run();
    let parsed = said.map(|finished| serde_json::from_str::<Value>(&finished.text));
    Some(match parsed {
        Ok(Ok(account @ Value::Object(_))) => account,
        Ok(_) => excuse("smartctl did not answer in JSON; version 7 is needed"),
        Err(failure) => excuse(failure.message()),
    })
}

fn excuse(why: &str) -> Value {
    json!({ "smartctl": { "messages": [{ "string": why, "severity": "error" }] } })
}
