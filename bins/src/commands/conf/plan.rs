//! What writing the generated files would do to those that are there.

use std::io;
use std::path::{Path, PathBuf};

use bacula_conf::{GeneratedFile, Origin, hide_passwords};
use nix::sys::stat::FileStat;
use serde::Serialize;

use super::live;
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Failure, OrFail as _};
use crate::base::trusted_path;
use crate::site::working_directories::owner;

/// What happens to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It is there, word for word.
    Keep,
    /// Its text is there, but it belongs to another, or others may read or write it.
    Protect,
    /// It isn't there yet.
    Create,
    /// It is an earlier one of ours, as we wrote it.
    Update,
    /// Somebody edited it or made it; it is replaced only on request, and kept beside.
    Replace,
}

impl Action {
    pub(super) fn word(self, would: bool) -> &'static str {
        match (self, would) {
            (Self::Keep, _) => "unchanged",
            (Self::Protect, false) => "protected",
            (Self::Protect, true) => "protect",
            (Self::Create, false) => "created",
            (Self::Create, true) => "create",
            (Self::Update, false) => "updated",
            (Self::Update, true) => "update",
            (Self::Replace, false) => "replaced",
            (Self::Replace, true) => "replace",
        }
    }
}

/// One file of a plan.
pub(super) struct Planned<'a> {
    pub(super) path: PathBuf,
    pub(super) action: Action,
    generated: &'a GeneratedFile,
    before: Vec<u8>,
    /// What the kernel says of the file that is there.
    stat: Option<FileStat>,
}

/// All files of one run.
pub(super) struct Plan<'a> {
    files: Vec<Planned<'a>>,
    owners: bool,
}

impl<'a> Plan<'a> {
    /// Compares the generated files with what lies below `directory`; `owners` gives them to the users who read them.
    pub(super) fn make(files: &'a [GeneratedFile], directory: &Path, owners: bool) -> Result<Self, Failure> {
        let plan = |generated: &'a GeneratedFile| {
            let path = directory.join(generated.path.strip_prefix("/").unwrap_or(&generated.path));
            let (before, stat) = read(&path).or_fail(format!("cannot read {}", path.display()))?.unzip();
            let text = before.as_deref().map(String::from_utf8_lossy);
            let action = match &text {
                None => Action::Create,
                Some(text) if *text == generated.text => {
                    let right = || stat.is_some_and(|stat| is_right(&stat, generated));
                    if !owners || right() { Action::Keep } else { Action::Protect }
                }
                Some(text) if bacula_conf::inspect(text) == Origin::Ours => Action::Update,
                Some(_) => Action::Replace,
            };
            Ok(Planned { path, action, generated, before: before.unwrap_or_default(), stat })
        };
        Ok(Self { files: files.iter().map(plan).collect::<Result<_, Failure>>()?, owners })
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Planned<'a>> {
        self.files.iter()
    }

    /// Files that aren't ours as we wrote them.
    pub(super) fn conflicts(&self) -> Vec<&Planned<'a>> {
        self.files().filter(|f| f.action == Action::Replace).collect()
    }

    /// The differences that writing would make, as a unified diff. Secrets are not shown.
    pub(super) fn differences(&self) -> String {
        self.files()
            .filter(|f| f.action != Action::Keep)
            .map(|f| {
                let name = f.path.display().to_string();
                bacula_conf::difference(
                    &hide_passwords(&String::from_utf8_lossy(&f.before)),
                    &hide_passwords(&f.generated.text),
                    &name,
                    "generated",
                )
            })
            .collect()
    }

    /// Writes what differs.
    pub(super) fn apply(&self) -> Result<(), Failure> {
        let owner = |file: &Planned<'_>| {
            if self.owners { owner_of(file.generated) } else { Ok(Owner::own()) }
        };
        // Every name is known before the first write.
        let owners = self.files().map(owner).collect::<Result<Vec<_>, _>>()?;
        for (file, owner) in self.files().zip(owners).filter(|(file, _)| file.action != Action::Keep) {
            if let Some(directory) = file.path.parent() {
                atomic_file::directory(directory, 0o755)?;
            }
            if let (Action::Replace, Some(stat)) = (file.action, &file.stat) {
                let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
                let mode = stat.st_mode & 0o7777;
                atomic_file::replace_as(&kept_beside(&file.path), owner, mode, &file.before)?;
            }
            atomic_file::replace_as(&file.path, owner, file.generated.mode, file.generated.text.as_bytes())?;
        }
        Ok(())
    }
}

/// A file and what the kernel says of it, if it is there.
pub(super) fn read(path: &Path) -> io::Result<Option<(Vec<u8>, FileStat)>> {
    match trusted_path::read(path, live::MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether a file has the owner and the permission bits that it was generated for: whoever only reads it could else
/// have changed it.
pub(super) fn is_right(stat: &FileStat, generated: &GeneratedFile) -> bool {
    let owner = owner_of(generated);
    owner.is_ok_and(|owner| (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid))
        && stat.st_mode & 0o7777 == generated.mode
}

fn owner_of(file: &GeneratedFile) -> Result<Owner, Failure> {
    owner(&file.path.display().to_string(), &file.owner, &file.group)
}

/// The first free name beside `path`.
fn kept_beside(path: &Path) -> PathBuf {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(if n == 0 { ".before-offsite".to_owned() } else { format!(".before-offsite-{n}") });
        PathBuf::from(name)
    };
    (0..=u32::MAX).map(name).find(|p| !p.exists()).unwrap_or_else(|| name(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_never_overwrites_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.conf");
        std::fs::write(kept_beside(&path), "").unwrap();
        assert!(kept_beside(&path).to_string_lossy().ends_with(".before-offsite-1"));
    }
}
