//! The libraries' own tests that need device-mapper, a running udevd or dm-integrity, in a guest that has them all.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::vm::{Vm, run_trials, trial};
use serde_json::Value;

fn main() -> ExitCode {
    run_trials(vec![
        trial("luks_core_on_real_devices", |vm| passes(vm, "luks-core/tests/root_devices.rs")),
        trial("luks_core_opens_as_enrolled", |vm| passes(vm, "luks-core/tests/root_enrolment.rs")),
    ])
}

/// Every test of a test program, named by its source, passes in the guest, and none is left out there.
fn passes(vm: &Vm, source: &str) -> Result<()> {
    vm.put(&built(source)?, "/var/tmp/tests", 0o755)?;
    let said = vm.run_within("cd /var/tmp && ./tests 2>&1", Duration::from_mins(8))?;
    ensure!(
        said.success() && said.text.contains(" 0 failed; 0 ignored;"),
        "in the guest, exit status {}:\n{}",
        said.status,
        said.text
    );
    println!("{}", said.text.trim_end());
    Ok(())
}

/// A test program of the workspace, built with the same features as by whoever runs all tests.
fn built(source: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--locked", "--workspace", "--no-run", "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "not built: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let text =
        |message: &Value, place: &str| message.pointer(place).and_then(Value::as_str).map(str::to_owned);
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| text(message, "/target/src_path").is_some_and(|path| path.ends_with(source)))
        .find_map(|message| text(&message, "/executable"))
        .map(PathBuf::from)
        .with_context(|| format!("the workspace has no test {source}"))
}
