//! The flows that glue the libraries into `offsite`, `offsited` and `vchanger`: a module for each.
//!
//! Nothing here is knowledge that a library could have. A flow reads the site description
//! ([`site::Site`]), calls the libraries in the right order, and turns what they say into lines for a
//! person, JSON for a script, and an exit code ([`failure::Exit`]).

// First, since it takes the place of the standard library's macros in all that follows.
#[macro_use]
mod output;

pub mod accounts;
pub mod adopt;
pub mod as_bacula;
pub mod automounters;
pub mod bacula_view;
pub mod cli;
pub mod conf;
pub mod confirm;
pub mod control;
pub mod doctor;
pub mod durable;
pub mod eject;
pub mod enrolled;
pub mod enrolment;
pub mod escape;
pub mod failure;
pub mod filesystems;
pub mod full_disk;
pub mod generate;
pub mod headers;
pub mod hidden_area;
pub mod history;
pub mod identify;
pub mod init;
pub mod interrupt;
pub mod key;
pub mod key_copies;
pub mod keyring;
pub mod luks;
pub mod mapped;
pub mod mount_root;
pub mod partition;
pub mod passwords;
pub mod paths;
pub mod patience;
pub mod place;
pub mod plan;
pub mod prepare;
pub mod process;
pub mod program;
pub mod progress;
pub mod register;
pub mod report;
pub mod rotation;
pub mod secret_input;
mod serve;
pub mod shell;
pub mod site;
pub mod smart;
pub mod status;
pub mod superblock;
pub mod supervise;
pub mod torn;
pub mod trusted_path;
pub mod unknown_drives;
pub mod unseen;
pub mod wipe;
