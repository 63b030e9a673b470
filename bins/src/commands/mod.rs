//! The commands of `offsite`, a file or folder for each.

pub mod adopt;
pub mod arguments;
pub mod ask_daemon;
pub mod conf;
pub mod doctor;
pub mod eject;
pub mod generate;
pub mod identify;
pub mod init;
pub mod key;
pub mod luks;
pub mod plan;
pub mod prepare;
pub mod status;
pub mod wipe;
