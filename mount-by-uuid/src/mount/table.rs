//! The kernel's table of mounts (`/proc/PID/mountinfo`, described in `proc_pid_mountinfo(5)`).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::device::block::DevNum;
use crate::device::system::System;

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's number, unique while it exists.
    pub id: u32,
    /// The number of the mount that this one is mounted on.
    pub parent: u32,
    /// The device number of the mounted filesystem; filesystems without a device, and btrfs, have major number 0.
    pub devnum: DevNum,
    /// The directory of the filesystem that is mounted; `/` except for bind mounts and subvolumes.
    pub root: PathBuf,
    /// Where it is mounted, as seen from the reading process' root.
    pub mount_point: PathBuf,
    /// The options of this mount, separated by commas, for example `rw,nosuid`.
    pub options: OsString,
    /// The propagation fields, for example `shared:1` or `master:2`; none for a private mount.
    pub propagation: Vec<String>,
    /// The filesystem's type, for example `ext4` or `fuse.sshfs`.
    pub fs_type: String,
    /// What the filesystem was mounted from, by its own account.
    pub source: OsString,
    /// The options of the filesystem, which all of its mounts share, separated by commas.
    pub super_options: OsString,
}

impl MountEntry {
    /// Returns the value of `name` among the mount's and the filesystem's options, empty for an option without a value.
    pub fn option(&self, name: &str) -> Option<&OsStr> {
        let lists = [self.options.as_bytes(), self.super_options.as_bytes()];
        lists.into_iter().flat_map(|list| list.split(|&byte| byte == b',')).find_map(|option| {
            match option.strip_prefix(name.as_bytes())? {
                [] => Some(OsStr::new("")),
                [b'=', value @ ..] => Some(OsStr::from_bytes(value)),
                _ => None,
            }
        })
    }
}

/// The mounts of one mount namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    entries: Vec<MountEntry>,
}

/// Why the mount table can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountTableError {
    /// The file can't be read.
    #[error("can't read the mount table {}; is /proc mounted?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A line isn't of the form that `proc_pid_mountinfo(5)` describes.
    #[error("line {line} of the mount table has no proper {field}")]
    Line {
        /// The line's number from 1.
        line: usize,
        /// The first field that is absent or malformed.
        field: &'static str,
    },
}

impl MountTable {
    /// Reads the mounts that the calling process sees, or the one of [`System::with_mounts_of`].
    ///
    /// # Errors
    /// [`MountTableError::Read`] without /proc.
    pub fn read(system: &System) -> Result<MountTable, MountTableError> {
        MountTable::read_file(system.mounts_below("mountinfo"))
    }

    /// Reads the mounts that the process `pid` sees, which differ in another mount namespace.
    ///
    /// # Errors
    /// [`MountTableError::Read`] when the process is gone or belongs to another user.
    pub fn read_of(system: &System, pid: u32) -> Result<MountTable, MountTableError> {
        MountTable::read_file(system.below(&format!("proc/{pid}/mountinfo")))
    }

    fn read_file(path: PathBuf) -> Result<MountTable, MountTableError> {
        match std::fs::read(&path) {
            Ok(text) => MountTable::parse(&text),
            Err(source) => Err(MountTableError::Read { path, source }),
        }
    }

    /// Parses the text of a mountinfo file, `&str` or bytes, since a path need not be UTF-8.
    ///
    /// # Errors
    /// [`MountTableError::Line`] at the first line that is malformed.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<MountTable, MountTableError> {
        let lines = text.as_ref().split(|&byte| byte == b'\n').enumerate();
        let entries = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| {
                parse_line(line).map_err(|field| MountTableError::Line { line: index + 1, field })
            })
            .collect::<Result<_, _>>()?;
        Ok(MountTable { entries })
    }

    /// Returns all entries in the kernel's order, a mount after the one it is mounted on.
    pub fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// Returns the mount that is on top at `path`, none where `path` is not a mount point that can be reached.
    ///
    /// Of several mounts stacked on one path it is the last one; a mount that a later one on a directory above hides
    /// is not found. `path` must be absolute and free of symbolic links.
    pub fn at(&self, path: &Path) -> Option<&MountEntry> {
        self.containing(path).filter(|entry| entry.mount_point == path)
    }

    /// Returns the mount that a file at `path` belongs to. `path` must be absolute and free of symbolic links.
    pub fn containing(&self, path: &Path) -> Option<&MountEntry> {
        let ids: HashSet<u32> = self.entries.iter().map(|entry| entry.id).collect();
        let mut children: HashMap<(Option<u32>, &Path), &MountEntry> = HashMap::new();
        for entry in &self.entries {
            // The mount of a process' root has a parent that is not listed (or, for the first of all, is itself).
            let parent = (entry.parent != entry.id && ids.contains(&entry.parent)).then_some(entry.parent);
            children.insert((parent, &entry.mount_point), entry);
        }
        let mut found: Option<&MountEntry> = None;
        let mut prefixes: Vec<&Path> = path.ancestors().collect();
        prefixes.reverse();
        for prefix in prefixes {
            while let Some(next) = children.remove(&(found.map(|entry| entry.id), prefix)) {
                found = Some(next);
            }
        }
        found
    }

    /// Returns every mount of the filesystem with the device number `devnum`, bind mounts included.
    pub fn mounts_of(&self, devnum: DevNum) -> impl DoubleEndedIterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| entry.devnum == devnum)
    }
}

