//! What the files of a site are made from.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use super::error::GenerateError;
use crate::site::description::Bacula;
use crate::values::name::Name;
use crate::values::password::Passwords;

/// All that the files are made from.
pub struct Input<'a> {
    /// The description that the files' headers name, e.g. `/etc/offsite/site.toml`.
    pub source: &'a Path,
    /// Bacula.
    pub bacula: &'a Bacula,
    /// The shared passwords.
    pub passwords: &'a Passwords,
    /// The changer.
    pub changer: &'a ChangerInput,
}

/// What the changer program needs to know, and Bacula about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangerInput {
    /// Name of the changer, and of the Director's Storage resource.
    pub storage_name: Name,
    /// Where the changer keeps its state and the drives' links.
    pub work_dir: PathBuf,
    /// The changer's log file.
    pub log_file: PathBuf,
    /// The changer's configuration file.
    pub config_path: PathBuf,
    /// The changer program.
    pub command: PathBuf,
    /// Directories in which the magazines' filesystems appear, in the order of their slots.
    pub magazines: Vec<PathBuf>,
}

impl ChangerInput {
    /// The changer `c0` with this project's usual paths.
    pub fn new(magazines: Vec<PathBuf>) -> Self {
        Self {
            storage_name: Name::known("c0"),
            work_dir: PathBuf::from("/var/lib/offsite/c0"),
            log_file: PathBuf::from("/var/log/offsite/c0.log"),
            config_path: PathBuf::from("/etc/offsite/vchanger.conf"),
            command: PathBuf::from("/usr/bin/vchanger"),
            magazines,
        }
    }
}

/// Bacula splits a command at blanks, knows quotes, and replaces `%` codes; no shell sees it.
pub(crate) fn plain_command_path(path: &Path) -> Result<(), GenerateError> {
    let special = |c: &char| c.is_whitespace() || matches!(c, '%' | '"' | '\'' | '\\');
    match path.to_string_lossy().chars().find(special) {
        Some(found) => Err(GenerateError::CommandPath { path: path.to_owned(), found }),
        None => Ok(()),
    }
}
