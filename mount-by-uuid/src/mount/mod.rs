//! Mounting, flushing, unmounting, and who uses a filesystem.

pub(crate) mod detach;
pub(crate) mod filesystem;
pub(crate) mod table;
pub(crate) mod users;
