//! Twelve weeks of four drives that take turns, with the real Director on SQLite and on PostgreSQL: as this product
//! sets it up and tells it, and by the tutorial.
//!
//! `--nocapture` shows the figures. `OFFSITE_WEEKS` is how many weeks there are of those that the product tells; by
//! itself twelve on SQLite, and six on PostgreSQL.

use anyhow::{Context as _, Result, ensure};
use offsite_tests::bacula::{Database, Dock, lacking_postgresql};
use offsite_tests::trials::{self, Test};
use offsite_tests::weeks::{Manner, Outcome, live};

fn main() {
    let tests: [Test; 3] = [
        ("told_on_sqlite", || told(Database::Sqlite, 12)),
        ("told_on_postgresql", || told(Database::Postgresql, 6)),
        ("baseline_by_the_tutorial", baseline_by_the_tutorial),
    ];
    let lacking = Dock::lacking().or_else(lacking_postgresql);
    trials::run(lacking.as_deref(), None, tests);
}

fn weeks(usual: u32) -> Result<u32> {
    std::env::var("OFFSITE_WEEKS").map_or(Ok(usual), |text| text.parse().context("OFFSITE_WEEKS"))
}

fn told(database: Database, usual: u32) -> Result<()> {
    let outcome = live(Manner::Told, database, weeks(usual)?)?;
    println!("told, {database:?}:\n{outcome}");
    let Outcome { weeks, jobs, without_room, restores, brought, .. } = outcome;
    let good = Outcome {
        weeks,
        jobs,
        without_room,
        restores,
        identical: restores,
        brought,
        named: brought,
        ..Outcome::default()
    };
    ensure!(outcome == good, "\n{outcome}");
    ensure!(weeks < 12 || (jobs == 36 && restores == 3 && brought >= 3 && without_room == 1), "\n{outcome}");
    Ok(())
}

/// What the telling is for: by the tutorial the same weeks go wrong.
fn baseline_by_the_tutorial() -> Result<()> {
    let outcome = live(Manner::Tutorial, Database::Sqlite, 12)?;
    println!("by the tutorial:\n{outcome}");
    ensure!(outcome.jobs_on_absent > 0 && outcome.lost_while_absent > 0, "\n{outcome}");
    ensure!(outcome.identical < outcome.restores, "\n{outcome}");
    Ok(())
}
