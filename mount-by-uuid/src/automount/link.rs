//! The socket between a relay and its server, and what they say through it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::read;

use super::hand_over::receive_descriptor;
use super::keeper::UNSERVED;
use super::kernel::Kernel;
use super::packet::{PACKET_MAX, Token, token_of};

/// A message from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Requests are served from now on.
    Serving,
    /// This request was answered.
    Answered(Token),
    /// A message of the server's owner to the relay's owner.
    Note(u32),
}

impl Word {
    /// Kind and value, 32 bits each, in the machine's byte order.
    fn encode(self) -> [u8; 8] {
        let (kind, value) = match self {
            Word::Serving => (0u64, 0),
            Word::Answered(Token(token)) => (1, token),
            Word::Note(note) => (2, note),
        };
        (kind << 32 | u64::from(value)).to_ne_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Word> {
        let word = u64::from_ne_bytes(bytes.try_into().ok()?);
        let value = u32::try_from(word & u64::from(u32::MAX)).ok()?;
        match word >> 32 {
            0 => Some(Word::Serving),
            1 => Some(Word::Answered(Token(value))),
            2 => Some(Word::Note(value)),
            _ => None,
        }
    }
}

/// The server's end of the socket.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    pub(super) pipe: OwnedFd,
}

impl Link {
    /// Takes the end of a socket that [`Relay::connect`] made.
    pub(super) fn new(socket: OwnedFd) -> Result<Link, Errno> {
        let pipe = receive_descriptor(socket.as_fd())?;
        Ok(Link { socket, pipe })
    }

    /// Where the requests come from.
    pub(super) fn requests(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Fails the requests that a relay which has ended left in the pipe, and all later ones.
    pub(super) fn end(&self, kernel: &Kernel) {
        while let Ok(Some(request)) = take_request(&self.pipe) {
            fail(kernel, token_of(&request));
        }
        // If the kernel refuses, it is dead or no automount any more.
        let _ = kernel.catatonic();
    }

    pub(super) fn serving(&self) {
        self.say(Word::Serving);
    }

    pub(super) fn answered(&self, token: Token) {
        self.say(Word::Answered(token));
    }

    pub(super) fn note(&self, note: u32) {
        self.say(Word::Note(note));
    }

    fn say(&self, word: Word) {
        // That the relay is gone is noticed where its requests are read.
        let _ = send(self.socket.as_raw_fd(), &word.encode(), MsgFlags::MSG_NOSIGNAL);
    }
}

/// Takes a request from the kernel's pipe, if there is one; `EPIPE` when there will be no more.
pub(crate) fn take_request(pipe: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut request = vec![0; PACKET_MAX];
    match read(pipe, &mut request) {
        Ok(0) => Err(Errno::EPIPE),
        Ok(length) => {
            request.truncate(length);
            Ok(Some(request))
        }
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Lets those who wait for these requests try again.
pub(crate) fn fail(kernel: &Kernel, tokens: impl IntoIterator<Item = Token>) {
    for token in tokens {
        // The kernel refuses tokens that it doesn't know: then it was answered, only not said so.
        let _ = kernel.fail(token, UNSERVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_word_survives(value: u32) {
            for word in [Word::Serving, Word::Answered(Token(value)), Word::Note(value)] {
                prop_assert_eq!(Word::decode(&word.encode()), Some(word));
            }
        }

        #[test]
        fn no_message_brings_the_relay_down(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let _ = Word::decode(&bytes);
        }
    }
}
