//! What twelve weeks of swaps do to a catalog that is told, and to one that is kept by the tutorial.

use anyhow::Result;

use super::figures::{Figures, Unit};
use crate::bacula::{Database, Dock, lacking_postgresql};
use crate::weeks::{Manner, Outcome, live};

/// The figures of this module: what went wrong, counted.
pub(super) const NAMES: [&str; 6] = [
    "catalog: jobs started on absent volumes, 12 weeks",
    "catalog: absent volumes recycled or pruned, 12 weeks",
    "catalog: restores that failed, 12 weeks",
    "catalog: jobs started on absent volumes, PostgreSQL",
    "catalog: absent volumes recycled or pruned, PostgreSQL",
    "catalog: restores that failed, PostgreSQL",
];

const PEER: &str = "the tutorial's settings, update slots alone";

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    if let Some(reason) = Dock::lacking() {
        for name in NAMES {
            figures.skip(name, &reason);
        }
        return Ok(());
    }
    let (sqlite, postgresql) = NAMES.split_at(NAMES.len() / 2);
    let peer = counts(&live(Manner::Tutorial, Database::Sqlite, 12)?);
    for (names, database) in [(sqlite, Database::Sqlite), (postgresql, Database::Postgresql)] {
        if let Some(reason) = lacking_postgresql().filter(|_| database == Database::Postgresql) {
            for name in names {
                figures.skip(name, &reason);
            }
            continue;
        }
        if !names.iter().any(|name| figures.wants(name)) {
            continue;
        }
        let ours = counts(&live(Manner::Told, database, 12)?);
        for ((name, ours), peer) in names.iter().zip(ours).zip(peer) {
            if figures.wants(name) {
                figures.record(name, Unit::Count, &[ours], PEER, &[peer]);
            }
        }
    }
    Ok(())
}

fn counts(outcome: &Outcome) -> [f64; 3] {
    [outcome.jobs_on_absent, outcome.lost_while_absent, outcome.restores - outcome.identical].map(f64::from)
}
