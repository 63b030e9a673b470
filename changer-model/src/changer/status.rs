//! What a changer is like now.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::library::notice::Notice;

/// What a changer is like now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChangerStatus {
    /// Bacula's Storage resource.
    pub storage: String,
    /// How many slots the library reports.
    pub slots: u32,
    /// The magazines in the configuration's order.
    pub magazines: Vec<MagazineStatus>,
    /// The drives that hold something.
    pub drives: Vec<DriveStatus>,
    /// What Bacula's catalog does not know yet.
    pub pending: Option<PendingCatalog>,
    /// What a person should know although nothing failed.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// What a magazine is like now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MagazineStatus {
    /// The configuration's name for it: `UUID:...` or a directory.
    pub id: String,
    /// It is plugged; none when only touching it would tell.
    pub present: Option<bool>,
    /// Where its files are, or would be when touched.
    pub directory: Option<PathBuf>,
    /// Its slots as ranges, such as `1-69,75`; empty while it has none to show.
    pub slots: String,
    /// Its volumes, also while it is away.
    pub volumes: Vec<VolumeStatus>,
}

/// What a volume is like now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeStatus {
    /// Its slot, from 1; none while its magazine stands in no bay.
    pub slot: Option<u32>,
    /// Its name.
    pub label: String,
    /// Whether Bacula has labelled it.
    pub state: VolumeState,
    /// The drive that holds it.
    pub in_drive: Option<u32>,
}

/// Whether a volume has a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VolumeState {
    /// Bacula's label is inside.
    Labelled,
    /// It is new and empty.
    Blank,
}

/// What a drive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DriveStatus {
    /// The drive, from 0.
    pub drive: u32,
    /// The slot of the volume in it, from 1.
    pub slot: u32,
    /// The volume.
    pub label: String,
}

/// What Bacula's catalog has still to be told; it is told by `refresh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingCatalog {
    /// Magazines that came, left, or have other volumes than the catalog knows.
    pub changed: Vec<String>,
    /// New volumes that wait for their label.
    pub unlabelled: u32,
}
