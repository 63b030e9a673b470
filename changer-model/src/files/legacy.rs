//! The state files of vchanger itself, read once, when a site changes over: its volumes keep their slots.
//!
//! Of 1.0 (`changerstate.cpp` of 1.0.3): `bay_state-M` holds `MAGAZINE,COUNT,FIRST SLOT`, `drive_state-N` holds
//! `MAGAZINE,LABEL`, both without quoting; `dynamic.conf` holds `max_used_slot=N`. Of 0.8 (`changerstate.cpp`,
//! `diskchanger.cpp` of 0.8.6): `bayB` holds a magazine, `stateN` a label, `nextmag` a number. All are left as they
//! are.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::library::identifiers::{DriveIndex, MagazineId, VolumeName};
use crate::library::model::Found;
use crate::library::slot_set::{HIGHEST, Places};
use crate::library::state::{Volume, Volumes};

/// None of vchanger's files is longer; the longest holds a path.
const LONGEST: u64 = 8192;

/// What vchanger left in a work directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Legacy {
    /// 1.0: each magazine's first slot and number of volumes.
    ranges: BTreeMap<MagazineId, (u32, u32)>,
    /// 1.0: the highest slot that Bacula was told of.
    pub(crate) highest_slot: u32,
    /// 0.8: the bay that each magazine stands in.
    pub(crate) bays: BTreeMap<MagazineId, u32>,
    /// The volume in each drive, and 1.0 also says from which magazine.
    pub(crate) drives: BTreeMap<DriveIndex, (Option<MagazineId>, VolumeName)>,
}

impl Legacy {
    /// Reads what is there; what cannot be understood counts as missing, for its volumes then get new slots.
    pub(crate) fn read(work_dir: &Path) -> Self {
        let mut legacy = Self::default();
        for entry in fs::read_dir(work_dir).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str() {
                legacy.take(name, || text_of(&entry.path()));
            }
        }
        let mut taken = Places::default();
        legacy.ranges.retain(|_, (first, count)| {
            let slots = *first..first.saturating_add(*count);
            let free = slots.clone().all(|slot| !taken.contains(slot));
            if free {
                slots.for_each(|slot| taken.insert(slot));
            }
            free
        });
        legacy.highest_slot = legacy.highest_slot.max(taken.highest().unwrap_or(0));
        legacy
    }

    fn take(&mut self, name: &str, text: impl Fn() -> String) {
        let drive = |digits: &str| digits.parse().ok().and_then(DriveIndex::new);
        if name.starts_with("bay_state-") {
            self.ranges.extend(bay_state(&text()));
        } else if name == "dynamic.conf" {
            self.highest_slot = max_used_slot(&text()).unwrap_or(0);
        } else if let Some(drive) = name.strip_prefix("drive_state-").and_then(drive) {
            self.drives.extend(drive_state(&text()).map(|(id, label)| (drive, (Some(id), label))));
        } else if let Some(drive) = name.strip_prefix("state").and_then(drive) {
            self.drives.extend(VolumeName::new(text().trim()).ok().map(|label| (drive, (None, label))));
        } else if let Some(bay) = name.strip_prefix("bay").and_then(|digits| digits.parse().ok()) {
            let text = text();
            let magazine = text.trim();
            if bay > 0 && !magazine.is_empty() {
                self.bays.insert(MagazineId::new(magazine), bay);
            }
        }
    }

    /// Whether there are slots of a magazine's to take over.
    pub(crate) fn has(&self, id: &MagazineId) -> bool {
        self.ranges.contains_key(id)
    }

    /// The volumes of a magazine at the slots they had: in the order of the names of all its `files`, for vchanger took
    /// each for a volume, if these are as many as it counted; or else of the volumes, if they are.
    pub(crate) fn volumes(&self, id: &MagazineId, files: &[CString], found: &[Found]) -> Volumes {
        let Some((first, count)) = self.ranges.get(id).copied() else { return Volumes::new() };
        let mut volumes: Vec<&[u8]> = found.iter().map(|found| found.file.as_bytes()).collect();
        volumes.sort_unstable();
        let counted = |names: &[&[u8]]| u32::try_from(names.len()) == Ok(count);
        let all: Vec<&[u8]> = files.iter().map(|file| file.to_bytes()).collect();
        let Some(names) = [all, volumes].into_iter().find(|names| counted(names)) else {
            return Volumes::new();
        };
        let place = |found: &Found| {
            let index = names.binary_search(&found.file.as_bytes()).ok()?;
            first.checked_add(u32::try_from(index).ok()?)
        };
        let volume = |found: &Found| Volume {
            name: found.name.clone(),
            file: found.file.clone(),
            blank: found.blank,
            refused: false,
            pool: None,
            stamp: found.stamp,
        };
        found.iter().filter_map(|found| Some((place(found)?, volume(found)))).collect()
    }
}