impl fmt::Display for MountTable {
    /// Prints the table as the kernel does; bytes of paths that are not UTF-8 are printed escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for MountEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.id, self.parent, self.devnum)?;
        write!(f, "{} {} ", escape(self.root.as_os_str()), escape(self.mount_point.as_os_str()))?;
        write!(f, "{} ", escape(&self.options))?;
        for field in &self.propagation {
            write!(f, "{field} ")?;
        }
        let fs_type = escape(OsStr::new(&self.fs_type));
        write!(f, "- {fs_type} {} {}", escape(&self.source), escape(&self.super_options))
    }
}

fn parse_line(line: &[u8]) -> Result<MountEntry, &'static str> {
    // Split at single blanks: an empty source is an empty field.
    let mut fields = line.split(|&byte| byte == b' ');
    let mut field = |name: &'static str| fields.next().ok_or(name);
    let id = number(field("mount number")?).ok_or("mount number")?;
    let parent = number(field("parent number")?).ok_or("parent number")?;
    let devnum = utf8(field("device number")?).and_then(|text| text.parse().ok()).ok_or("device number")?;
    let root = absolute(field("root")?).ok_or("root")?;
    let mount_point = absolute(field("mount point")?).ok_or("mount point")?;
    let options = unescape(field("options")?);
    let mut propagation = Vec::new();
    loop {
        match field("separator")? {
            b"-" => break,
            tag => propagation.push(utf8(tag).ok_or("propagation field")?.to_owned()),
        }
    }
    let fs_type = unescape(field("filesystem type")?).into_string().map_err(|_| "filesystem type")?;
    let source = unescape(field("source")?);
    let super_options = unescape(field("filesystem options")?);
    Ok(MountEntry {
        id,
        parent,
        devnum,
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn utf8(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn number(field: &[u8]) -> Option<u32> {
    utf8(field)?.parse().ok()
}

/// The root of a mount of another kind (`net:[4026531840]`) isn't absolute, everything else is.
fn absolute(field: &[u8]) -> Option<PathBuf> {
    (!field.is_empty()).then(|| PathBuf::from(unescape(field)))
}

/// Undoes `seq_escape` of the kernel: a backslash and three octal digits stand for one byte.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match rest {
            [b'\\', high @ b'0'..=b'3', mid @ b'0'..=b'7', low @ b'0'..=b'7', tail @ ..] => {
                Some(((high - b'0') << 6 | (mid - b'0') << 3 | (low - b'0'), tail))
            }
            _ => None,
        };
        let (byte, tail) = octal.unwrap_or((first, tail));
        bytes.push(byte);
        rest = tail;
    }
    OsString::from_vec(bytes)
}

