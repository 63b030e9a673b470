//! The control socket and what is said through it.

pub mod site_status;
pub mod socket;
