//! Following devices as they come and go.

pub(crate) mod event;
mod kernel;
mod uevent;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use event::Event;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use udev::{EventType, MonitorBuilder, MonitorSocket};
use uevent::Uevent;

use crate::device::block::{BlockDevice, DevNum};
use crate::device::system::System;
use crate::device::udev_database::Content;

/// How much of the kernel's memory may hold events that were not read yet, in bytes; an event takes 1 to 2 KiB.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A subscription to block devices' coming and going.
///
/// Where udevd runs, events come from it, after it has finished with the device: the device node, its links and the
/// tag are there. Elsewhere they come from the kernel, before anyone has looked at the device, and carry no tag: use
/// [`System::probe`]. Events may be repeated, and an event may be about a device that has already gone again.
///
/// Subscribe first, scan second: then nothing is missed.
///
/// libudev's monitor is not thread-safe, so a `Hotplug` stays on the thread that made it.
pub struct Hotplug {
    source: Source,
    system: System,
}

enum Source {
    Udev(MonitorSocket),
    Kernel(kernel::KernelSocket),
}

/// Why devices can't be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HotplugError {
    /// The subscription was refused.
    #[error("can't subscribe to device events")]
    Subscribe {
        /// What the kernel or libudev said.
        #[source]
        source: io::Error,
    },
    /// Waiting for or reading an event failed.
    #[error("can't read device events; subscribe again")]
    Read {
        /// What the kernel or libudev said.
        #[source]
        source: io::Error,
    },
}

impl Hotplug {
    /// Subscribes to the events of all block devices from now on.
    ///
    /// # Errors
    /// [`HotplugError::Subscribe`].
    pub fn listen(system: &System) -> Result<Hotplug, HotplugError> {
        let fail = |source| HotplugError::Subscribe { source };
        let source = if system.has_udevd() {
            let monitor =
                MonitorBuilder::new().and_then(|builder| builder.match_subsystem("block")?.listen());
            let monitor = monitor.map_err(fail)?;
            enlarge_buffer(monitor.as_fd());
            Source::Udev(monitor)
        } else {
            let socket = kernel::KernelSocket::open(system).map_err(|errno| fail(errno.into()))?;
            enlarge_buffer(socket.as_fd());
            Source::Kernel(socket)
        };
        Ok(Hotplug { source, system: system.clone() })
    }

    /// Tells whether events come from udevd (with tags) or straight from the kernel (without).
    pub fn is_from_udevd(&self) -> bool {
        matches!(self.source, Source::Udev(_))
    }

    /// Waits for the next event, for ever without `timeout`; none when the time is over.
    ///
    /// # Errors
    /// [`HotplugError::Read`]. Lost events are not an error but [`Event::Overflow`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, HotplugError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match self.receive() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if !self.wait(deadline)? {
                        return Ok(None);
                    }
                }
                Err(Errno::ENOBUFS) => return Ok(Some(Event::Overflow)),
                Err(errno) => return Err(HotplugError::Read { source: errno.into() }),
            }
        }
    }

    /// Takes the next waiting message: none if it is about nothing of interest, `EAGAIN` if there is no message.
    fn receive(&self) -> Result<Option<Event>, Errno> {
        match &self.source {
            Source::Udev(monitor) => receive_from_udevd(&self.system, monitor),
            Source::Kernel(socket) => {
                let event = socket.receive()?.and_then(Uevent::into_event);
                Ok(event.map(|event| event.completed(&self.system)))
            }
        }
    }

    /// Waits until a message can be read; false when the time is over.
    fn wait(&self, deadline: Option<Instant>) -> Result<bool, HotplugError> {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                // Rounded up, lest the last fraction of a millisecond is spent in a busy loop.
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(HotplugError::Read { source: errno.into() }),
        }
    }
}

impl AsFd for Hotplug {
    /// Returns the socket, readable when [`Hotplug::next`] has something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Udev(monitor) => monitor.as_fd(),
            Source::Kernel(socket) => socket.as_fd(),
        }
    }
}

impl std::fmt::Debug for Hotplug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hotplug").field("is_from_udevd", &self.is_from_udevd()).finish()
    }
}

fn enlarge_buffer(socket: BorrowedFd<'_>) {
    // Only root may go beyond net.core.rmem_max; with less the buffer overflows sooner, which is reported anyway.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}

fn receive_from_udevd(system: &System, monitor: &MonitorSocket) -> Result<Option<Event>, Errno> {
    // The udev crate returns no error, but libudev leaves it in errno.
    Errno::clear();
    let Some(event) = monitor.iter().next() else {
        return match Errno::last() {
            Errno::UnknownErrno => Err(Errno::EAGAIN),
            errno => Err(errno),
        };
    };
    let action = match event.event_type() {
        EventType::Add => "add",
        EventType::Remove => "remove",
        EventType::Change => "change",
        _ => return Ok(None),
    };
    let content = Content::of(&event);
    let (Some(devnum), Some(path)) = (event.devnum(), content.path) else { return Ok(None) };
    let diskseq = event.property_value("DISKSEQ").and_then(|text| text.to_str()?.parse().ok());
    let device = BlockDevice {
        path,
        devnum: DevNum::from_dev(devnum),
        tag: content.tag,
        fs_type: content.fs_type,
        label: content.label,
        serial: content.serial,
        size_bytes: 0,
        diskseq,
    };
    Ok(Event::of_action(action, device).map(|event| event.completed(system)))
}

/// An entry point for a fuzzer.
#[cfg(fuzzing)]
pub(crate) fn fuzz_uevent(bytes: &[u8]) {
    let _event = Uevent::parse(bytes, "/dev".as_ref()).map(Uevent::into_event);
}
