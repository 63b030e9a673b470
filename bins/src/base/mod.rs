//! Failures, paths, terminals, programs, and files that survive a power cut.

#[macro_use]
pub(crate) mod output;
pub mod atomic_file;
pub mod confirm;
pub mod escape;
pub mod failure;
pub mod filesystems;
pub mod interrupt;
pub mod mount_root;
pub mod paths;
pub mod patience;
pub mod process;
pub mod program;
pub mod progress;
pub mod report;
pub mod secret_input;
pub mod shell;
pub mod superblock;
pub mod trusted_path;
