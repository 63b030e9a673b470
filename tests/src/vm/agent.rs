//! Commands in the guest: a line with a number goes to the agent on a virtio-serial port; the script
//! and its output lie in the directory that host and guest share.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What a script in the guest left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 + the number of the signal that killed it.
    pub status: i32,
    /// What it wrote to its output and error streams, in order.
    pub text: String,
}

impl Output {
    /// Whether the script exited with 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

type Waiting = Arc<Mutex<HashMap<String, Sender<i32>>>>;

/// The host's end of the agent.
#[derive(Debug)]
pub(super) struct Agent {
    writer: Mutex<UnixStream>,
    waiting: Waiting,
    share: PathBuf,
    next: AtomicU64,
}

/// A script that runs in the guest.
#[derive(Debug)]
pub struct Running {
    name: String,
    script: PathBuf,
    output: PathBuf,
    status: Receiver<i32>,
    started: Instant,
}

impl Agent {
    pub(super) fn connect(socket: &Path, share: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot reach the guest's agent at {}", socket.display()))?;
        let waiting = Waiting::default();
        let (reader, answers) = (BufReader::new(stream.try_clone()?), Arc::clone(&waiting));
        std::thread::Builder::new().name("vm-agent".into()).spawn(move || dispatch(reader, &answers))?;
        Ok(Self { writer: Mutex::new(stream), waiting, share: share.to_owned(), next: AtomicU64::new(0) })
    }

    /// Starts a script.
    pub(super) fn spawn(&self, script: &str) -> Result<Running> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let path = self.share.join(format!("{name}.sh"));
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        let status = self.request(&name, &format!("run {name}"))?;
        Ok(Running {
            script: path,
            output: self.share.join(format!("{name}.out")),
            name,
            status,
            started: Instant::now(),
        })
    }

    /// Waits until the agent answers at all: it isn't there before the guest has booted.
    pub(super) fn wait_ready(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let answer = self.request(&name, &format!("ping {name}"))?;
            if answer.recv_timeout(Duration::from_millis(500)).is_ok() {
                return Ok(());
            }
        }
        bail!("the guest's agent doesn't answer within {} s", limit.as_secs())
    }

    /// Has the guest let go of the shared directory: a machine's state can't be saved while it is mounted.
    pub(super) fn release_share(&self) -> Result<()> {
        let status = self.request("release", "release release")?.recv_timeout(Duration::from_mins(2));
        if status.context("the agent doesn't answer")? != 0 {
            bail!("the guest still uses the shared directory");
        }
        Ok(())
    }

    fn request(&self, name: &str, line: &str) -> Result<Receiver<i32>> {
        let (sender, receiver) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(format!("{line}\n").as_bytes()).context("the virtual machine has gone")?;
        Ok(receiver)
    }
}

impl Drop for Agent {
    /// Ends the reading thread, whose clone of the socket would live on.
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(writer.shutdown(Shutdown::Both));
    }
}

impl Running {
    /// Waits for the end of the script.
    ///
    /// # Errors
    /// When it isn't done after `limit`, with what it wrote so far, or when the machine has gone.
    pub fn wait(self, limit: Duration) -> Result<Output> {
        match self.status.recv_timeout(limit.saturating_sub(self.started.elapsed())) {
            Ok(status) => {
                let text = self.text();
                for file in [&self.script, &self.output] {
                    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
                }
                Ok(Output { status, text })
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "not done after {:.0} s in the guest: {}\nso far it wrote:\n{}",
                limit.as_secs_f64(),
                fs::read_to_string(&self.script).unwrap_or_default().trim(),
                self.text().trim_end(),
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the virtual machine ended under command {}", self.name)
            }
        }
    }

    /// What the script wrote so far.
    pub fn text(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

/// Hands each `NAME STATUS` line to whoever waits for it.
fn dispatch(reader: BufReader<UnixStream>, waiting: &Waiting) {
    for line in reader.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let Some((name, status)) = line.trim().split_once(' ') else { continue };
        let waiter = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let (Some(waiter), Ok(status)) = (waiter, status.parse()) {
            // Nobody may be waiting any more: the time limit has passed.
            let _ = waiter.send(status);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
