//! Which drive it is, what is on it, and what speaks against overwriting it.

pub(crate) mod contents;
pub(crate) mod examine;
pub(crate) mod refusal;
pub(crate) mod safety;
pub(crate) mod serial;
