//! What is said to the Director, and what its answers mean.
//!
//! The wording is that of Bacula's `ua_label.c`, `ua_update.c` and `ua_status.c` (seen with 9.6.7); names come
//! from [`VolumeName`] and from configuration values that were checked for quotes, so no text can become a command.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::identifiers::{DriveIndex, Slot, VolumeName};
use crate::places::Places;
use crate::shelf::Statuses;

/// The command that makes the Director read slots and volumes anew.
pub(crate) fn update_slots(storage: &str) -> String {
    format!("update slots storage=\"{storage}\" drive=0\n")
}

/// The commands that tell that volumes left, where `update slots` says nothing: it does nothing without a volume.
///
/// The slot goes as well, as with `update slots`: a restore takes it over from the catalog, and would load from it
/// without asking for the drive, which ends the job.
pub(crate) fn out_of_changer<'a>(names: impl IntoIterator<Item = &'a VolumeName>) -> String {
    let mut script = String::new();
    for name in names {
        let _ = writeln!(script, "update volume=\"{name}\" slot=0 inchanger=no");
    }
    script
}

/// The commands that show every volume's status; the last one's answer tells that all of the others' came.
pub(crate) fn list_volumes() -> String {
    "list volumes\nversion\n".to_owned()
}

/// The commands that set volumes' statuses and then show what they are.
pub(crate) fn set_statuses<'a>(statuses: impl IntoIterator<Item = (&'a VolumeName, &'a str)>) -> String {
    let mut script = String::new();
    for (name, status) in statuses {
        let _ = writeln!(script, "update volume=\"{name}\" volstatus={status}");
    }
    script + &list_volumes()
}

/// The command that labels the volumes in some slots, and its answer.
pub(crate) fn label(storage: &str, pool: &str, slots: &Places) -> String {
    format!("label storage=\"{storage}\" pool=\"{pool}\" drive=0 slots={slots} barcodes\nyes\n")
}

/// The command that ends a drive's waiting.
pub(crate) fn mount(storage: &str, slot: Slot, drive: DriveIndex) -> String {
    format!("mount storage=\"{storage}\" slot={slot} drive={drive}\n")
}

/// Whether the Director read the changer's list and dealt with every volume that it should have found there.
pub(crate) fn slots_were_updated(output: &str, storage: &str, shown: &BTreeSet<VolumeName>) -> bool {
    // without this line it would have taken another storage in silence
    let other = output.contains(&format!("Storage resource \"{storage}\": not found"));
    let listed = output.contains("3306 Issuing autochanger \"list\" command");
    let named: BTreeSet<&str> = output.lines().filter_map(|line| between(line, "Volume \"", "\"")).collect();
    listed && !other && shown.iter().all(|name| named.contains(name.as_str()))
}

/// What a Director says that could not, or would not, list its volumes; it answers `version` all the same, which
/// needs no catalog.
const NOT_LISTED: [&str; 3] = ["Could not open catalog", "is an invalid command", "ERR="];

/// Reads the tables of `list volumes`; none unless all of them came.
pub(crate) fn statuses(output: &str) -> Option<Statuses> {
    let mut statuses = Statuses::new();
    let mut columns: Option<(usize, usize)> = None;
    let mut listed = false;
    let mut versions = 0;
    let mut complete = false;
    for line in output.lines().map(str::trim) {
        if NOT_LISTED.iter().any(|words| line.contains(words)) {
            return None;
        }
        listed |= line == "No results to list.";
        if let Some(cells) = line.strip_prefix('|') {
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            let column = |title: &str| cells.iter().position(|cell| cell.eq_ignore_ascii_case(title));
            if let (Some(name), Some(status)) = (column("volumename"), column("volstatus")) {
                columns = Some((name, status));
                listed = true;
            } else if let Some((name, status)) = columns
                && let (Some(name), Some(status)) = (cells.get(name), cells.get(status))
                && let Ok(name) = VolumeName::new(*name)
            {
                statuses.insert(name, (*status).to_owned());
            }
            complete = false;
        } else if line.contains(" Version: ") {
            // the greeting has the first
            versions += 1;
            complete = versions > 1;
        }
    }
    (complete && listed).then_some(statuses)
}

/// The volumes of which the Director said that its catalog does not have them.
pub(crate) fn unknown_volumes(output: &str) -> BTreeSet<VolumeName> {
    let unknown = output.lines().filter(|line| line.trim_end().ends_with("\" not found."));
    unknown
        .filter_map(|line| VolumeName::new(between(line, "Media record for Volume name \"", "\"")?).ok())
        .collect()
}

