//! The Director's list of volumes, and how it differs from what is in the changer.
//!
//! The tables are those of Bacula's `list volumes` (`cats/sql_list.c`; seen with 9.6.7).

use std::collections::{BTreeMap, BTreeSet};

use super::table;
use crate::library::identifiers::{Slot, VolumeName};
use crate::library::listed::{Catalog, Listed};
use crate::library::volumes_now::VolumesNow;

/// The columns of a table.
struct Columns {
    name: usize,
    status: usize,
    slot: Option<usize>,
    in_changer: Option<usize>,
    bytes: Option<usize>,
}

impl Columns {
    /// Reads a table's titles; none of another table. PostgreSQL folds their case.
    fn of(cells: &[&str]) -> Option<Self> {
        let column = |title: &str| cells.iter().position(|cell| cell.eq_ignore_ascii_case(title));
        Some(Self {
            name: column("volumename")?,
            status: column("volstatus")?,
            slot: column("slot"),
            in_changer: column("inchanger"),
            bytes: column("volbytes"),
        })
    }

    fn read(&self, cells: &[&str]) -> Option<(VolumeName, Listed)> {
        let number = |column: Option<usize>| table::number::<u64>(cells.get(column?)?);
        let name = VolumeName::new(*cells.get(self.name)?).ok()?;
        let status = (*cells.get(self.status)?).to_owned();
        let slot = number(self.slot).and_then(|slot| u32::try_from(slot).ok());
        let place = slot.zip(number(self.in_changer).map(|flag| flag != 0));
        Some((name, Listed { status, place, bytes: number(self.bytes) }))
    }
}

/// Reads the tables of `list volumes`; none unless all of them came.
pub(crate) fn catalog(output: &str) -> Option<Catalog> {
    let mut catalog = Catalog::new();
    let mut columns: Option<Columns> = None;
    let mut listed = false;
    let mut versions = 0;
    let mut complete = false;
    for line in output.lines().map(str::trim) {
        if table::is_refusal(line) {
            return None;
        }
        listed |= line == "No results to list.";
        if let Some(cells) = line.strip_prefix('|') {
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            if let Some(titles) = Columns::of(&cells) {
                columns = Some(titles);
                listed = true;
            } else {
                catalog.extend(columns.as_ref().and_then(|columns| columns.read(&cells)));
            }
            complete = false;
        } else if line.contains(" Version: ") {
            // the greeting has the first
            versions += 1;
            complete = versions > 1;
        }
    }
    (complete && listed).then_some(catalog)
}

/// Volumes of which the catalog says that they are where they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Misplaced {
    /// In the changer, with their true slots.
    pub(crate) here: BTreeMap<VolumeName, Slot>,
    /// Not in the changer.
    pub(crate) away: BTreeSet<VolumeName>,
}

impl Misplaced {
    pub(crate) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.away.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.here.len() + self.away.len()
    }
}

