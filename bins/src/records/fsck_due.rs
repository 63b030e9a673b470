//! The mark of a drive whose filesystem has to be checked before its next use, and why. It outlives the daemon.

use std::path::PathBuf;

use mount_by_uuid::FsUuid;

use crate::base::atomic_file;
use crate::base::failure::Failure;
use crate::base::paths::Root;
use crate::protocol::site_status::Problem;

/// Why a filesystem has to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Torn {
    /// The drive was pulled while it was mounted.
    Pulled,
    /// What was written did not all reach the drive, for this reason.
    Unflushed(String),
    /// The kernel met an error in the filesystem, for this reason it stopped writing.
    Errors(String),
}

const UNFLUSHED: &str = "not flushed: ";
const ERRORS: &str = "errors: ";

impl Torn {
    /// What is marked of the drive with this filesystem.
    pub fn of(root: &Root, fs_uuid: &FsUuid) -> Option<Self> {
        let mark = mark(root, fs_uuid);
        let text = match std::fs::read_to_string(&mark) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            text => text.unwrap_or_default(), // a mark that can't be read is a mark
        };
        let text = text.trim_end();
        let why = |prefix| text.strip_prefix(prefix).map(str::to_owned);
        let unflushed = why(UNFLUSHED).map(Self::Unflushed);
        Some(unflushed.or_else(|| why(ERRORS).map(Self::Errors)).unwrap_or(Self::Pulled))
    }

    /// Marks the drive, until [`forget`].
    pub fn note(&self, root: &Root, fs_uuid: &FsUuid) -> Result<(), Failure> {
        let text = match self {
            Self::Pulled => "pulled while mounted\n".to_owned(),
            Self::Unflushed(why) => format!("{UNFLUSHED}{}\n", why.replace('\n', " ")),
            Self::Errors(why) => format!("{ERRORS}{}\n", why.replace('\n', " ")),
        };
        atomic_file::replace(&mark(root, fs_uuid), 0o600, text.as_bytes())
    }

    /// What a person has to know of it beyond that the drive will be checked.
    pub fn problem(&self) -> Option<Problem> {
        let why = match self {
            Self::Pulled => return None,
            Self::Unflushed(why) => why,
            Self::Errors(why) => {
                return Some(Problem {
                    message: format!("the kernel met an error in its filesystem: {why}"),
                    remedy: "repeat the jobs that wrote to it last; it is checked at its next use (`offsite lock`, then \
                             `offsite unlock`); look after the drive (smartctl -a DEVICE)"
                        .into(),
                });
            }
        };
        Some(Problem {
            message: format!("not all that was written is on it: {why}"),
            remedy: "repeat the jobs that wrote to it last; it is checked at its next use; if it happens again, replace it"
                .into(),
        })
    }
}

/// Takes the mark away: the filesystem was found sound.
pub fn forget(root: &Root, fs_uuid: &FsUuid) -> Result<(), Failure> {
    atomic_file::remove(&mark(root, fs_uuid))
}

fn mark(root: &Root, fs_uuid: &FsUuid) -> PathBuf {
    root.torn_dir().join(fs_uuid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_why_until_it_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.torn_dir()).unwrap();
        let drive: FsUuid = "7A1B-03C4".parse().unwrap();
        assert_eq!(Torn::of(&root, &drive), None);
        for torn in [
            Torn::Pulled,
            Torn::Errors("it went read-only".into()),
            Torn::Unflushed("can't flush /x: no space".into()),
        ] {
            torn.note(&root, &drive).unwrap();
            assert_eq!(Torn::of(&root, &drive), Some(torn.clone()));
            assert_eq!(torn.problem().is_some(), torn != Torn::Pulled);
        }
        forget(&root, &drive).unwrap();
        assert_eq!(Torn::of(&root, &drive), None);
    }
}
