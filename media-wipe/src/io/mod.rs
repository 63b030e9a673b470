//! Reading and writing a device: one pass, its speed, its progress.

pub(crate) mod device;
pub(crate) mod pass;
pub(crate) mod profile;
pub(crate) mod progress;
pub(crate) mod region;
