//! Programs of the host that have to succeed.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// How many lines of a failed program's output go into the error.
const LINES_SHOWN: usize = 20;

/// Whether a program lies on the search path or where root's programs lie.
pub(super) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [OsStr::new("/usr/sbin").into(), OsStr::new("/sbin").into()];
    std::env::split_paths(&path).chain(own).any(|directory| directory.join(program).is_file())
}

/// Runs a program to its end and returns what it wrote to its output stream.
pub(super) fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    run_command(&mut command)
}

/// The same for a command that is set up already.
pub(super) fn run_command(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("cannot start {program}; scripts/setup vm installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        bail!("{program} failed ({}):\n{}", output.status, tail(&all, LINES_SHOWN));
    }
    Ok(text)
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).copied().collect::<Vec<_>>().join("\n")
}
