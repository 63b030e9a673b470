//! site.toml, its editing, keys and passwords.

pub mod accounts;
pub mod description;
pub mod edit;
pub mod first_site;
pub mod key_file;
pub mod passwords;
pub mod rotation;
pub mod working_directories;
