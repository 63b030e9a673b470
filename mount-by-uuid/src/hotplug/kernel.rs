//! The kernel's own broadcast of uevents.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

use super::uevent::Uevent;
use crate::device::system::System;

/// The multicast group of messages from the kernel; group 2 carries udevd's (`libudev-monitor.c`).
const GROUP_KERNEL: u32 = 1;

/// The longest message: `UEVENT_BUFFER_SIZE` of `include/linux/kobject.h` for the values, as much again for the header.
const MESSAGE_MAX: usize = 2 * 2048;

pub(super) struct KernelSocket {
    socket: OwnedFd,
    dev: PathBuf,
}

impl KernelSocket {
    pub(super) fn open(system: &System) -> Result<KernelSocket, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP_KERNEL))?;
        Ok(KernelSocket { socket, dev: system.below("dev") })
    }

    /// Takes the next waiting message, none if it is of no interest.
    pub(super) fn receive(&self) -> Result<Option<Uevent>, Errno> {
        let mut buffer = [0; MESSAGE_MAX];
        let (length, sender) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer)?;
        // Any process may send to this socket; only the kernel's port is 0.
        let from_kernel = sender.is_some_and(|sender| sender.pid() == 0);
        let message = buffer.get(..length).filter(|_| from_kernel);
        Ok(message.and_then(|message| Uevent::parse(message, &self.dev)))
    }
}

impl AsFd for KernelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
