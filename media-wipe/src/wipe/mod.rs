//! A whole wipe: filling, reading back, a journal to go on from.

pub(crate) mod builder;
pub(crate) mod error;
#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod fill;
pub(crate) mod journal;
pub(crate) mod readback;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod verifying;
pub(crate) mod writing;
