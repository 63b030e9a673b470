//! What writing the generated files would do to those that are there.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use bacula_conf::{GeneratedFile, Origin, hide_passwords};
use nix::unistd::{Group, User};
use serde::Serialize;

use crate::conf::live;
use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};

/// What happens to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It is there, word for word.
    Keep,
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
    before: String,
}

/// All files of one run.
pub(super) struct Plan<'a>(Vec<Planned<'a>>);

impl<'a> Plan<'a> {
    /// Compares the generated files with what lies below `directory`.
    pub(super) fn make(files: &'a [GeneratedFile], directory: &Path) -> Result<Self, Failure> {
        let plan = |generated: &'a GeneratedFile| {
            let path = directory.join(generated.path.strip_prefix("/").unwrap_or(&generated.path));
            let (action, before) = match live::text(&path) {
                Ok(text) if text == generated.text => (Action::Keep, text),
                Ok(text) => match bacula_conf::inspect(&text) {
                    Origin::Ours => (Action::Update, text),
                    _ => (Action::Replace, text),
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Action::Create, String::new()),
                Err(error) => {
                    return Err(Failure::because(
                        Exit::Failed,
                        format!("cannot read {}", path.display()),
                        &error,
                    ));
                }
            };
            Ok(Planned { path, action, generated, before })
        };
        files.iter().map(plan).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Planned<'a>> {
        self.0.iter()
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
                    &hide_passwords(&f.before),
                    &hide_passwords(&f.generated.text),
                    &name,
                    "generated",
                )
            })
            .collect()
    }

    /// Writes what differs; `owners` gives the files to the users who read them.
    pub(super) fn apply(&self, owners: bool) -> Result<(), Failure> {
        let owned: Vec<_> = self
            .files()
            .map(|f| {
                if owners {
                    ids(&f.path.display().to_string(), &f.generated.owner, &f.generated.group).map(Some)
                } else {
                    Ok(None)
                }
            })
            .collect();
        let owned = owned.into_iter().collect::<Result<Vec<_>, _>>()?; // every name is known before the first write
        for (file, ids) in self.files().zip(owned) {
            if file.action == Action::Keep {
                continue;
            }
            if let Some(directory) = file.path.parent() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(directory)
                    .or_fail(format!("cannot make {}", directory.display()))?;
            }
            if file.action == Action::Replace {
                let kept = kept_beside(&file.path);
                std::fs::copy(&file.path, &kept).or_fail(format!("cannot keep {}", kept.display()))?;
            }
            durable::replace(&file.path, file.generated.mode, file.generated.text.as_bytes())?;
            if let Some((user, group)) = ids {
                chown(&file.path, Some(user), Some(group))
                    .or_fail(format!("cannot give {} away", file.path.display()))?;
            }
        }
        Ok(())
    }
}

/// The numbers of the user and the group that `what` belongs to.
pub(super) fn ids(what: &str, user: &str, group: &str) -> Result<(u32, u32), Failure> {
    let unknown = |kind: &str, name: &str| {
        Failure::new(Exit::Failed, format!("{what} belongs to the {kind} {name}, which doesn't exist here")).hint(
            "install Bacula first (apt-get install bacula-director-sqlite3 bacula-sd bacula-fd bacula-console), \
             or write elsewhere: --out DIR",
        )
    };
    let uid = User::from_name(user).ok().flatten().ok_or_else(|| unknown("user", user))?.uid;
    let gid = Group::from_name(group).ok().flatten().ok_or_else(|| unknown("group", group))?.gid;
    Ok((uid.as_raw(), gid.as_raw()))
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
