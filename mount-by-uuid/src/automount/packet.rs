//! What the kernel writes into the pipe: `struct autofs_v5_packet` of `include/uapi/linux/auto_fs.h`.
//!
//! ```text
//! offset  0  proto_version  i32     offset 24  uid   u32
//!         4  type           i32            28  gid   u32
//!         8  token          u32            32  pid   u32
//!        12  dev            u32            36  tgid  u32
//!        16  ino            u64            40  len   u32
//!                                          44  name  256 bytes, NUL-terminated
//! ```
//! It takes 300 bytes, which 64-bit kernels round up to 304. All numbers are in the machine's byte order.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::keeper::Asker;

/// More than the longest packet: reading less would lose the rest of it.
pub(super) const PACKET_MAX: usize = 512;

const VERSION: u32 = 5;
const MISSING_INDIRECT: u32 = 3;
const EXPIRE_INDIRECT: u32 = 4;
const TYPE_AT: usize = 4;
const TOKEN_AT: usize = 8;
const UID_AT: usize = 24;
const GID_AT: usize = 28;
const PID_AT: usize = 32;
const LEN_AT: usize = 40;
const NAME_AT: usize = 44;
const NAME_MAX: usize = 255;

/// The number by which an answer refers to its request (`wait_queue_token`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(pub(super) u32);

/// What the kernel asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// Someone waits for this name to be mounted.
    Missing { token: Token, name: OsString, asker: Asker },
    /// This name was idle for long enough to be unmounted; everyone who looks at it waits meanwhile.
    Expire { token: Token, name: OsString },
}

/// A packet that can't be served, and its token so that whoever waits for it can be released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unserved(pub(super) Option<Token>);

impl Packet {
    pub(super) fn decode(bytes: &[u8]) -> Result<Packet, Unserved> {
        let word = |at: usize| word(bytes, at);
        let token = token_of(bytes).ok_or(Unserved(None))?;
        let unserved = || Unserved(Some(token));
        let len = word(LEN_AT).and_then(|len| usize::try_from(len).ok()).ok_or_else(unserved)?;
        let name = bytes.get(NAME_AT..NAME_AT.saturating_add(len)).ok_or_else(unserved)?;
        if word(0) != Some(VERSION) || len > NAME_MAX || !is_name(OsStr::from_bytes(name)) {
            return Err(unserved());
        }
        let name = OsStr::from_bytes(name).to_owned();
        match word(TYPE_AT) {
            Some(MISSING_INDIRECT) => {
                let asker = || Some(Asker { uid: word(UID_AT)?, gid: word(GID_AT)?, pid: word(PID_AT)? });
                Ok(Packet::Missing { token, name, asker: asker().ok_or_else(unserved)? })
            }
            Some(EXPIRE_INDIRECT) => Ok(Packet::Expire { token, name }),
            _ => Err(unserved()),
        }
    }
}

/// The token of a packet of whatever kind.
pub(super) fn token_of(packet: &[u8]) -> Option<Token> {
    word(packet, TOKEN_AT).map(Token)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Tells whether a text can name a directory directly below the mount point.
pub(super) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASKER: Asker = Asker { uid: 65534, gid: 33, pid: 4711 };

    fn packet(kind: u32, token: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 304];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(0, 5);
        put(4, kind);
        put(8, token);
        put(24, ASKER.uid);
        put(28, ASKER.gid);
        put(32, ASKER.pid);
        put(40, u32::try_from(name.len()).unwrap());
        bytes[44..44 + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn missing_and_expire_are_told_apart() {
        let name = OsString::from("3f1e2a60");
        assert_eq!(
            Packet::decode(&packet(3, 7, b"3f1e2a60")),
            Ok(Packet::Missing { token: Token(7), name: name.clone(), asker: ASKER })
        );
        assert_eq!(Packet::decode(&packet(4, 8, b"3f1e2a60")), Ok(Packet::Expire { token: Token(8), name }));
        // A 32-bit kernel doesn't pad.
        assert!(Packet::decode(&packet(3, 7, b"x")[..300]).is_ok());
    }

    #[test]
    fn what_cannot_be_served_still_has_a_token_to_answer() {
        for (kind, name) in [(5, &b"x"[..]), (3, b""), (3, b".."), (3, b"a/b"), (3, b"a\0b")] {
            assert_eq!(
                Packet::decode(&packet(kind, 9, name)),
                Err(Unserved(Some(Token(9)))),
                "{kind} {name:?}"
            );
        }
        let mut old = packet(3, 9, b"x");
        old[0..4].copy_from_slice(&4u32.to_ne_bytes());
        assert_eq!(Packet::decode(&old), Err(Unserved(Some(Token(9)))));
        assert_eq!(Packet::decode(&[0; 11]), Err(Unserved(None)));
    }

    proptest! {
        #[test]
        fn no_packet_brings_the_decoder_down(bytes in prop::collection::vec(any::<u8>(), 0..PACKET_MAX)) {
            let _ = Packet::decode(&bytes);
        }

        #[test]
        fn every_name_of_a_directory_survives(name in prop::collection::vec(1u8.., 1..=255), token: u32) {
            let decoded = Packet::decode(&packet(3, token, &name));
            let name = OsStr::from_bytes(&name).to_owned();
            if is_name(&name) {
                prop_assert_eq!(decoded, Ok(Packet::Missing { token: Token(token), name, asker: ASKER }));
            } else {
                prop_assert_eq!(decoded, Err(Unserved(Some(Token(token)))));
            }
        }
    }
}
