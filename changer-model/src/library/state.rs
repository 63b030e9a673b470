//! What the changer remembers between calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bays::BayLayout;
use super::identifiers::{DriveIndex, MagazineId, Slot, VolumeName};
use super::slot_set::Places;
use super::unused::UnusedFiles;

/// The version of the state files this crate reads and writes.
pub(crate) const VERSION: u32 = 1;

/// The fewest slots the library ever reports, as vchanger 1.0.
pub(crate) const FEWEST_SLOTS: u32 = 10;

/// How slots are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manner {
    /// Every volume has a slot of its own for ever (vchanger 1.0 without its moves).
    ByVolume,
    /// A magazine shows its volumes in the bay it stands in (vchanger 0.8).
    ByBay { bays: u32, slots_per_magazine: u32 },
}

impl Manner {
    pub(crate) fn of(layout: Option<BayLayout>) -> Self {
        match layout {
            None => Self::ByVolume,
            Some(layout) => Self::ByBay { bays: layout.bays, slots_per_magazine: layout.slots_per_magazine },
        }
    }
}

/// The library without its volumes: `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) version: u32,
    /// Counts the commits; names the files of volumes.
    pub(crate) serial: u64,
    pub(crate) manner: Manner,
    /// The highest slot ever given; never falls.
    pub(crate) highest_slot: u32,
    /// What the storage daemon was last told on `slots`; `list` never goes beyond it.
    pub(crate) slots_answered: Option<u32>,
    pub(crate) magazines: BTreeMap<MagazineId, MagazineRecord>,
}

impl State {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            version: VERSION,
            serial: 0,
            manner,
            highest_slot: 0,
            slots_answered: None,
            magazines: BTreeMap::new(),
        }
    }
}

/// What is known of a magazine besides its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MagazineRecord {
    /// The file with its volumes; none before the first scan.
    pub(crate) volumes_file: Option<String>,
    /// The places its volumes have: slots, or positions within a bay.
    pub(crate) places: Places,
    /// How many of its volumes Bacula has not labelled yet.
    pub(crate) blank: u32,
    /// Grows whenever the map of places to volumes changes.
    pub(crate) revision: u64,
    /// The revision Bacula's catalog knows to be in the changer; none: known to be away.
    pub(crate) told: Option<u64>,
    /// Names that were in the changer when the catalog was last told, and whose files are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) departed: BTreeSet<VolumeName>,
    /// It was there when last looked for.
    pub(crate) seen: bool,
    /// Its directory was a mount point once, so that without a mount it is away.
    pub(crate) mount_point: bool,
    /// The bay it stands in or stood in last, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bay: Option<u32>,
    /// What its directory looked like when it was scanned.
    pub(crate) stamp: Option<DirectoryStamp>,
    /// The directory's entry at which the next scan goes on, where one scan can't look at all of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) scan_from: usize,
    /// The files that the last scan found to be no volumes.
    #[serde(default, skip_serializing_if = "UnusedFiles::is_empty")]
    pub(crate) unused: UnusedFiles,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Tells whether a directory's entries may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryStamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Seconds and nanoseconds of the last change.
    pub(crate) changed: (i64, i64),
}

/// Tells whether a file's content may have changed: inode, size, seconds and nanoseconds of the last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStamp(pub(crate) u64, pub(crate) u64, pub(crate) i64, pub(crate) i64);

/// A volume on a magazine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// The name Bacula knows: the label inside the file, or the file's name before it has one.
    pub(crate) name: VolumeName,
    /// The file in the magazine's directory.
    pub(crate) file: String,
    /// Bacula has written no label yet.
    pub(crate) blank: bool,
    /// Bacula answered that it will not label it, so it is not asked again.
    pub(crate) refused: bool,
    /// The pool it is to be labelled into, when that is not the configuration's.
    pub(crate) pool: Option<String>,
    pub(crate) stamp: Option<FileStamp>,
}

/// The volumes of a magazine by their places.
pub(crate) type Volumes = BTreeMap<u32, Volume>;

/// What a drive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Loaded {
    pub(crate) slot: Slot,
    pub(crate) magazine: MagazineId,
    pub(crate) volume: VolumeName,
    /// Where the drive's link leads.
    pub(crate) path: String,
    /// An unload has failed because what was written could not be brought to the medium.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unflushed: bool,
}

/// The drives that hold something: `drives.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drives {
    pub(crate) version: u32,
    pub(crate) loaded: BTreeMap<DriveIndex, Loaded>,
    /// The highest drive ever loaded; `LISTALL` shows every drive up to it.
    pub(crate) highest: DriveIndex,
    /// Drives whose volume went away with its magazine, without an unload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) interrupted: BTreeMap<DriveIndex, Interrupted>,
}

/// A volume that went away out of a drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interrupted {
    pub(crate) magazine: MagazineId,
    pub(crate) volume: VolumeName,
    /// The job that wrote to it, once the storage daemon was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<u32>,
}

impl Drives {
    pub(crate) fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    pub(crate) fn holding(&self, slot: Slot) -> Option<DriveIndex> {
        self.loaded.iter().find(|(_, loaded)| loaded.slot == slot).map(|(drive, _)| *drive)
    }
}
