//! Handing a descriptor to another process through a socket (`unix(7)`, `SCM_RIGHTS`).
#![expect(unsafe_code, reason = "a descriptor that arrives is a plain number until somebody owns it")]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The bytes that go with a descriptor.
const GREETING: &[u8] = b"pipe";

/// Sends a descriptor.
pub(super) fn send_descriptor(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(GREETING)];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives a descriptor that was sent; `EBADMSG` if something else came.
pub(super) fn receive_descriptor(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut bytes = [0; GREETING.len()];
    let mut bytes = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
            received = descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next_back();
        }
    }
    received.ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_anything_else_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        send_descriptor(ours.as_fd(), writer.as_fd()).unwrap();
        let received = receive_descriptor(theirs.as_fd()).unwrap();
        writer.write_all(b"a").unwrap();
        drop(writer);
        std::fs::File::from(received).write_all(b"b").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "ab");
        theirs.write_all(b"word").unwrap();
        assert_eq!(receive_descriptor(ours.as_fd()).unwrap_err(), Errno::EBADMSG);
    }
}