/// Escapes what the kernel escapes (blank, tab, newline, backslash, `#`) and every byte that is not printable ASCII.
fn escape(text: &OsStr) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'\\' | b'#' | 0..=b' ' | 0x7f.. => {
                escaped.push('\\');
                escaped.extend([6, 3, 0].map(|shift| char::from(b'0' + (byte >> shift & 7))));
            }
            printable => escaped.push(char::from(printable)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw shared:5 - proc proc rw
30 22 0:40 / /mnt/offsite rw,nosuid shared:9 - autofs offsite rw,fd=-1,pgrp=7,timeout=30,indirect,pipe_ino=-1
31 30 253:0 / /mnt/offsite/u-1 rw,nosuid,nodev,noexec shared:10 - ext4 /dev/mapper/a rw
32 22 253:0 /sub /srv/with\\040blank rw - ext4 /dev/mapper/a rw
33 22 8:17 / /mnt/stack rw - ext4 /dev/sdb1 rw
34 33 8:18 / /mnt/stack rw - xfs /dev/sdb2 rw
35 22 8:19 / /data/inner rw - ext4 /dev/sdb3 rw
36 22 8:20 / /data rw - ext4 /dev/sdb4 rw
";

    fn id_at(path: &str) -> Option<u32> {
        MountTable::parse(TABLE).unwrap().at(Path::new(path)).map(|entry| entry.id)
    }

    #[test]
    fn the_top_of_a_stack_is_found() {
        assert_eq!(id_at("/mnt/stack"), Some(34));
        assert_eq!(id_at("/mnt/offsite/u-1"), Some(31));
        assert_eq!(id_at("/"), Some(22));
        assert_eq!(id_at("/mnt"), None);
    }

    #[test]
    fn a_mount_hidden_by_one_above_it_is_not_found() {
        assert_eq!(id_at("/data"), Some(36));
        assert_eq!(id_at("/data/inner"), None);
        let table = MountTable::parse(TABLE).unwrap();
        assert_eq!(table.containing(Path::new("/data/inner/x")).unwrap().id, 36);
        assert_eq!(table.containing(Path::new("/mnt/offsite/u-2")).unwrap().id, 30);
    }

    #[test]
    fn bind_mounts_are_mounts_of_their_device() {
        let table = MountTable::parse(TABLE).unwrap();
        let points: Vec<_> =
            table.mounts_of(DevNum { major: 253, minor: 0 }).map(|entry| entry.mount_point.clone()).collect();
        assert_eq!(points, [Path::new("/mnt/offsite/u-1"), Path::new("/srv/with blank")]);
    }

    #[test]
    fn options_are_looked_up_whole() {
        let table = MountTable::parse(TABLE).unwrap();
        let autofs = table.at(Path::new("/mnt/offsite")).unwrap();
        assert_eq!(autofs.option("pipe_ino"), Some(OsStr::new("-1")));
        assert_eq!(autofs.option("indirect"), Some(OsStr::new("")));
        assert_eq!(autofs.option("pipe"), None);
        assert_eq!(autofs.option("nosuid"), Some(OsStr::new("")));
    }

    #[test]
    fn a_broken_line_is_named() {
        for (line, expected) in [
            ("x", "mount number"),
            ("22 1 8 / / rw - ext4 a rw", "device number"),
            ("22 1 8:1 / / rw shared:1", "separator"),
            ("22 1 8:1 / / rw - ext4", "source"),
        ] {
            match MountTable::parse(format!("{TABLE}{line}\n")) {
                Err(MountTableError::Line { line: 10, field }) => assert_eq!(field, expected),
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_empty_source_and_octal_like_text_survive() {
        let table = MountTable::parse("1 0 0:5 / /a\\134040\\9 rw - tmpfs  rw\n").unwrap();
        assert_eq!(table.entries()[0].mount_point, Path::new("/a\\040\\9"));
        assert_eq!(table.entries()[0].source, "");
    }

    #[test]
    fn this_process_has_a_root_mount() {
        let table = MountTable::read(&System::new(Path::new("/"))).unwrap();
        assert_eq!(table.at(Path::new("/")).unwrap().mount_point, Path::new("/"));
    }

    fn any_text() -> impl Strategy<Value = OsString> {
        prop::collection::vec(1u8.., 0..12).prop_map(OsString::from_vec)
    }

    fn any_path() -> impl Strategy<Value = PathBuf> {
        any_text().prop_map(|text| {
            let mut path = OsString::from("/");
            path.push(text);
            PathBuf::from(path)
        })
    }

    fn any_entry() -> impl Strategy<Value = MountEntry> {
        let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
        let paths = (any_path(), any_path());
        let texts = (any_text(), any_text(), any_text(), "[a-z0-9.]{1,8}");
        let propagation = prop::collection::vec("(shared|master):[0-9]{1,3}", 0..3);
        (numbers, paths, texts, propagation).prop_map(|(numbers, paths, texts, propagation)| MountEntry {
            id: numbers.0,
            parent: numbers.1,
            devnum: DevNum { major: numbers.2, minor: numbers.3 },
            root: paths.0,
            mount_point: paths.1,
            options: texts.0,
            propagation,
            fs_type: texts.3,
            source: texts.1,
            super_options: texts.2,
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(entries in prop::collection::vec(any_entry(), 0..6)) {
            let table = MountTable { entries };
            prop_assert_eq!(MountTable::parse(table.to_string()).unwrap(), table);
        }

        #[test]
        fn no_text_brings_the_parser_down(text in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(table) = MountTable::parse(&text) {
                let _ = table.at(Path::new("/mnt/x"));
            }
        }
    }
}
