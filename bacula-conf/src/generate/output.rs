//! A file as it is to be installed.

use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;

use super::input::Input;
use crate::site::origin;
use crate::syntax::tree::Document;

/// A file as it is to be installed.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Where it belongs: an absolute path.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Name of the owning user.
    pub owner: String,
    /// Name of the owning group.
    pub group: String,
    /// Its content, passwords included.
    pub text: String,
}

impl Debug for GeneratedFile {
    /// Leaves the text out: it holds passwords.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedFile")
            .field("path", &self.path)
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("owner", &self.owner)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

pub(crate) fn file(
    input: &Input<'_>,
    path: PathBuf,
    (owner, group): (&str, &str),
    document: &Document,
    notes: &[String],
) -> GeneratedFile {
    let text = origin::with_header(input.source, notes, &document.to_string());
    GeneratedFile { path, mode: 0o640, owner: owner.to_owned(), group: group.to_owned(), text }
}
