//! What a wipe has done, for people and for programs.

pub(crate) mod health;
pub(crate) mod mark;
pub(crate) mod outcome;
pub(crate) mod page;
pub(crate) mod verify;
