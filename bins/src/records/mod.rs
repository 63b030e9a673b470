//! What the server remembers: header backups, marks, history, keys under exchange.

pub mod enrolment;
pub mod fsck_due;
pub mod header_backups;
pub mod header_changes;
pub mod header_place;
pub mod history;
pub mod key_copies;
pub mod keyring;
