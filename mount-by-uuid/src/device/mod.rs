//! Block devices and what they carry.

pub(crate) mod block;
pub(crate) mod find;
pub(crate) mod fs_uuid;
pub(crate) mod motor;
pub(crate) mod namespace;
pub(crate) mod probe;
pub(crate) mod statx;
pub(crate) mod sysfs;
pub(crate) mod system;
pub(crate) mod udev_database;