/// Whether every volume was changed in the catalog, or is not in it.
pub(crate) fn volumes_were_updated(output: &str, names: &BTreeSet<VolumeName>) -> bool {
    let changed = output.matches("New InChanger flag is: no").count();
    let unknown = output.matches("Media record for Volume name \"").count();
    changed + unknown >= names.len()
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
        Volume \"c\" not found in catalog. Slot=3 InChanger set to zero.\n";

    #[test]
    fn only_an_answer_that_names_every_volume_counts() {
        assert!(slots_were_updated(UPDATED, "c0", &names(&["a", "b", "c"])));
        assert!(!slots_were_updated(UPDATED, "c0", &names(&["a", "d"])));
        let other =
            format!("Storage resource \"c0\": not found\nAutomatically selected Storage: c1\n{UPDATED}");
        assert!(!slots_were_updated(&other, "c0", &names(&["a"])));
        let no_daemon = "Connecting to Storage daemon c0 at 127.0.0.1:9103 ...\n";
        assert!(!slots_were_updated(no_daemon, "c0", &names(&[])));
        let nothing =
            "3306 Issuing autochanger \"list\" command.\nNo Volumes found to label, or no barcodes.\n";
        assert!(!slots_were_updated(nothing, "c0", &names(&["a"])));
        assert!(slots_were_updated(nothing, "c0", &names(&[])));
    }

    #[test]
    fn volumes_that_left_are_confirmed_one_by_one() {
        let output = "update volume=\"a\" inchanger=no\nNew InChanger flag is: no\nupdate volume=\"b\" inchanger=no\n\
            sql_get.c:1266 Media record for Volume name \"b\" not found.\n";
        assert!(volumes_were_updated(output, &names(&["a", "b"])));
        assert!(!volumes_were_updated(output, &names(&["a", "b", "c"])));
    }

    #[test]
    fn known_volumes_are_not_labelled_again() {
        let output = "Media record for Slot 2 Volume \"b\" already exists.\nSending label command for Volume \"a\" Slot 1 ...\n";
        assert_eq!(refused_labels(output), names(&["b"]));
    }

    /// What bconsole 9.6.7 printed.
    const LISTED: &str = include_str!("../tests/transcripts/list_volumes.txt");

    #[test]
    fn the_catalogs_volumes_are_read() {
        let read = statuses(LISTED).expect("complete");
        assert_eq!(read.len(), 8);
        assert_eq!(read[&VolumeName::new("c0_A_0001").expect("legal")], "Append");
        assert_eq!(read[&VolumeName::new("c0_B_0001").expect("legal")], "Read-Only");
        let set = include_str!("../tests/transcripts/set_statuses.txt");
        let read = statuses(set).expect("complete");
        assert_eq!(read[&VolumeName::new("c0_A_0001").expect("legal")], "Read-Only");
        assert!(!read.contains_key(&VolumeName::new("nope").expect("legal")));
        assert_eq!(unknown_volumes(set), names(&["nope"]));
        // PostgreSQL folds the titles' case
        let lower = LISTED.replace("VolumeName", "volumename").replace("VolStatus", "volstatus");
        assert_eq!(statuses(&lower), statuses(LISTED));
        let empty =
            "1000 OK: 103 d Version: 9.6.7\nlist volumes\nNo results to list.\nversion\nd Version: 9.6.7\n";
        assert_eq!(statuses(empty), Some(Statuses::new()));
    }

    #[test]
    fn half_an_answer_is_none() {
        for broken in [
            include_str!("../tests/transcripts/director_gone.txt"),
            include_str!("../tests/transcripts/wrong_password.txt"),
            include_str!("../tests/transcripts/no_director.txt"),
            include_str!("../tests/transcripts/refused.txt"),
            include_str!("../tests/transcripts/no_database.txt"),
            include_str!("../tests/transcripts/no_list_command.txt"),
            "",
        ] {
            assert_eq!(statuses(broken), None, "{broken}");
        }
        // wherever it is cut, nothing is taken for the whole
        let end = LISTED.find("backup-dir Version: 9.6.7 (10 December 2020) x86").expect("the last answer");
        for cut in 0..end {
            assert_eq!(statuses(&LISTED[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn odd_output_changes_no_status() {
        let expected = statuses(LISTED);
        let message = "24-Nov 02:19 backup-dir JobId 3: c0_A_0001 | Error |\nYou have messages.\n\u{1b}[31mred\u{1b}[0m\n";
        for (at, _) in LISTED.match_indices('\n') {
            let (before, after) = LISTED.split_at(at + 1);
            assert_eq!(statuses(&format!("{before}{message}{after}")), expected);
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(statuses(&format!("{long}\n{LISTED}")), expected);
        let prompt = LISTED.replace("list volumes\n", "list volumes\nSelect Catalog resource (1-2): ");
        assert_eq!(statuses(&prompt), expected);
    }

    #[test]
    fn a_real_update_of_slots_counts() {
        let updated = include_str!("../tests/transcripts/update_slots.txt");
        assert!(slots_were_updated(updated, "c0", &names(&["c0_A_0001", "c0_A_0004"])));
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(
            set_statuses([(&VolumeName::new("a").expect("legal"), "Append")]),
            "update volume=\"a\" volstatus=Append\nlist volumes\nversion\n"
        );
        let slots: Places = [1, 2, 3, 7].into_iter().collect();
        assert_eq!(
            label("c0", "My Pool", &slots),
            "label storage=\"c0\" pool=\"My Pool\" drive=0 slots=1-3,7 barcodes\nyes\n"
        );
        assert_eq!(out_of_changer(&names(&["a"])), "update volume=\"a\" slot=0 inchanger=no\n");
    }
}
