//! The serving end of the control socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Group;

use super::fleet::Fleet;
use super::journal::{say, warn};
use super::waiting::{self, Work};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::protocol::socket::{LONGEST_QUESTION, Reply, Request, VERSION, Verb, Waiting};

/// How long a peer may take to ask, and again to listen.
const PEER_LIMIT: Duration = Duration::from_secs(10);

/// So many others than root are heard at once.
const GUESTS: usize = 16;

/// How long nobody is heard when there is no room for another.
const PAUSE: Duration = Duration::from_millis(200);

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
    crate::base::atomic_file::remove(&path)?;
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
        let guests = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let started = stream.and_then(|stream| {
                let (fleet, guests) = (Arc::clone(&fleet), Arc::clone(&guests));
                let thread = std::thread::Builder::new().name("control".to_owned());
                thread.spawn(move || {
                    let answered = answer(&stream, &fleet, &guests);
                    // Who has gone needs no answer, and could fill the journal.
                    let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                    if let Err(error) = answered
                        && !gone.contains(&error.kind())
                    {
                        say(&format!("a question broke off: {error}"));
                    }
                })
            });
            if let Err(error) = started {
                // No descriptor or no thread is free: trying again at once would only burn time.
                warn(&format!("a question can't be taken: {error}"));
                std::thread::sleep(PAUSE);
            }
        }
    });
}

fn answer(stream: &UnixStream, fleet: &Arc<Fleet>, guests: &Arc<AtomicUsize>) -> io::Result<()> {
    let root = getsockopt(stream, PeerCredentials)?.uid() == 0;
    let seat = if root { None } else { Some(Seat::take(guests)) };
    let reply = match seat {
        Some(None) => Reply::from_result(Err(
            Failure::new(Exit::Refused, "too many are asking").hint("ask again in a few seconds")
        )),
        _ => asked(stream, fleet, root)?,
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    Timed::new(stream).write_all(&bytes)
}

/// Reads the question and does what it asks.
fn asked(stream: &UnixStream, fleet: &Arc<Fleet>, root: bool) -> io::Result<Reply> {
    let mut line = String::new();
    BufReader::new(Timed::new(stream).take(LONGEST_QUESTION)).read_line(&mut line)?;
    Ok(match serde_json::from_str::<Request>(&line) {
        Err(error) => Reply::from_result(Err(Failure::because(Exit::Usage, "not a question", &error))),
        Ok(request) if request.version != VERSION => Reply::from_result(Err(Failure::new(
            Exit::Usage,
            format!("version {} is not spoken here, but {VERSION}", request.version),
        ))),
        Ok(request) if request.verb != Verb::Status && !root => {
            Reply::from_result(Err(Failure::new(Exit::Refused, "only root may do that")))
        }
        Ok(request) => act(&request, fleet, stream)?,
    })
}

/// The place of one who asks and isn't root: there are [`GUESTS`] of them, so that root is always heard.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(guests: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(guests));
        (guests.fetch_add(1, Ordering::SeqCst) < GUESTS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection whose peer has [`PEER_LIMIT`] in all, however often it says or takes a little.
struct Timed<'a> {
    stream: &'a UnixStream,
    end: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, end: Instant::now() + PEER_LIMIT }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl io::Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn act(request: &Request, fleet: &Arc<Fleet>, stream: &UnixStream) -> io::Result<Reply> {
    let work: Work = match request.verb {
        Verb::Status => {
            let mut reply = Reply::from_result(Ok(String::new()));
            reply.status = Some(fleet.status());
            return Ok(reply);
        }
        Verb::Reload => return Ok(Reply::from_result(fleet.reload())),
        Verb::Eject => Fleet::eject,
        Verb::Lock => Fleet::lock,
        Verb::Unlock => Fleet::unlock,
    };
    let Some(name) = request.magazine.as_deref() else {
        return Ok(Reply::from_result(Err(Failure::new(Exit::Usage, "which magazine?"))));
    };
    let done = waiting::attend(fleet, name, work, |waiting| {
        if !request.progress {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&Waiting { waiting })?;
        line.push(b'\n');
        Timed::new(stream).write_all(&line)
    })?;
    Ok(Reply::from_result(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let guests = Arc::new(AtomicUsize::new(0));
        let mut taken: Vec<_> = (0..GUESTS).map(|_| Seat::take(&guests)).collect();
        assert!(taken.iter().all(Option::is_some));
        for _ in 0..3 {
            assert!(Seat::take(&guests).is_none());
        }
        taken.pop();
        assert!(Seat::take(&guests).is_some());
    }

    #[test]
    fn a_peer_that_drips_has_no_more_time_than_others() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut timed = Timed { stream: &ours, end: Instant::now() + Duration::from_millis(50) };
        theirs.write_all(b"x").unwrap();
        assert_eq!(timed.read(&mut [0]).unwrap(), 1);
        assert!(timed.read(&mut [0]).is_err(), "nothing more comes");
        theirs.write_all(b"x").unwrap();
        assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
