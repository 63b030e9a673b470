//! Asking Bacula and its changer, as Bacula's user.

pub mod as_bacula;
pub mod full_disk;
pub mod overview;
pub mod view;
