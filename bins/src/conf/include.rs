//! The layout `include`: one line in each of the administrator's files, shown before it is added, and nothing else.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use bacula_conf::{Bacula, difference, include_lines};

use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};

/// An installed file that lacks its line.
pub(super) struct Pending {
    /// The file, links followed.
    pub(super) path: PathBuf,
    /// The line.
    pub(super) line: String,
    before: String,
    after: String,
}

/// The installed files below `directory` that lack their line; a file that isn't there lacks nothing.
pub(super) fn pending(bacula: &Bacula, directory: &Path) -> Result<Vec<Pending>, Failure> {
    let mut pending = Vec::new();
    for include in include_lines(bacula) {
        let path = directory.join(include.file.strip_prefix("/").unwrap_or(&include.file));
        let Ok(path) = path.canonicalize() else { continue };
        let before = std::fs::read_to_string(&path).or_fail(format!("cannot read {}", path.display()))?;
        let after = include.add(&before).map_err(|error| {
            let file = path.display().to_string();
            Failure::new(Exit::Usage, format!("{file} can't be added to: {}", error.render(&file, &before)))
        })?;
        if let Some(after) = after {
            pending.push(Pending { path, line: include.line(), before, after });
        }
    }
    Ok(pending)
}

impl Pending {
    /// What adding the line would change. Secrets are not shown.
    pub(super) fn difference(&self) -> String {
        let name = self.path.display().to_string();
        difference(&self.before, &self.after, &name, &name)
    }

    /// Adds the line; owner and mode stay.
    pub(super) fn add(&self) -> Result<(), Failure> {
        let failed = || format!("cannot look at {}", self.path.display());
        let metadata = self.path.metadata().or_fail(failed())?;
        durable::replace(&self.path, metadata.mode() & 0o7777, self.after.as_bytes())?;
        let now = self.path.metadata().or_fail(failed())?;
        if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
            chown(&self.path, Some(metadata.uid()), Some(metadata.gid()))
                .or_fail(format!("cannot give {} back to its owner", self.path.display()))?;
        }
        Ok(())
    }
}
