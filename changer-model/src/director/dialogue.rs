//! What is said to the Director, and what its answers mean.
//!
//! The wording is that of Bacula's `ua_label.c`, `ua_update.c` and `ua_status.c` (seen with 9.6.7); names come
//! from [`VolumeName`] and from configuration values that were checked for quotes, so no text can become a command.

use std::collections::BTreeSet;

use crate::library::identifiers::{DriveIndex, Slot, VolumeName};
use crate::library::slot_set::Places;

/// The command that makes the Director read slots and volumes anew; the answer to the last one tells that all of it
/// came.
pub(crate) fn update_slots(storage: &str) -> String {
    format!("update slots storage=\"{storage}\" drive=0\nversion\n")
}

/// The commands that tell that volumes left, where `update slots` says nothing: it does nothing without a volume.
///
/// The slot goes as well, as with `update slots`: a restore takes it over from the catalog, and would load from it
/// without asking for the drive, which ends the job.
pub(crate) fn out_of_changer<'a>(names: impl IntoIterator<Item = &'a VolumeName>) -> Vec<String> {
    let command = |name: &VolumeName| format!("update volume=\"{name}\" slot=0 inchanger=no\n");
    names.into_iter().map(command).collect()
}

/// The commands that tell in which slots volumes are.
pub(crate) fn into_changer<'a>(slots: impl IntoIterator<Item = (&'a VolumeName, &'a Slot)>) -> Vec<String> {
    let command =
        |(name, slot): (&VolumeName, &Slot)| format!("update volume=\"{name}\" slot={slot} inchanger=yes\n");
    slots.into_iter().map(command).collect()
}

/// The commands that show every volume's status; the last one's answer tells that all of the others' came.
pub(crate) fn list_volumes() -> String {
    "list volumes\nversion\n".to_owned()
}

/// The commands that set volumes' statuses.
pub(crate) fn set_statuses<'a>(statuses: impl IntoIterator<Item = (&'a VolumeName, &'a str)>) -> Vec<String> {
    let command =
        |(name, status): (&VolumeName, &str)| format!("update volume=\"{name}\" volstatus={status}\n");
    statuses.into_iter().map(command).collect()
}

/// The commands that close volumes, and take their slots away after that: the Director goes by an order of its own,
/// in which the status comes first (`ua_update.c`).
pub(crate) fn close_out_of_changer<'a>(
    names: impl IntoIterator<Item = &'a VolumeName>,
    closed: &str,
) -> Vec<String> {
    let command =
        |name: &VolumeName| format!("update volume=\"{name}\" volstatus={closed} slot=0 inchanger=no\n");
    names.into_iter().map(command).collect()
}

/// The command that labels the volumes in some slots, and its answer.
pub(crate) fn label(storage: &str, pool: &str, slots: &Places) -> String {
    format!("label storage=\"{storage}\" pool=\"{pool}\" drive=0 slots={slots} barcodes\nyes\n")
}

/// The command that ends a drive's waiting.
pub(crate) fn mount(storage: &str, slot: Slot, drive: DriveIndex) -> String {
    format!("mount storage=\"{storage}\" slot={slot} drive={drive}\n")
}

/// Whether the Director read the changer's list, dealt with every volume that it should have found there, and came to
/// the end of it.
pub(crate) fn slots_were_updated<'a>(
    output: &str,
    storage: &str,
    shown: impl IntoIterator<Item = &'a VolumeName>,
) -> bool {
    // without this line it would have taken another storage in silence
    let other = output.contains(&format!("Storage resource \"{storage}\": not found"));
    let Some((_, answer)) = output.rsplit_once("3306 Issuing autochanger \"list\" command.") else {
        return false;
    };
    let mut named = BTreeSet::new();
    let mut complete = false;
    for line in answer.lines() {
        if let Some(name) = between(line, "Volume \"", "\"") {
            named.insert(name);
            complete = false;
        }
        complete |= line.contains(" Version: ");
    }
    complete && !other && shown.into_iter().all(|name| named.contains(name.as_str()))
}

/// The volumes of which the Director said that its catalog does not have them.
pub(crate) fn unknown_volumes(output: &str) -> BTreeSet<VolumeName> {
    let unknown = output.lines().filter(|line| line.trim_end().ends_with("\" not found."));
    unknown
        .filter_map(|line| VolumeName::new(between(line, "Media record for Volume name \"", "\"")?).ok())
        .collect()
}

/// Whether so many volumes were changed in the catalog, or are not in it.
pub(crate) fn volumes_were_updated(output: &str, count: usize) -> bool {
    let changed = output.matches("New InChanger flag is: ").count();
    let unknown = output.matches("Media record for Volume name \"").count();
    changed + unknown >= count
}

