//! What stands on a disk, parsed and judged by our own code.

pub(crate) mod disk_header;
pub(crate) mod ends;
pub(crate) mod key_slot;
pub(crate) mod location;
pub(crate) mod luks1_header;
pub(crate) mod luks2_copy;
pub(crate) mod luks_uuid;
#[cfg(feature = "gpt")]
pub(crate) mod partition_table;
pub(crate) mod reencryption;
pub(crate) mod slot_info;
pub(crate) mod suspicion;
pub(crate) mod target;
pub(crate) mod version;
