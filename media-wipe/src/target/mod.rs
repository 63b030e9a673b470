//! A drive that may be overwritten, held exclusively.

pub(crate) mod open;
