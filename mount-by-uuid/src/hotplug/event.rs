//! What is told of a device that comes or goes.

use crate::device::block::BlockDevice;
use crate::device::sysfs;
use crate::device::system::System;

/// What happened to a block device.
///
/// The device is told as far as it is known: a tag only by udevd, a size only while the device is still there. An event
/// that comes late may be about an earlier device of the same number: [`BlockDevice::diskseq`] tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A device appeared.
    Added {
        /// The device.
        device: BlockDevice,
    },
    /// A device is gone.
    Removed {
        /// The device.
        device: BlockDevice,
    },
    /// A device's content or size changed: a medium was inserted, a filesystem made, a loop file attached.
    Changed {
        /// The device.
        device: BlockDevice,
    },
    /// Events were lost because they weren't read fast enough: [`System::scan`] tells what is there now.
    Overflow,
}

impl Event {
    /// Returns the device that the event is about, none for [`Event::Overflow`].
    pub fn device(&self) -> Option<&BlockDevice> {
        match self {
            Event::Added { device } | Event::Removed { device } | Event::Changed { device } => Some(device),
            Event::Overflow => None,
        }
    }

    /// Adds what /sys knows of the device if it is still there.
    pub(super) fn completed(mut self, system: &System) -> Event {
        if let Event::Added { device } | Event::Removed { device } | Event::Changed { device } = &mut self
            && let Some(now) = sysfs::of(system, device.devnum)
            && (device.diskseq.is_none() || device.diskseq == now.diskseq)
        {
            device.size_bytes = now.size_bytes;
            device.diskseq = now.diskseq;
            device.serial = device.serial.take().or(now.serial);
        }
        self
    }

    pub(super) fn of_action(action: &str, device: BlockDevice) -> Option<Event> {
        match action {
            "add" => Some(Event::Added { device }),
            "remove" => Some(Event::Removed { device }),
            "change" => Some(Event::Changed { device }),
            _ => None,
        }
    }
}
