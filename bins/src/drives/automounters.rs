//! Other programs that mount where our drives belong, or that mount our drives elsewhere: which one it is, by whose
//! word, and what stops it. Read from the mount table and from configuration files; nothing is mounted by looking.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use mount_by_uuid::{MountEntry, MountTable, System, automount_server};

use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::base::shell::quoted;
use crate::protocol::site_status::Problem;

/// The source of systemd's automounts.
const SYSTEMD: &str = "systemd-1";

/// Where units lie that a person or a package made.
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where autofs(5) says what is mounted where.
const MASTER_MAPS: [&str; 2] = ["/etc/auto.master", "/etc/autofs/auto.master"];

/// Where files lie that the master map includes.
const MASTER_MAP_PARTS: &str = "/etc/auto.master.d";

/// Where udisks, and so a desktop, mounts drives.
const UDISKS: [&str; 2] = ["/media", "/run/media"];

/// Another automounter at the mount root or below it, if there is one.
pub fn at_mount_root(root: &Root, system: &System, mount_root: &Path, ours: &str) -> Option<Problem> {
    let table = MountTable::read(system).ok()?;
    let other = table.entries().iter().find(|entry| {
        entry.fs_type == "autofs" && entry.source != ours && entry.mount_point.starts_with(mount_root)
    })?;
    Some(describe(root, system, other))
}

/// The same as a failure.
pub fn refuse(root: &Root, system: &System, mount_root: &Path, ours: &str) -> Result<(), Failure> {
    match at_mount_root(root, system, mount_root, ours) {
        None => Ok(()),
        Some(problem) => Err(Failure::new(Exit::Refused, problem.message).hint(problem.remedy)),
    }
}

fn describe(root: &Root, system: &System, autofs: &MountEntry) -> Problem {
    let at = &autofs.mount_point;
    let server = automount_server(system, autofs);
    let (by, remedy) = if autofs.source == SYSTEMD {
        systemd(root, at)
    } else if let Some(line) = master_line(root, at, &autofs.source) {
        let remedy = "take that line out, then: systemctl reload autofs".to_owned();
        (format!("{line}, map {}", autofs.source.display()), remedy)
    } else {
        let stop = server.as_ref().map(|process| format!("end {}: kill {}", process.name, process.pid));
        (
            format!("its name is {}", autofs.source.display()),
            stop.unwrap_or_else(|| format!("nobody serves it any more: umount {}", shown(at))),
        )
    };
    let server = server.map(|process| format!("{process}, ")).unwrap_or_default();
    Problem {
        message: format!("another automounter serves {}: {server}{by}", at.display()),
        remedy: format!("{remedy}; or choose another mount_root in site.toml"),
    }
}

/// The unit behind an automount of systemd's, and what ends it.
fn systemd(root: &Root, at: &Path) -> (String, String) {
    let unit = unit_name(at, "automount");
    let stop = format!("systemctl stop {}", quoted(&unit));
    if let Some(line) = fstab_line(root, at) {
        let remedy = format!("take that line out, then: systemctl daemon-reload; {stop}");
        return (format!("unit {unit}, by {line}"), remedy);
    }
    match unit_file(root, &unit) {
        Some(file) => (
            format!("unit {unit}, by {}", file.display()),
            format!("systemctl disable --now {}", quoted(&unit)),
        ),
        None => (
            format!("unit {unit}"),
            format!("{stop}; systemctl cat {} shows where it is from", quoted(&unit)),
        ),
    }
}

