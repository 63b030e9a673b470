//! Plugged drives: which one it is, what is on it, opening it for one piece of work.

pub mod enrolled;
pub mod identity;
pub mod partition;
pub mod scoped_open;
pub mod smart;
pub mod unknown_drives;
pub mod unseen;
