//! The random stream that a drive is filled with.

pub(crate) mod keystream;