/// What keeps mounting a drive at a place that isn't ours, and how to keep it off; none if that isn't seen.
pub fn of_mount(root: &Root, at: &Path, fs_uuid: &str) -> Option<String> {
    if let Some(line) = fstab_line(root, at) {
        return Some(format!("{line} mounts it there: take that line out"));
    }
    let unit = unit_name(at, "mount");
    if let Some(file) = unit_file(root, &unit) {
        let unit = quoted(&unit);
        return Some(format!("{} mounts it there: systemctl disable --now {unit}", file.display()));
    }
    UDISKS.iter().any(|directory| at.starts_with(directory)).then(|| {
        format!(
            "a desktop's udisks mounts drives there; a line in /etc/udev/rules.d/99-offsite.rules keeps it off: \
             ENV{{ID_FS_UUID}}==\"{fs_uuid}\", ENV{{UDISKS_IGNORE}}=\"1\""
        )
    })
}

/// The name of systemd's unit for a path (systemd.unit(5), "String escaping").
fn unit_name(path: &Path, kind: &str) -> String {
    let mut name = String::new();
    for byte in path.as_os_str().as_encoded_bytes().iter().skip(1) {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b':' | b'_')
            || (*byte == b'.' && !name.is_empty());
        match byte {
            b'/' => name.push('-'),
            byte if plain => name.push(char::from(*byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    format!("{name}.{kind}")
}

fn unit_file(root: &Root, unit: &str) -> Option<PathBuf> {
    UNITS.iter().map(|directory| Path::new(directory).join(unit)).find(|path| root.join(path).is_file())
}

/// `line 3 of /etc/fstab`
fn fstab_line(root: &Root, at: &Path) -> Option<String> {
    line_of(root, Path::new("/etc/fstab"), |fields| fields.get(1).is_some_and(|place| is(place, at)))
}

/// The line of autofs's master map that has something mounted at a place, directly or by this map.
fn master_line(root: &Root, at: &Path, map: &OsStr) -> Option<String> {
    let parts = std::fs::read_dir(root.join(MASTER_MAP_PARTS)).into_iter().flatten().flatten();
    let parts = parts.map(|entry| Path::new(MASTER_MAP_PARTS).join(entry.file_name()));
    let mut files: Vec<PathBuf> =
        parts.filter(|path| path.extension() == Some(OsStr::new("autofs"))).collect();
    files.sort();
    let map = map.to_string_lossy();
    MASTER_MAPS.iter().map(PathBuf::from).chain(files).find_map(|file| {
        line_of(root, &file, |fields| {
            let direct = || fields.first().is_some_and(|place| place == "/-");
            let same_map = || fields.get(1).is_some_and(|named| named.ends_with(&*map));
            fields.first().is_some_and(|place| is(place, at)) || (direct() && same_map())
        })
    })
}

/// The first line of a file whose fields are wanted.
fn line_of(root: &Root, file: &Path, wanted: impl Fn(&[String]) -> bool) -> Option<String> {
    let text = std::fs::read(root.join(file)).ok()?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().position(|line| {
        let line = line.trim();
        let fields: Vec<String> = line.split_whitespace().map(unescaped).collect();
        !line.starts_with('#') && wanted(&fields)
    })?;
    Some(format!("line {} of {}", number + 1, file.display()))
}

/// A field of fstab(5), in which a blank is `\040`.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

fn is(place: &str, at: &Path) -> bool {
    Path::new(place).components().eq(at.components())
}

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// The source by which the automount point is known again.
pub(crate) const SOURCE: &str = "offsite";

#[cfg(test)]
mod tests {
    use super::*;

    fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::new(directory.path());
        (directory, root)
    }

    /// The mount table of a machine on which this autofs is mounted; nothing serves it.
    fn told(files: &[(&str, &str)], source: &str, at: &str) -> Option<Problem> {
        let table = format!(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:40 / {at} rw - autofs {source} rw,fd=5,pgrp=1,pipe_ino=-1\n"
        );
        let (directory, root) = world(&[files, &[("/proc/self/mountinfo", &*table)]].concat());
        at_mount_root(&root, &System::new(directory.path()), Path::new("/srv/offsite"), "offsite")
    }

    #[test]
    fn systemd_is_named_by_its_unit_and_what_made_it() {
        let told = |files: &[(&str, &str)]| told(files, "systemd-1", "/srv/offsite").unwrap();
        let fstab = told(&[(
            "/etc/fstab",
            "# one\n/dev/sda1 / ext4 defaults 0 1\nUUID=x /srv/offsite/ ext4 noauto,x-systemd.automount 0 2\n",
        )]);
        assert_eq!(
            fstab.message,
            "another automounter serves /srv/offsite: unit srv-offsite.automount, by line 3 of /etc/fstab"
        );
        assert_eq!(
            fstab.remedy,
            "take that line out, then: systemctl daemon-reload; systemctl stop srv-offsite.automount; or choose another \
             mount_root in site.toml"
        );
        let unit = told(&[("/etc/systemd/system/srv-offsite.automount", "[Automount]\n")]);
        assert!(unit.message.ends_with("by /etc/systemd/system/srv-offsite.automount"), "{unit:?}");
        assert!(unit.remedy.starts_with("systemctl disable --now srv-offsite.automount;"), "{unit:?}");
        assert!(told(&[]).remedy.contains("systemctl cat srv-offsite.automount"));
    }

    #[test]
    fn the_automount_daemon_is_named_by_the_line_of_its_master_map() {
        let master = ("/etc/auto.master", "/misc /etc/auto.misc\n+dir:/etc/auto.master.d\n");
        let part =
            ("/etc/auto.master.d/drives.autofs", "# drives\n/srv/offsite /etc/auto.drives --timeout=30\n");
        let problem = told(&[master, part], "/etc/auto.drives", "/srv/offsite").unwrap();
        assert_eq!(
            problem.message,
            "another automounter serves /srv/offsite: line 2 of /etc/auto.master.d/drives.autofs, map /etc/auto.drives"
        );
        assert!(
            problem.remedy.starts_with("take that line out, then: systemctl reload autofs;"),
            "{problem:?}"
        );
        // A direct map has its places in a file of its own.
        let direct = ("/etc/auto.master", "/- file:/etc/auto.direct\n");
        let problem = told(&[direct], "/etc/auto.direct", "/srv/offsite/u1").unwrap();
        assert!(
            problem.message.contains("serves /srv/offsite/u1: line 1 of /etc/auto.master"),
            "{problem:?}"
        );
    }

    #[test]
    fn what_nobody_serves_can_be_unmounted_and_ours_is_no_other() {
        let problem = told(&[], "amd", "/srv/offsite").unwrap();
        assert!(problem.remedy.starts_with("nobody serves it any more: umount /srv/offsite;"), "{problem:?}");
        assert_eq!(told(&[], "offsite", "/srv/offsite"), None);
        assert_eq!(told(&[], "systemd-1", "/srv/offsite2"), None);
    }

    #[test]
    fn who_mounts_a_drive_elsewhere_is_named() {
        let (_directory, root) = world(&[
            ("/etc/fstab", "UUID=x /mnt/a\\040b ext4 defaults 0 2\n"),
            ("/etc/systemd/system/mnt-c.mount", "[Mount]\n"),
        ]);
        let told = |at: &str| of_mount(&root, Path::new(at), "u1");
        assert_eq!(told("/mnt/a b").unwrap(), "line 1 of /etc/fstab mounts it there: take that line out");
        assert!(told("/mnt/c").unwrap().ends_with("systemctl disable --now mnt-c.mount"));
        assert!(told("/media/bob/A").unwrap().contains("ENV{ID_FS_UUID}==\"u1\", ENV{UDISKS_IGNORE}=\"1\""));
        assert_eq!(told("/mnt/by-hand"), None);
    }

    #[test]
    fn units_are_named_as_systemd_names_them() {
        // As systemd-escape --path prints them.
        for (path, name) in
            [("/srv/offsite", "srv-offsite"), ("/mnt/a b-c", "mnt-a\\x20b\\x2dc"), ("/.x/.y", "\\x2ex-.y")]
        {
            assert_eq!(unit_name(Path::new(path), "mount"), format!("{name}.mount"));
        }
    }
}
