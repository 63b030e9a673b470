//! Runs programs of Bacula and SQLite: found once by absolute path, limited in time, drained while they run.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What the harness needs; all from Debian's packages.
const NEEDED: [&str; 6] = [
    "/usr/sbin/bacula-dir",
    "/usr/sbin/bacula-sd",
    "/usr/sbin/bacula-fd",
    "/usr/sbin/bconsole",
    "/usr/bin/sqlite3",
    super::catalog::TABLES,
];

/// The first program of Bacula that is not installed here, for a test to say why it can't run.
pub fn missing_program() -> Option<&'static Path> {
    NEEDED.into_iter().map(Path::new).find(|path| !path.exists())
}

/// Why no Bacula can be run here as it is packaged.
pub fn lacking() -> Option<String> {
    let missing = missing_program().map(|path| format!("no {} here", path.display()));
    // The packages' configuration can be read by root alone.
    missing.or_else(|| (!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()))
}

/// Where a daemon or the console is installed.
pub(super) fn sbin(program: &str) -> PathBuf {
    Path::new("/usr/sbin").join(program)
}

/// What a program said.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a program with some input to its end, or ends it when the time is over.
pub(super) fn run(command: &mut Command, input: &str, limit: Duration) -> anyhow::Result<Said> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input says why on its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = wait(&mut child, limit)?;
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    match status {
        Some(status) => Ok(Said { status, stdout, stderr }),
        None => bail!("{name} did not end within {limit:?}; it said: {stdout}{stderr}"),
    }
}

/// Waits for a child; kills it when the time is over and returns `None`.
fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What came before an error is still worth showing.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(thread: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
}