/// Compares slots and `InChanger` in the catalog with what is in the changer. The storage daemon, `update slots` typed
/// with an empty dock, and administrators change them without a word to us.
pub(crate) fn misplaced(catalog: &Catalog, now: &VolumesNow) -> Misplaced {
    let place = |name: &VolumeName| catalog.get(name)?.place;
    let wrong_here = now.shown.iter().filter_map(|(name, slots)| {
        let (slot, in_changer) = place(name)?;
        let right = in_changer && slots.iter().any(|shown| shown.number() == slot);
        Some((name.clone(), slots.first().copied().filter(|_| !right)?))
    });
    let wrong_away = now.away.iter().filter(|name| place(name).is_some_and(|place| place != (0, false)));
    Misplaced { here: wrong_here.collect(), away: wrong_away.cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VolumeName {
        VolumeName::new(text).expect("legal")
    }

    /// What bconsole 9.6.7 printed.
    const LISTED: &str = include_str!("../../tests/transcripts/list_volumes.txt");

    #[test]
    fn the_catalogs_volumes_are_read() {
        let read = catalog(LISTED).expect("complete");
        assert_eq!(read.len(), 8);
        let volume = |status: &str, place, bytes| Listed {
            status: status.to_owned(),
            place: Some(place),
            bytes: Some(bytes),
        };
        assert_eq!(read[&name("c0_A_0001")], volume("Append", (1, true), 701_383));
        assert_eq!(read[&name("c0_B_0001")], volume("Read-Only", (0, false), 904));
        let set = include_str!("../../tests/transcripts/set_statuses.txt");
        let read = catalog(set).expect("complete");
        assert_eq!(read[&name("c0_A_0001")].status, "Read-Only");
        assert!(!read.contains_key(&name("nope")));
        // PostgreSQL folds the titles' case
        let lower = LISTED.replace("VolumeName", "volumename").replace("VolStatus", "volstatus");
        let lower = lower.replace("| Slot |", "| slot |").replace("InChanger", "inchanger");
        assert_eq!(catalog(&lower.replace("VolBytes", "volbytes")), catalog(LISTED));
        let commas = LISTED.replace("701383  ", "701,383 ").replace("| 1    | 1         |", "| 1,234 | 1 |");
        assert_eq!(catalog(&commas).expect("complete")[&name("c0_A_0001")].place, Some((1234, true)));
        let empty =
            "1000 OK: 103 d Version: 9.6.7\nlist volumes\nNo results to list.\nversion\nd Version: 9.6.7\n";
        assert_eq!(catalog(empty), Some(Catalog::new()));
    }

    #[test]
    fn half_an_answer_is_none() {
        for broken in [
            include_str!("../../tests/transcripts/director_gone.txt"),
            include_str!("../../tests/transcripts/wrong_password.txt"),
            include_str!("../../tests/transcripts/no_director.txt"),
            include_str!("../../tests/transcripts/refused.txt"),
            include_str!("../../tests/transcripts/no_database.txt"),
            include_str!("../../tests/transcripts/no_list_command.txt"),
            "",
        ] {
            assert_eq!(catalog(broken), None, "{broken}");
        }
        // wherever it is cut, nothing is taken for the whole
        let end = LISTED.find("backup-dir Version: 9.6.7 (10 December 2020) x86").expect("the last answer");
        for cut in 0..end {
            assert_eq!(catalog(&LISTED[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn odd_output_changes_no_volume() {
        let expected = catalog(LISTED);
        let message = "24-Nov 02:19 backup-dir JobId 3: c0_A_0001 | Error |\nYou have messages.\n\u{1b}[31mred\u{1b}[0m\n";
        for (at, _) in LISTED.match_indices('\n') {
            let (before, after) = LISTED.split_at(at + 1);
            assert_eq!(catalog(&format!("{before}{message}{after}")), expected);
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(catalog(&format!("{long}\n{LISTED}")), expected);
        let prompt = LISTED.replace("list volumes\n", "list volumes\nSelect Catalog resource (1-2): ");
        assert_eq!(catalog(&prompt), expected);
    }

    #[test]
    fn slot_and_flag_are_compared_with_what_is_shown() {
        let slot = |number| Slot::new(number).expect("not 0");
        let listed = |place| Listed { place, ..Listed::default() };
        let catalog = Catalog::from([
            (name("right"), listed(Some((1, true)))),
            (name("twice"), listed(Some((3, true)))),
            (name("no_slot"), listed(Some((0, false)))),
            (name("no_flag"), listed(Some((5, false)))),
            (name("other_slot"), listed(Some((9, true)))),
            (name("untold"), listed(None)),
            (name("gone"), listed(Some((0, false)))),
            (name("flag"), listed(Some((0, true)))),
            (name("slot"), listed(Some((7, false)))),
            (name("foreign"), listed(Some((8, true)))),
        ]);
        let shown = [
            ("right", vec![1]),
            ("twice", vec![2, 3]),
            ("no_slot", vec![4]),
            ("no_flag", vec![5]),
            ("other_slot", vec![6]),
            ("untold", vec![7]),
            ("unknown", vec![8]),
        ];
        let now = VolumesNow {
            shown: shown
                .map(|(text, slots)| (name(text), slots.into_iter().map(slot).collect()))
                .into_iter()
                .collect(),
            away: ["gone", "flag", "slot", "unknown_too"].map(name).into_iter().collect(),
            ..VolumesNow::default()
        };
        let wrong = misplaced(&catalog, &now);
        let here = [("no_slot", 4), ("no_flag", 5), ("other_slot", 6)];
        assert_eq!(wrong.here, here.map(|(text, number)| (name(text), slot(number))).into_iter().collect());
        assert_eq!(wrong.away, ["flag", "slot"].map(name).into_iter().collect());
        assert_eq!(wrong.len(), 5);
    }
}
