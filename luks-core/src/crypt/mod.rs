//! libcryptsetup, and what it says.

pub(crate) mod log_capture;
pub(crate) mod pbkdf;
pub(crate) mod session;
pub(crate) mod udev_sync;
