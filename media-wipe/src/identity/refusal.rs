//! Why a device must not be overwritten.

use std::fmt;
use std::path::PathBuf;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// A reason not to overwrite a device.
///
/// It is displayed as one line, and serialized as `{"kind": .., "message": .., "remedy": ..}`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The device, a partition of it, or a device built on it is mounted.
    Mounted {
        /// The mounted device.
        device: PathBuf,
        /// Where it is mounted.
        mount_point: PathBuf,
    },
    /// The device, a partition of it, or a file is used as swap space.
    Swap {
        /// The swap device or file.
        device: PathBuf,
    },
    /// Another device is built on it: device-mapper (LUKS, LVM), md, bcache or loop.
    Held {
        /// The device or partition that is held.
        device: PathBuf,
        /// The device built on it.
        holder: PathBuf,
        /// The holder's name, as device-mapper or md gives it.
        name: Option<String>,
    },
    /// The running system lives on it.
    SystemDisk {
        /// Which part of the system.
        mount_point: PathBuf,
    },
    /// The device or file can't be written.
    ReadOnly,
    /// It is a partition, not a whole drive.
    Partition {
        /// The drive that it belongs to.
        disk: PathBuf,
    },
    /// Some other program or kernel part has opened it exclusively.
    Busy,
    /// It has no serial number by which it could be told from another drive.
    NoStableId,
    /// Another device shows the same serial number.
    SharedId {
        /// The serial number.
        id: String,
        /// The other device.
        other: PathBuf,
    },
    /// It has no bytes: a reader without a medium, a loop device without a file, an empty file.
    Empty,
    /// The file is what a loop device shows.
    LoopFile {
        /// The loop device.
        loop_device: PathBuf,
    },
    /// It is a loop device that shows another block device.
    LoopOver {
        /// The device that it shows.
        device: PathBuf,
    },
    /// The caller keeps it for something: a register of drives that must not be erased, say. Never found by this crate.
    Reserved {
        /// For what, in a form that fits after a semicolon: "it is the archive of 2019".
        why: String,
        /// What to do if it may be overwritten all the same.
        remedy: String,
    },
    /// Something about it could not be found out.
    Unexplained {
        /// What was looked for.
        what: String,
        /// Why it wasn't found.
        reason: String,
    },
}

impl Refusal {
    /// Names the kind of refusal in a word that stays the same between versions.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mounted { .. } => "mounted",
            Self::Swap { .. } => "swap",
            Self::Held { .. } => "held",
            Self::SystemDisk { .. } => "system-disk",
            Self::ReadOnly => "read-only",
            Self::Partition { .. } => "partition",
            Self::Busy => "busy",
            Self::NoStableId => "no-stable-id",
            Self::SharedId { .. } => "shared-id",
            Self::Empty => "empty",
            Self::LoopFile { .. } => "loop-file",
            Self::LoopOver { .. } => "loop-over",
            Self::Reserved { .. } => "reserved",
            Self::Unexplained { .. } => "unexplained",
        }
    }

    /// Says what is in the way.
    pub fn message(&self) -> String {
        match self {
            Self::Mounted { device, mount_point } => {
                format!("{} is mounted on {}", device.display(), mount_point.display())
            }
            Self::Swap { device } => format!("{} is used as swap space", device.display()),
            Self::Held { device, holder, name } => {
                let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("{}{name} is built on {}", holder.display(), device.display())
            }
            Self::SystemDisk { mount_point } => {
                format!("the running system's {} lives on it", mount_point.display())
            }
            Self::ReadOnly => "it is read-only".into(),
            Self::Partition { disk } => format!("it is a partition of {}, not a whole drive", disk.display()),
            Self::Busy => "something has opened it exclusively".into(),
            Self::NoStableId => "it shows no serial number to confirm".into(),
            Self::SharedId { id, other } => format!("{} shows the same serial number {id}", other.display()),
            Self::Empty => "it holds no bytes".into(),
            Self::LoopFile { loop_device } => format!("{} shows this file", loop_device.display()),
            Self::LoopOver { device } => format!("it shows {}, and is no drive of its own", device.display()),
            Self::Reserved { why, .. } => why.clone(),
            Self::Unexplained { what, reason } => format!("can't find out {what}: {reason}"),
        }
    }

    /// Says what to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Mounted { mount_point, .. } => {
                format!("unmount it first: umount {}", mount_point.display())
            }
            Self::Swap { device } => format!("stop swapping to it first: swapoff {}", device.display()),
            Self::Held { holder, name, .. } => {
                let holder = holder.display();
                match name {
                    Some(name) => format!("close or stop {name} first"),
                    None => format!("close or stop {holder} first"),
                }
            }
            Self::SystemDisk { .. } => "name another drive".into(),
            Self::ReadOnly => "look for a write-protect switch, or for the permissions".into(),
            Self::Partition { disk } => format!("name the whole drive: {}", disk.display()),
            Self::Busy => {
                "look in other mount namespaces and containers for what uses it (lsblk, fuser -v)".into()
            }
            Self::NoStableId => {
                "plug it into another port or dock, one that passes the serial number on".into()
            }
            Self::SharedId { other, .. } => format!("unplug {} first", other.display()),
            Self::Empty => "put a medium in, or give it a size".into(),
            Self::LoopFile { loop_device } => {
                format!("name the loop device, or detach it: losetup -d {}", loop_device.display())
            }
            Self::LoopOver { device } => format!("name the drive itself: {}", device.display()),
            Self::Reserved { remedy, .. } => remedy.clone(),
            Self::Unexplained { .. } => {
                "what can't be explained isn't overwritten; run as root, with /proc and /sys mounted".into()
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message(), self.remedy())
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Refusal", 3)?;
        object.serialize_field("kind", self.kind())?;
        object.serialize_field("message", &self.message())?;
        object.serialize_field("remedy", &self.remedy())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_line_and_an_object() {
        let refusal = Refusal::Mounted { device: "/dev/sdb1".into(), mount_point: "/mnt".into() };
        assert_eq!(refusal.to_string(), "/dev/sdb1 is mounted on /mnt; unmount it first: umount /mnt");
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["kind"], "mounted");
        assert_eq!(json["remedy"], "unmount it first: umount /mnt");
        let reserved = Refusal::Reserved { why: "it is the archive".into(), remedy: "ask Ada".into() };
        assert_eq!((reserved.kind(), &*reserved.to_string()), ("reserved", "it is the archive; ask Ada"));
    }
}
