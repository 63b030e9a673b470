//! The serving end of the control socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Group;

use super::fleet::Fleet;
use super::say;
use crate::control::{LONGEST_LINE, Reply, Request, VERSION, Verb};
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;

/// How long a peer may take to ask or to listen.
const PEER_LIMIT: Duration = Duration::from_secs(10);

/// The group whose members may ask for the status.
const GROUP: &str = "bacula";

/// Binds the socket, for root and the group bacula; fails when another daemon answers on it.
pub(super) fn bind(root: &Root) -> Result<UnixListener, Failure> {
    let path = root.control_socket();
    let shown = path.display();
    if UnixStream::connect(&path).is_ok() {
        return Err(Failure::new(Exit::Failed, format!("another offsited answers at {shown}"))
            .hint("one is enough: systemctl status offsited"));
    }
    crate::durable::remove(&path)?;
    let listener = UnixListener::bind(&path).or_fail(format!("cannot listen at {shown}"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))
        .or_fail(format!("cannot protect {shown}"))?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(&path, None, Some(group.gid.as_raw()))
            .or_fail(format!("cannot give {shown} to the group {GROUP}"))?;
    }
    Ok(listener)
}

/// Answers every connection in a thread of its own.
pub(super) fn start(listener: UnixListener, fleet: Arc<Fleet>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let fleet = Arc::clone(&fleet);
            std::thread::spawn(move || {
                if let Err(error) = answer(&stream, &fleet) {
                    say(&format!("a question broke off: {error}"));
                }
            });
        }
    });
}

fn answer(stream: &UnixStream, fleet: &Arc<Fleet>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PEER_LIMIT))?;
    stream.set_write_timeout(Some(PEER_LIMIT))?;
    let peer = getsockopt(stream, PeerCredentials)?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line)?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Err(error) => Reply::from_result(Err(Failure::because(Exit::Usage, "not a question", &error))),
        Ok(request) if request.version != VERSION => Reply::from_result(Err(Failure::new(
            Exit::Usage,
            format!("version {} is not spoken here, but {VERSION}", request.version),
        ))),
        Ok(request) if request.verb != Verb::Status && peer.uid() != 0 => {
            Reply::from_result(Err(Failure::new(Exit::Refused, "only root may do that")))
        }
        Ok(request) => act(&request, fleet),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    (&*stream).write_all(&bytes)
}

fn act(request: &Request, fleet: &Arc<Fleet>) -> Reply {
    let magazine = || request.magazine.as_deref().ok_or_else(|| Failure::new(Exit::Usage, "which magazine?"));
    Reply::from_result(match request.verb {
        Verb::Status => {
            let mut reply = Reply::from_result(Ok(String::new()));
            reply.status = Some(fleet.status());
            return reply;
        }
        Verb::Eject => magazine().and_then(|name| fleet.eject(name)),
        Verb::Lock => magazine().and_then(|name| fleet.lock(name)),
        Verb::Unlock => magazine().and_then(|name| fleet.unlock(name)),
        Verb::Reload => fleet.reload(),
    })
}
