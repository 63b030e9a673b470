//! The kernel's view of devices: sysfs, mounts, loop devices, locked memory.

pub(crate) mod attribute;
pub(crate) mod ioctl;
pub(crate) mod locked;
pub(crate) mod loops;
pub(crate) mod mount_table;
pub(crate) mod node;
pub(crate) mod root;
pub(crate) mod shielded_stack;
pub(crate) mod stack;
pub(crate) mod sysfs;
