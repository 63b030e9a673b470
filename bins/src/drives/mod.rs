//! Plugged drives: which one it is, what is on it, who else mounts it, opening it for one piece of work.

pub mod automounters;
pub mod enrolled;
pub mod hidden_area;
pub mod identity;
pub mod partition;
pub mod scoped_open;
pub mod smart;
pub mod unknown_drives;
pub mod unseen;
