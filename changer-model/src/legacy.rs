//! The state files of vchanger 1.0, read once, when a site changes over: its volumes keep their slots.
//!
//! `bay_state-M` holds `MAGAZINE,COUNT,FIRST SLOT` without quoting, `dynamic.conf` holds `max_used_slot=N`
//! (vchanger 1.0.3, `changerstate.cpp`). The files are left as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::identifiers::MagazineId;
use crate::model::Found;
use crate::places::{HIGHEST, Places};
use crate::state::{Volume, Volumes};

/// What vchanger 1.0 left in a work directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Legacy {
    /// Each magazine's first slot and number of volumes.
    ranges: BTreeMap<MagazineId, (u32, u32)>,
    pub(crate) highest_slot: u32,
}

impl Legacy {
    /// Reads what is there; what cannot be understood counts as missing, for its volumes then get new slots.
    pub(crate) fn read(work_dir: &Path) -> Self {
        let mut legacy = Self::default();
        for entry in fs::read_dir(work_dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let text = || fs::read_to_string(entry.path()).unwrap_or_default();
            if name.starts_with("bay_state-") {
                legacy.ranges.extend(bay_state(&text()));
            } else if name == "dynamic.conf" {
                legacy.highest_slot = max_used_slot(&text()).unwrap_or(0);
            }
        }
        let mut taken = Places::default();
        legacy.ranges.retain(|_, (first, count)| {
            let free = (*first..first.saturating_add(*count)).all(|slot| !taken.contains(slot));
            if free {
                (*first..first.saturating_add(*count)).for_each(|slot| taken.insert(slot));
            }
            free
        });
        legacy.highest_slot = legacy.highest_slot.max(taken.highest().unwrap_or(0));
        legacy
    }

    /// The volumes of a magazine at the slots they had: in the order of their files' names, if they are as many.
    pub(crate) fn volumes(&self, id: &MagazineId, found: &[Found]) -> Volumes {
        let Some((first, count)) = self.ranges.get(id).copied() else { return Volumes::new() };
        if u32::try_from(found.len()) != Ok(count) {
            return Volumes::new();
        }
        let mut files: Vec<&Found> = found.iter().collect();
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let volume = |found: &Found| Volume {
            name: found.name.clone(),
            file: found.file.clone(),
            blank: found.blank,
            refused: false,
            pool: None,
            stamp: found.stamp,
        };
        (first..).zip(files.into_iter().map(volume)).collect()
    }
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

fn max_used_slot(text: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("max_used_slot"))?;
    value.trim_start().strip_prefix('=')?.trim().parse().ok().filter(|slot| *slot <= HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_files_are_read_from_the_end() {
        let expected = Some((MagazineId::new("/mnt/a, b"), (4, 3)));
        assert_eq!(bay_state("/mnt/a, b,3,4\n"), expected);
        for bad in ["", "/mnt/a", "/mnt/a,3", "/mnt/a,x,4", "/mnt/a,3,0", "/mnt/a,0,4", "/mnt/a,4294967295,4"]
        {
            assert_eq!(bay_state(bad), None, "{bad}");
        }
        assert_eq!(max_used_slot("max_used_slot=17\n"), Some(17));
        assert_eq!(max_used_slot("max_used_slot=-1\n"), None);
    }
}
