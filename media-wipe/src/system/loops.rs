//! Loop devices and what they show, which the kernel links neither as `holders` nor as `slaves`.
//!
//! A loop device over another block device (`losetup /dev/sdb`, `mount -o loop,offset=..`) doesn't open it exclusively
//! either, so this list is all that tells of it.

use std::{fs, io};

use super::node::{DeviceNumber, Node};
use super::root::System;
use super::sysfs::BlockDevice;

/// Every loop device that shows something, with what that is.
pub(crate) struct Loops(Vec<(BlockDevice, Node)>);

impl Loops {
    pub(crate) fn read(system: &System) -> io::Result<Self> {
        let mut loops = Vec::new();
        for device in system.all_block_devices()? {
            let Some(backing) = device.attribute("loop/backing_file")? else { continue };
            // What was removed since has no path by which it could be named for overwriting.
            if let Some(node) = fs::metadata(backing).ok().and_then(|meta| Node::of(&meta)) {
                loops.push((device, node));
            }
        }
        Ok(Self(loops))
    }

    /// The loop devices that show `node`.
    pub(crate) fn over(&self, node: Node) -> impl Iterator<Item = &BlockDevice> {
        self.0.iter().filter(move |(_, backing)| *backing == node).map(|(device, _)| device)
    }

    /// The block device that the loop device `number` shows, if it is one and shows one.
    pub(crate) fn below(&self, number: DeviceNumber) -> Option<DeviceNumber> {
        self.0.iter().find_map(|(device, backing)| match backing {
            Node::Block(shown) if device.number == number => Some(*shown),
            _ => None,
        })
    }
}
