//! The mount table, `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) directory: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: PathBuf,
}

impl Mount {
    pub(crate) fn is_autofs(&self) -> bool {
        self.kind == "autofs"
    }
}

/// All mounts, in the order they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts {
    all: Vec<Mount>,
}

impl Mounts {
    /// Reads the table below the environment's root; an unreadable one is empty.
    pub(crate) fn read(env: &Environment) -> Self {
        Self::parse(&fs::read(env.path("/proc/self/mountinfo")).unwrap_or_default())
    }

    pub(crate) fn parse(text: &[u8]) -> Self {
        Self { all: text.split(|b| *b == b'\n').filter_map(parse_line).collect() }
    }

    /// The topmost mount on this very directory.
    pub(crate) fn on(&self, directory: &Path) -> Option<&Mount> {
        self.all.iter().rev().find(|m| m.directory == directory)
    }

    /// The nearest autofs mount above a directory (not on it).
    pub(crate) fn autofs_above(&self, directory: &Path) -> Option<&Mount> {
        self.all
            .iter()
            .filter(|m| m.is_autofs() && m.directory != directory && directory.starts_with(&m.directory))
            .max_by_key(|m| m.directory.as_os_str().len())
    }

    /// The mount that a path lies in.
    pub(crate) fn holding(&self, path: &Path) -> Option<&Mount> {
        // of equally deep ones the later covers the earlier, and max_by_key returns the last
        self.all
            .iter()
            .filter(|mount| path.starts_with(&mount.directory))
            .max_by_key(|mount| mount.directory.as_os_str().len())
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<&Mount> {
        self.all.iter().find(|m| m.id == id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.all.iter()
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    let id = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.nth(1)?)?;
    let (major, minor) = device.split_once(':')?;
    let directory = unescape(fields.nth(1)?);
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    Some(Mount {
        id,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        directory,
        kind: text(rest.next()?)?,
        source: unescape(rest.next()?),
    })
}

/// Undoes the octal escapes of blanks and backslashes that mountinfo and fstab use.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = octal {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Whether `/etc/fstab` has a line that mounts something on a directory.
pub(crate) fn in_fstab(env: &Environment, directory: &Path) -> bool {
    let text = fs::read(env.path("/etc/fstab")).unwrap_or_default();
    text.split(|b| *b == b'\n').any(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
        fields.next().is_some_and(|first| !first.starts_with(b"#"))
            && fields.next().is_some_and(|second| unescape(second) == directory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"36 35 98:0 / /mnt/two\\040words rw,noatime master:1 - ext4 /dev/root rw\n\
        40 35 0:50 / /mnt/auto rw - autofs offsite rw,fd=5\n\
        41 40 254:3 / /mnt/auto/abc rw shared:7 master:2 - ext4 /dev/dm-3 rw\nbroken line\n";

    #[test]
    fn lines_are_understood() {
        let mounts = Mounts::parse(TABLE);
        assert_eq!(mounts.iter().count(), 3);
        let first = mounts.on(Path::new("/mnt/two words")).expect("is there");
        assert_eq!((first.id, first.major, first.kind.as_str()), (36, 98, "ext4"));
        let auto = mounts.autofs_above(Path::new("/mnt/auto/abc")).expect("is above");
        assert_eq!(auto.source, Path::new("offsite"));
        assert_eq!(mounts.autofs_above(Path::new("/mnt/auto")), None);
        assert_eq!(mounts.autofs_above(Path::new("/mnt/automatic")), None);
        assert_eq!(mounts.by_id(41).map(|m| m.minor), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = Mounts::parse(&text);
        }
    }
}
