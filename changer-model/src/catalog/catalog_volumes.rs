//! What the catalog says of the changer's volumes: which can be written, which are closed.
//!
//! The table is that of Bacula's `list volumes` (`cats/sql_list.c`; seen with 9.6.7 on SQLite and on PostgreSQL).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::changer::opened::{Changer, ChangerError, consistently};
use crate::director::table::{self, Row, number};
use crate::library::closed_volumes::CLOSED;
use crate::library::identifiers::VolumeName;

/// A volume of the changer's in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CatalogVolume {
    /// Its name.
    pub name: String,
    /// Its `VolStatus`, such as `Append` or `Read-Only`.
    pub status: String,
    /// Whether a job may write to it now: it is open, or it may be recycled.
    pub writable: bool,
    /// It is Read-Only, and it was not closed by this changer, which gives back what it closed: it stays so until
    /// somebody changes it.
    pub stuck: bool,
}

impl Changer {
    /// The volumes that this changer knows, by an answer to `list volumes`.
    pub(crate) fn own_volumes(&self, output: &str) -> Result<Vec<CatalogVolume>, ChangerError> {
        let known = consistently(|| self.known_volumes())?;
        let closed = self.store.shelf()?;
        let mut volumes = Vec::new();
        for mut volume in in_catalog(output) {
            let Ok(name) = VolumeName::new(volume.name.as_str()) else { continue };
            volume.stuck = volume.status == CLOSED && !closed.has_closed(&name);
            if known.contains(&name) {
                volumes.push(volume);
            }
        }
        Ok(volumes)
    }

    /// The volumes of all magazines in the configuration.
    fn known_volumes(&self) -> Result<BTreeSet<VolumeName>, ChangerError> {
        let view = self.look()?;
        let mut names = BTreeSet::new();
        for (id, record) in view.state.magazines.iter().filter(|(id, _)| self.is_configured(id)) {
            names.extend(self.store.volumes(id, record)?.into_values().map(|volume| volume.name));
        }
        Ok(names)
    }
}

/// Reads `list volumes`.
pub(crate) fn in_catalog(output: &str) -> Vec<CatalogVolume> {
    table::rows(output).iter().filter_map(volume).collect()
}

fn volume(row: &Row<'_>) -> Option<CatalogVolume> {
    let text = |title: &str| row.get(title).copied();
    let is = |title: &str, expected: i64| {
        text(title).and_then(number).is_some_and(|number: i64| number == expected)
    };
    let (name, status) = (text("volumename")?, text("volstatus")?);
    // One that was never written expires in 0 seconds, too.
    let was_written =
        text("lastwritten").is_some_and(|time| time.starts_with(|c: char| ('1'..='9').contains(&c)));
    let writable = match status {
        "Append" => true,
        "Recycle" | "Purged" => is("recycle", 1),
        "Full" | "Used" => is("recycle", 1) && was_written && is("expiresin", 0),
        _ => false,
    };
    Some(CatalogVolume {
        name: name.to_owned(),
        status: status.to_owned(),
        writable: writable && is("enabled", 1),
        stuck: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writable(output: &str) -> Vec<String> {
        in_catalog(output).into_iter().filter(|volume| volume.writable).map(|volume| volume.name).collect()
    }

    #[test]
    fn what_can_be_written_is_known_on_both_databases() {
        let sqlite = include_str!("../../tests/transcripts/list_volumes.txt");
        assert_eq!(in_catalog(sqlite).len(), 8);
        assert_eq!(writable(sqlite), ["c0_A_0001", "c0_A_0002", "c0_A_0003", "c0_A_0004"]);
        let postgresql = include_str!("../../tests/transcripts/list_volumes_postgresql.txt");
        assert_eq!(in_catalog(postgresql).len(), 3);
        assert_eq!(writable(postgresql), ["vol2"], "a full one within its retention can't");
    }

    #[test]
    fn a_volume_past_its_retention_can_be_written_unless_it_is_kept() {
        let table = |status: &str, enabled: &str, recycle: &str, written: &str, expires: &str| {
            let rule = "+--+--+--+--+--+--+\n";
            let titles = "| VolumeName | VolStatus | Enabled | Recycle | LastWritten | ExpiresIn |\n";
            format!(
                "{rule}{titles}{rule}| a | {status} | {enabled} | {recycle} | {written} | {expires} |\n{rule}"
            )
        };
        let day = "2026-11-24 02:18:42";
        let can = |status, enabled, recycle, written, expires| {
            !writable(&table(status, enabled, recycle, written, expires)).is_empty()
        };
        assert!(can("Full", "1", "1", day, "0") && can("Used", "1", "1", day, "0"));
        assert!(!can("Full", "1", "1", day, "4,233,482") && !can("Full", "1", "0", day, "0"));
        assert!(!can("Full", "1", "1", "0", "0") && !can("Full", "1", "1", "", "0"));
        assert!(can("Recycle", "1", "1", day, "77") && can("Purged", "1", "1", day, "77"));
        assert!(!can("Append", "0", "1", day, "77") && !can("Error", "1", "1", day, "0"));
        assert!(!can("Read-Only", "1", "1", day, "0"));
    }
}
