//! What a block device stands on, and what is built on it.

use std::collections::BTreeSet;
use std::io;

use super::loops::Loops;
use super::node::Node;
use super::root::System;
use super::sysfs::BlockDevice;

pub(crate) fn walk(
    start: &BlockDevice,
    next: impl Fn(&BlockDevice) -> io::Result<Vec<BlockDevice>>,
) -> io::Result<Vec<BlockDevice>> {
    let mut seen = BTreeSet::from([start.number]);
    let mut found = vec![start.clone()];
    let mut at = 0;
    while let Some(device) = found.get(at) {
        let fresh: Vec<_> = next(device)?.into_iter().filter(|device| seen.insert(device.number)).collect();
        found.extend(fresh);
        at += 1;
    }
    Ok(found)
}

impl BlockDevice {
    /// Devices that are built on this one (device-mapper, md, bcache, loop).
    pub(crate) fn holders(&self, loops: &Loops) -> io::Result<Vec<Self>> {
        let mut devices = self.links("holders")?;
        devices.extend(loops.over(Node::Block(self.number)).cloned());
        Ok(devices)
    }

    /// This device, its partitions, and everything built on any of them, each once.
    pub(crate) fn with_users(&self, loops: &Loops) -> io::Result<Vec<Self>> {
        walk(self, |device| Ok([device.partitions()?, device.holders(loops)?].concat()))
    }

    /// This device and everything that it stands on: disks of partitions, members of dm or md devices, and what a loop
    /// device shows.
    pub(crate) fn with_foundations(&self, system: &System, loops: &Loops) -> io::Result<Vec<Self>> {
        walk(self, |device| {
            let mut below = device.links("slaves")?;
            below.extend(device.disk()?);
            let shown = loops.below(device.number);
            below.extend(shown.map(|number| Self::by_number(system, number)).transpose()?);
            Ok(below)
        })
    }
}