/// The number that 0.8 gives the next magazine it initialises.
pub(crate) fn next_magazine(work_dir: &Path) -> Option<u32> {
    text_of(&work_dir.join("nextmag")).trim().parse().ok()
}

/// A short regular file's text, or nothing.
fn text_of(path: &Path) -> String {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut text = String::new();
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let read = opened.and_then(|file| {
        if file.metadata()?.is_file() { file.take(LONGEST).read_to_string(&mut text) } else { Ok(0) }
    });
    if read.is_ok() { text } else { String::new() }
}

/// The magazine's name may itself have commas, so the numbers are taken from the end.
fn bay_state(text: &str) -> Option<(MagazineId, (u32, u32))> {
    let mut fields = text.trim_end().rsplitn(3, ',');
    let first: u32 = fields.next()?.trim().parse().ok()?;
    let count: u32 = fields.next()?.trim().parse().ok()?;
    let magazine = fields.next()?.trim();
    let last = first.checked_add(count)?;
    (first > 0 && count > 0 && last <= HIGHEST).then(|| (MagazineId::new(magazine), (first, count)))
}

/// No volume's name has a comma.
fn drive_state(text: &str) -> Option<(MagazineId, VolumeName)> {
    let (magazine, label) = text.trim_end().rsplit_once(',')?;
    Some((MagazineId::new(magazine.trim()), VolumeName::new(label.trim()).ok()?))
}

fn max_used_slot(text: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("max_used_slot"))?;
    value.trim_start().strip_prefix('=')?.trim().parse().ok().filter(|slot| *slot <= HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_files_are_read_from_the_end() {
        let id = MagazineId::new("/mnt/a, b");
        assert_eq!(bay_state("/mnt/a, b,3,4\n"), Some((id.clone(), (4, 3))));
        for bad in ["", "/mnt/a", "/mnt/a,3", "/mnt/a,x,4", "/mnt/a,3,0", "/mnt/a,0,4", "/mnt/a,4294967295,4"]
        {
            assert_eq!(bay_state(bad), None, "{bad}");
        }
        assert_eq!(max_used_slot("max_used_slot=17\n"), Some(17));
        assert_eq!(max_used_slot("max_used_slot=-1\n"), None);
        let name = VolumeName::new("c0_0000_0001").expect("legal");
        assert_eq!(drive_state("/mnt/a, b,c0_0000_0001\n"), Some((id, name)));
        assert_eq!(drive_state("/mnt/a,two words\n"), None);
    }

    #[test]
    fn files_that_are_no_files_are_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        nix::unistd::mkfifo(&dir.path().join("bay_state-0"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("state0")).expect("links");
        fs::write(dir.path().join("bay1"), "UUID:ABC-1\n").expect("writes");
        let legacy = Legacy::read(dir.path());
        assert_eq!(legacy.bays, BTreeMap::from([(MagazineId::new("UUID:abc-1"), 1)]));
        assert_eq!((legacy.ranges.len(), legacy.drives.len()), (0, 0));
    }
}
