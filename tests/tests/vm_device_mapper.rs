//! The libraries' own tests that need device-mapper, a running udevd or dm-integrity, in a guest that has them all.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::vm::{Vm, run_trials, trial};
use serde_json::Value;

fn main() -> ExitCode {
    run_trials(vec![trial("luks_core_on_real_devices", |vm| passes(vm, "root_devices"))])
}

/// Every test of a test program passes in the guest, and none is left out there.
fn passes(vm: &Vm, program: &str) -> Result<()> {
    vm.put(&built(program)?, &format!("/var/tmp/{program}"), 0o755)?;
    let said = vm.run_within(&format!("cd /var/tmp && ./{program} 2>&1"), Duration::from_mins(8))?;
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
fn built(program: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--locked", "--workspace", "--no-run", "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "not built: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| {
        message.pointer("/target/name").and_then(Value::as_str) == Some(program)
            && message.get("executable").is_some_and(Value::is_string)
    });
    let message = built.next().with_context(|| format!("the workspace has no test {program}"))?;
    let path = message.get("executable").and_then(Value::as_str).context("no path")?;
    Ok(path.into())
}
