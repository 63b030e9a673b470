//! The layout `include`: one line in each of the administrator's files, shown before it is added, and nothing else.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use bacula_conf::{Bacula, difference, hide_passwords, include_lines};

use crate::conf::live;
use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};

/// An installed file that lacks its line.
pub(super) struct Pending {
    /// The file, links followed.
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
        let Ok(path) = path.canonicalize() else { continue };
        let before = live::text(&path).or_fail(format!("cannot read {}", path.display()))?;
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
        let failed = || format!("cannot look at {}", self.path.display());
        let metadata = self.path.metadata().or_fail(failed())?;
        let mut bytes = std::fs::read(&self.path).or_fail(format!("cannot read {}", self.path.display()))?;
        bytes.extend_from_slice(self.added.as_bytes());
        durable::replace(&self.path, metadata.mode() & 0o7777, &bytes)?;
        let now = self.path.metadata().or_fail(failed())?;
        if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
            chown(&self.path, Some(metadata.uid()), Some(metadata.gid()))
                .or_fail(format!("cannot give {} back to its owner", self.path.display()))?;
        }
        Ok(())
    }
}
