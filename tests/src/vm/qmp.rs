//! QEMU's machine protocol: one JSON object a line, answers and events mixed
//! (`docs/interop/qmp-spec.txt` in QEMU's source).

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take over one command.
const ANSWER_LIMIT: Duration = Duration::from_mins(3);
/// How long one read blocks while an event is awaited, so that commands of other threads get through.
const SLICE: Duration = Duration::from_millis(20);
/// Events kept for somebody to ask for; older ones are forgotten.
const EVENTS_KEPT: usize = 256;

/// A connection to one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    wire: Mutex<Wire>,
}

#[derive(Debug)]
struct Wire {
    reader: BufReader<UnixStream>,
    partial: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot reach QEMU at {}", socket.display()))?;
        stream.set_read_timeout(Some(SLICE))?;
        let mut wire = Wire { reader: BufReader::new(stream), partial: Vec::new(), events: VecDeque::new() };
        wire.next(Instant::now() + ANSWER_LIMIT)?.context("QEMU doesn't greet")?;
        let qmp = Self { wire: Mutex::new(wire) };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its answer.
    pub(super) fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        let mut wire = self.lock();
        let request = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        wire.reader
            .get_mut()
            .write_all(request.as_bytes())
            .with_context(|| format!("cannot send {command}"))?;
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            let Some(message) = wire.next(end)? else {
                bail!("no answer from QEMU to {command} within {} s", ANSWER_LIMIT.as_secs())
            };
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses {command} {arguments}: {error}");
            }
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            wire.keep(message);
        }
    }

    /// Waits for an event of that name about that device, also one that came before the call.
    pub(super) fn wait_event(&self, name: &str, device: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let wanted = |event: &Value| {
            event.get("event").and_then(Value::as_str) == Some(name)
                && event.pointer("/data/device").and_then(Value::as_str) == Some(device)
        };
        loop {
            let mut wire = self.lock();
            if let Some(found) = wire.events.iter().position(wanted) {
                wire.events.remove(found);
                return Ok(());
            }
            if let Some(message) = wire.next(Instant::now() + SLICE)? {
                wire.keep(message);
            } else if Instant::now() >= end {
                bail!("no {name} for {device} within {:.0} s", limit.as_secs_f64());
            }
        }
    }

    /// Forgets events about a device, before what makes new ones is started.
    pub(super) fn forget_events(&self, device: &str) {
        self.lock()
            .events
            .retain(|event| event.pointer("/data/device").and_then(Value::as_str) != Some(device));
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// The next message, or `None` when none came before `end`.
    fn next(&mut self, end: Instant) -> Result<Option<Value>> {
        loop {
            match self.reader.read_until(b'\n', &mut self.partial) {
                Ok(0) => bail!("QEMU has gone"),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return Ok(Some(serde_json::from_slice(&line).context("QEMU speaks no JSON")?));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if Instant::now() >= end {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).context("cannot read from QEMU"),
            }
        }
    }

    fn keep(&mut self, message: Value) {
        if message.get("event").is_some() {
            if self.events.len() == EVENTS_KEPT {
                self.events.pop_front();
            }
            self.events.push_back(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    /// A QEMU that sends what it is told to, after the greeting and the first answer.
    fn fake(says: &'static str) -> (tempfile::TempDir, Qmp, std::thread::JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").unwrap();
            for piece in says.as_bytes().chunks(7) {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
            let _ = stream.read(&mut [0; 4096]);
            std::thread::sleep(Duration::from_millis(300));
        });
        let qmp = Qmp::connect(&path).unwrap();
        (directory, qmp, server)
    }

    #[test]
    fn events_before_an_answer_are_kept_also_when_lines_come_in_pieces() {
        let (_directory, qmp, server) = fake(
            "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"a\"}}\n{\"return\": {\"status\": \"running\"}}\n",
        );
        let answer = qmp.execute("query-status", &json!({})).unwrap();
        assert_eq!(answer, json!({ "status": "running" }));
        qmp.wait_event("DEVICE_DELETED", "a", Duration::from_millis(100)).unwrap();
        let again = qmp.wait_event("DEVICE_DELETED", "a", Duration::from_millis(100)).unwrap_err();
        assert!(again.to_string().contains("no DEVICE_DELETED for a"), "{again}");
        server.join().unwrap();
    }

    #[test]
    fn a_refusal_carries_qemus_reason() {
        let (_directory, qmp, server) = fake("{\"error\": {\"desc\": \"no such bus\"}}\n");
        let error = qmp.execute("device_add", &json!({})).unwrap_err();
        assert!(error.to_string().contains("no such bus"), "{error}");
        drop(qmp);
        server.join().unwrap();
    }
}
