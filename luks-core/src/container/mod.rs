//! A container: its header as it was read, slots, backups, repair.

pub(crate) mod backup;
pub(crate) mod cost;
pub(crate) mod damage;
pub(crate) mod enrolment;
pub(crate) mod format;
pub(crate) mod handle;
pub(crate) mod header_file;
pub(crate) mod integrity;
pub(crate) mod judged;
pub(crate) mod key_trial;
pub(crate) mod known;
pub(crate) mod load_error;
pub(crate) mod loaded;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod rotation;
pub(crate) mod slots;