/// The volumes the Director will not label because the catalog has them.
pub(crate) fn refused_labels(output: &str) -> BTreeSet<VolumeName> {
    let refused = output
        .lines()
        .filter(|line| line.starts_with("Media record for Slot ") && line.ends_with("already exists."));
    refused.filter_map(|line| VolumeName::new(between(line, "Volume \"", "\"")?).ok()).collect()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<VolumeName> {
        list.iter().map(|name| VolumeName::new(*name).expect("legal")).collect()
    }

    /// Bacula 9.6.7, as are the texts below.
    const UPDATED: &str = "Connecting to Director 127.0.0.1:9101\n1000 OK: 103 d Version: 9.6.7 (10 December 2020)\n\
        update slots storage=\"c0\" drive=0\nConnecting to Storage daemon c0 at 127.0.0.1:9103 ...\n\
        3306 Issuing autochanger \"slots\" command.\nDevice \"AC\" has 10 slots.\n\
        Connecting to Storage daemon c0 at 127.0.0.1:9103 ...\n3306 Issuing autochanger \"list\" command.\n\
        Catalog record for Volume \"a\" updated to reference slot 1.\nCatalog record for Volume \"b\" is up to date.\n\
        Volume \"c\" not found in catalog. Slot=3 InChanger set to zero.\nversion\n\
        d Version: 9.6.7 (10 December 2020) x86_64-pc-linux-gnu debian bookworm/sid\n";

    #[test]
    fn only_an_answer_that_names_every_volume_counts() {
        assert!(slots_were_updated(UPDATED, "c0", &names(&["a", "b", "c"])));
        assert!(!slots_were_updated(UPDATED, "c0", &names(&["a", "d"])));
        let other =
            format!("Storage resource \"c0\": not found\nAutomatically selected Storage: c1\n{UPDATED}");
        assert!(!slots_were_updated(&other, "c0", &names(&["a"])));
        let no_daemon = "Connecting to Storage daemon c0 at 127.0.0.1:9103 ...\n";
        assert!(!slots_were_updated(no_daemon, "c0", &names(&[])));
        let nothing = "3306 Issuing autochanger \"list\" command.\nNo Volumes found to label, or no barcodes.\nd Version: 9\n";
        assert!(!slots_were_updated(nothing, "c0", &names(&["a"])));
        assert!(slots_were_updated(nothing, "c0", &names(&[])));
    }

    #[test]
    fn half_an_update_of_slots_does_not_count() {
        let end = UPDATED.rfind("d Version").expect("the last answer");
        for cut in 0..end {
            assert!(!slots_were_updated(&UPDATED[..cut], "c0", &names(&["a"])), "cut at {cut}");
        }
        let late = format!("{UPDATED}Catalog record for Volume \"d\" is up to date.\n");
        assert!(!slots_were_updated(&late, "c0", &names(&["a"])), "something came behind the last answer");
    }

    #[test]
    fn volumes_that_left_are_confirmed_one_by_one() {
        let output = "update volume=\"a\" inchanger=no\nNew InChanger flag is: no\nupdate volume=\"b\" inchanger=no\n\
            sql_get.c:1266 Media record for Volume name \"b\" not found.\n";
        assert!(volumes_were_updated(output, 2));
        assert!(!volumes_were_updated(output, 3));
    }

    #[test]
    fn known_volumes_are_not_labelled_again() {
        let output = "Media record for Slot 2 Volume \"b\" already exists.\nSending label command for Volume \"a\" Slot 1 ...\n";
        assert_eq!(refused_labels(output), names(&["b"]));
    }

    #[test]
    fn volumes_that_the_catalog_does_not_have_are_named() {
        let set = include_str!("../../tests/transcripts/set_statuses.txt");
        assert_eq!(unknown_volumes(set), names(&["nope"]));
    }

    #[test]
    fn a_real_update_of_slots_counts() {
        let updated = include_str!("../../tests/transcripts/update_slots.txt");
        let shown = names(&["c0_A_0001", "c0_A_0004"]);
        let whole = format!("{updated}version\nbackup-dir Version: 9.6.7 (10 December 2020)\n");
        assert!(slots_were_updated(&whole, "c0", &shown) && !slots_were_updated(updated, "c0", &shown));
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(
            set_statuses([(&VolumeName::new("a").expect("legal"), "Append")]),
            ["update volume=\"a\" volstatus=Append\n"]
        );
        assert_eq!(
            close_out_of_changer(&names(&["a"]), "Read-Only"),
            ["update volume=\"a\" volstatus=Read-Only slot=0 inchanger=no\n"]
        );
        let slots: Places = [1, 2, 3, 7].into_iter().collect();
        assert_eq!(
            label("c0", "My Pool", &slots),
            "label storage=\"c0\" pool=\"My Pool\" drive=0 slots=1-3,7 barcodes\nyes\n"
        );
        assert_eq!(out_of_changer(&names(&["a"])), ["update volume=\"a\" slot=0 inchanger=no\n"]);
        let place = (&VolumeName::new("a").expect("legal"), &Slot::new(3).expect("not 0"));
        assert_eq!(into_changer([place]), ["update volume=\"a\" slot=3 inchanger=yes\n"]);
    }
}
