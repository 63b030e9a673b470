//! What lies in the work directory: state, locks, log.

pub(crate) mod legacy;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod ownership;
pub(crate) mod store;
pub(crate) mod volumes_file;
