//! The layout `include`: one line in each of the administrator's files, shown before it is added, and nothing else.

use std::path::{Path, PathBuf};

use bacula_conf::{Bacula, difference, hide_passwords, include_lines};

use super::live;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::{atomic_file, trusted_path};

/// An installed file that lacks its line.
pub(super) struct Pending {
    /// The file, or a link to it.
    pub(super) path: PathBuf,
    /// The line.
    pub(super) line: String,
    before: String,
    added: String,
}

/// The installed files below `directory` that lack their line; a file that isn't there lacks nothing.
pub(super) fn pending(bacula: &Bacula, directory: &Path) -> Result<Vec<Pending>, Failure> {
    let mut pending = Vec::new();
    for include in include_lines(bacula) {
        let path = directory.join(include.file.strip_prefix("/").unwrap_or(&include.file));
        let before = match live::text(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            before => before.or_fail(format!("cannot read {}", path.display()))?,
        };
        let after = include.add(&before).map_err(|error| {
            let file = path.display().to_string();
            Failure::new(Exit::Usage, format!("{file} can't be added to: {}", error.render(&file, &before)))
        })?;
        // Only what comes behind is known byte for byte: the rest may be in any encoding.
        let added = after.as_deref().and_then(|after| after.strip_prefix(&before)).map(str::to_owned);
        if let Some(added) = added {
            pending.push(Pending { path, line: include.line(), before, added });
        }
    }
    Ok(pending)
}

impl Pending {
    /// What adding the line would change. Secrets are not shown.
    pub(super) fn difference(&self) -> String {
        let name = self.path.display().to_string();
        let before = hide_passwords(&self.before);
        difference(&before, &format!("{before}{}", self.added), &name, &name)
    }

    /// Adds the line; owner and mode stay.
    pub(super) fn add(&self) -> Result<(), Failure> {
        let failed = || format!("cannot read {}", self.path.display());
        let (mut bytes, _) = trusted_path::read(&self.path, live::MOST).or_fail(failed())?;
        bytes.extend_from_slice(self.added.as_bytes());
        atomic_file::rewrite(&self.path, &bytes)
    }
}
