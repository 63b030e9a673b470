//! Running Bacula's console: a script goes in, everything that comes out is taken while it runs, time is limited.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How much of the console's output is kept; the rest is read and dropped.
const MOST_OUTPUT: usize = 16 << 20;

/// Why Bacula could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The console cannot be started.
    #[error("cannot start Bacula's console {}; install it, or set bconsole = \"\"", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end in time.
    #[error("Bacula's console did not end within {seconds} s; is the Director well?{}", last_words(output))]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// What it had said.
        output: String,
    },
    /// It ended with an error.
    #[error("Bacula's console failed ({status}){}", last_words(output))]
    Failed {
        /// How it ended.
        status: String,
        /// What it had said.
        output: String,
    },
    /// It ended well, but the Director did not do what was asked.
    #[error("the Director did not confirm '{command}'{}", last_words(output))]
    Unconfirmed {
        /// The command.
        command: String,
        /// What it had said.
        output: String,
    },
    /// Some volumes stayed without a label.
    #[error(
        "the Director left {count} new volume(s) without a label, the first is {first}{}",
        last_words(output)
    )]
    Unlabelled {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// What it had said.
        output: String,
    },
}

/// The last lines that say something, on one line.
fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('*') && !line.starts_with("You have"))
        .collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" / ");
    let printable: String = last.chars().filter(|c| !c.is_control()).take(400).collect();
    if printable.is_empty() { String::new() } else { format!(": {printable}") }
}

/// How the console is called.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) program: PathBuf,
    pub(crate) config: Option<PathBuf>,
}

impl Console {
    /// Runs a script and returns what the console said.
    pub(crate) fn run(&self, script: &str, limit: Duration) -> Result<String, ConsoleError> {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        let connect_limit = limit.as_secs().clamp(1, 30).to_string();
        command.args(["-n", "-u", &connect_limit]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // a group of its own, so that whatever it starts ends with it
        command.current_dir("/").process_group(0);
        let mut child = command
            .spawn()
            .map_err(|source| ConsoleError::NotStarted { program: self.program.clone(), source })?;
        let outcome = converse(&mut child, script, limit);
        end_group(&mut child);
        outcome
    }
}

/// How long the output of a console that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum Event {
    Text(Vec<u8>),
    Closed,
}

fn converse(child: &mut Child, script: &str, limit: Duration) -> Result<String, ConsoleError> {
    let deadline = Instant::now() + limit;
    let (sender, events) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
        child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
    ];
    let mut open = 0;
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        open += 1;
        thread::spawn(move || drain(pipe, &sender));
    }
    if let Some(mut stdin) = child.stdin.take() {
        let script = script.to_owned();
        // a console that ends early closes its input; its output says why
        thread::spawn(move || drop(stdin.write_all(script.as_bytes())));
    }
    let mut output = Vec::new();
    let mut ended = None;
    while open > 0 || ended.is_none() {
        let now = Instant::now();
        if ended.is_none() {
            ended = child.try_wait().ok().flatten().map(|status| (status, now));
        }
        if now >= deadline {
            let output = text(&output);
            return Err(ConsoleError::TimedOut { seconds: limit.as_secs(), output });
        }
        let wait = (deadline - now).min(Duration::from_millis(20));
        match events.recv_timeout(wait) {
            Ok(Event::Text(more)) => {
                let room = MOST_OUTPUT.saturating_sub(output.len());
                output.extend(more.iter().take(room));
            }
            Ok(Event::Closed) => open -= 1,
            // once it has ended, what it started may keep the pipes open, but has nothing to say for it; its own last
            // words may still be on the way on a busy machine
            Err(RecvTimeoutError::Timeout) if ended.is_some_and(|(_, at)| now - at > LAST_WORDS) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(1)),
        }
    }
    let output = text(&output);
    match ended {
        Some((status, _)) if status.success() => Ok(output),
        Some((status, _)) => Err(ConsoleError::Failed { status: status.to_string(), output }),
        None => Err(ConsoleError::Failed { status: "no exit status".to_owned(), output }),
    }
}

fn drain(mut pipe: impl Read, sender: &mpsc::Sender<Event>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                let part = buffer.get(..read).unwrap_or_default().to_vec();
                if sender.send(Event::Text(part)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = sender.send(Event::Closed);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    if let Ok(group) = group
        && child.try_wait().ok().flatten().is_none()
    {
        // not reaped, so the number is still this group's
        let _ = killpg(group, Signal::SIGTERM);
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience && child.try_wait().ok().flatten().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        if child.try_wait().ok().flatten().is_none() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
    let _ = child.wait();
}

/// Whether a program is there.
pub(crate) fn is_installed(program: &Path) -> bool {
    program.is_file()
}
