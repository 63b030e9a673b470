//! The text of a kernel uevent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::event::Event;
use crate::device::block::{BlockDevice, DevNum};

/// A kernel uevent about a block device.
///
/// The message (`lib/kobject_uevent.c`) is a sequence of NUL-terminated texts: `ACTION@DEVPATH`, then `KEY=VALUE`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uevent {
    action: String,
    device: BlockDevice,
}

impl Uevent {
    /// Reads a message, none if it is not about a block device; device nodes are in `dev`.
    pub(super) fn parse(message: &[u8], dev: &Path) -> Option<Uevent> {
        let mut texts = message.split(|&byte| byte == 0);
        let header = texts.next()?;
        if !header.contains(&b'@') {
            return None;
        }
        let values: HashMap<&str, &str> =
            texts.filter_map(|text| std::str::from_utf8(text).ok()?.split_once('=')).collect();
        let value = |key: &str| values.get(key).copied();
        if value("SUBSYSTEM") != Some("block") {
            return None;
        }
        let devnum = DevNum { major: value("MAJOR")?.parse().ok()?, minor: value("MINOR")?.parse().ok()? };
        // The kernel names a device node relative to /dev, with directories but never with a leading slash or dots.
        let name = Path::new(value("DEVNAME")?);
        let plain = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let path: PathBuf = plain.then(|| dev.join(name))?;
        let device = BlockDevice {
            path,
            devnum,
            tag: None,
            fs_type: None,
            label: None,
            serial: None,
            size_bytes: 0,
            diskseq: value("DISKSEQ").and_then(|text| text.parse().ok()),
        };
        Some(Uevent { action: value("ACTION")?.to_owned(), device })
    }

    /// The event, none for what doesn't concern users of the device (`move`, `bind`, `online` ...).
    pub(super) fn into_event(self) -> Option<Event> {
        Event::of_action(&self.action, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADD: &[u8] =
        b"add@/devices/pci0000:00/block/sdb\0ACTION=add\0DEVPATH=/devices/pci0000:00/block/sdb\0\
        SUBSYSTEM=block\0MAJOR=8\0MINOR=16\0DEVNAME=sdb\0DEVTYPE=disk\0DISKSEQ=12\0SEQNUM=4711\0";

    fn replaced(from: &str, to: &str) -> Option<Uevent> {
        let text = String::from_utf8(ADD.to_vec()).unwrap();
        assert!(text.contains(from));
        Uevent::parse(text.replace(from, to).as_bytes(), Path::new("/dev"))
    }

    #[test]
    fn a_block_event_is_read() {
        let event = Uevent::parse(ADD, Path::new("/dev")).unwrap().into_event().unwrap();
        let device = event.device().unwrap().clone();
        assert_eq!(device.path, Path::new("/dev/sdb"));
        assert_eq!(device.devnum, DevNum { major: 8, minor: 16 });
        assert_eq!(device.diskseq, Some(12));
        assert_eq!(event, Event::Added { device });
    }

    #[test]
    fn other_actions_and_subsystems_are_no_events() {
        assert!(replaced("SUBSYSTEM=block", "SUBSYSTEM=net").is_none());
        assert!(replaced("ACTION=add", "ACTION=bind").unwrap().into_event().is_none());
        let removed = replaced("ACTION=add", "ACTION=remove").unwrap().into_event();
        assert!(matches!(removed, Some(Event::Removed { .. })), "{removed:?}");
        let changed = replaced("ACTION=add", "ACTION=change").unwrap().into_event();
        assert!(matches!(changed, Some(Event::Changed { .. })), "{changed:?}");
    }

    #[test]
    fn malformed_messages_are_no_events() {
        assert!(replaced("add@", "add-").is_none());
        assert!(replaced("MAJOR=8", "MAJOR=x").is_none());
        assert!(replaced("DEVNAME=sdb", "DEVNAME=../etc/passwd").is_none());
        assert!(replaced("DEVNAME=sdb", "DEVNAME=/etc/passwd").is_none());
        // udevd's own messages on the same netlink family start with a binary header.
        assert!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe", Path::new("/dev")).is_none());
    }

    proptest! {
        #[test]
        fn no_message_brings_the_parser_down(message in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = Uevent::parse(&message, Path::new("/dev"));
            let _ = Uevent::parse(&ADD[..cut.min(ADD.len())], Path::new("/dev"));
        }
    }
}
