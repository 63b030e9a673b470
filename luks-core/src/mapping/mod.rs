//! The kernel's mapping of an open container.

pub(crate) mod device_mapper;
pub(crate) mod device_number;
pub(crate) mod live;
pub(crate) mod open;
pub(crate) mod status;
