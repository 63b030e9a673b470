//! Pools of volumes that travel.

use super::report::{Place, Report};
use crate::rotation::turns::Rotation;
use crate::schema::resources::{Resource, Set};
use crate::schema::setting::period_of;
use crate::values::program::Program;
use crate::values::units::Period;

/// Bacula's default for a pool that says nothing (`src/dird/dird_conf.c`).
const RETENTION: Period = Period::days(365);

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for pool in changer_pools(set) {
        if pool.is_yes("Purge Oldest Volume") {
            report.error(
                "purge-oldest",
                Place::value(pool, "Purge Oldest Volume"),
                format!("when no volume is left, pool {} empties its oldest one whatever its retention says: that one lies in the safe", pool.name()),
                "remove the line; `Recycle Oldest Volume = yes` respects the retention",
            );
        }
        let unlimited =
            ["Maximum Volume Bytes", "Max Volume Bytes"].into_iter().all(|key| pool.text(key).is_none());
        if unlimited {
            report.warning(
                "volume-size",
                Place::of(pool),
                format!(
                    "volumes of pool {} have no size limit: the first one fills its whole drive",
                    pool.name()
                ),
                "set `Maximum Volume Bytes`, e.g. to 10737418240",
            );
        }
    }
}

pub(super) fn check_rotation(set: &Set<'_>, rotation: &Rotation, report: &mut Report<'_>) {
    if changer_pools(set).next().is_some() {
        job_retention(set, rotation, report);
    }
    for pool in changer_pools(set) {
        let retention = match pool.directive("Volume Retention") {
            None => RETENTION,
            Some(directive) => match period_of(directive.value()) {
                Some(period) => period,
                // Bacula itself refuses it.
                None => continue,
            },
        };
        let place = Place::value(pool, "Volume Retention");
        let (cycle, least) = (rotation.cycle(), rotation.minimum_retention());
        let arithmetic = format!(
            "{} drives swapped every {} make a cycle of {cycle}",
            rotation.drives, rotation.swap_every
        );
        let remedy = format!("set `Volume Retention = {least}` or longer");
        if retention < cycle {
            report.error(
                "retention",
                place,
                format!(
                    "pool {} keeps volumes for {retention}, but {arithmetic}: history that lies in the safe is pruned and recycled {} before its drive returns",
                    pool.name(),
                    Period::seconds(cycle.as_seconds() - retention.as_seconds())
                ),
                remedy,
            );
        } else if retention < least {
            report.warning(
                "retention",
                place,
                format!(
                    "pool {} keeps volumes for {retention}; {arithmetic}, and one late swap ({}) is not covered",
                    pool.name(),
                    rotation.slack
                ),
                remedy,
            );
        }
    }
}

/// Bacula's defaults for a client that says nothing (`src/dird/dird_conf.c`).
const JOB_RETENTION: Period = Period::days(180);

/// A volume whose jobs have all been pruned is as good as empty, whatever its own retention says.
fn job_retention(set: &Set<'_>, rotation: &Rotation, report: &mut Report<'_>) {
    let cycle = rotation.cycle();
    for client in set.all(Program::Director, "Client") {
        let off = |text: &str| matches!(text.to_ascii_lowercase().as_str(), "no" | "false");
        let used = set.all(Program::Director, "Job").any(|job| {
            set.job_text(job, "Type").is_some_and(|kind| kind.eq_ignore_ascii_case("Backup"))
                && set.job_text(job, "Client") == Some(client.name())
        });
        if !used || client.text("AutoPrune").is_some_and(off) {
            continue;
        }
        let retention = match client.directive("Job Retention") {
            None => JOB_RETENTION,
            Some(directive) => match period_of(directive.value()) {
                Some(period) => period,
                None => continue,
            },
        };
        if retention < cycle {
            report.error(
                "job-retention",
                Place::value(client, "Job Retention"),
                format!(
                    "jobs of client {} are forgotten after {retention}, but {} drives swapped every {} make a cycle of {cycle}: volumes in the safe are emptied with their jobs",
                    client.name(),
                    rotation.drives,
                    rotation.swap_every
                ),
                format!("set `Job Retention = {}` or longer", rotation.minimum_retention()),
            );
        }
    }
}

/// The pools whose volumes are in an autochanger of the storage daemon, by the pool's own storage or a job's.
pub(super) fn changer_pools<'s, 'a>(set: &'s Set<'a>) -> impl Iterator<Item = &'s Resource<'a>> {
    let of_changer = |name: &str| {
        let mut storages = set.storages();
        storages.any(|storage| {
            storage.name() == name
                && storage
                    .text("Device")
                    .is_some_and(|device| set.virtual_changers().any(|changer| changer.name() == device))
        })
    };
    set.all(Program::Director, "Pool").filter(move |pool| {
        let by_job = || {
            set.all(Program::Director, "Job").any(|job| {
                set.job_text(job, "Type").is_some_and(|kind| kind.eq_ignore_ascii_case("Backup"))
                    && set.job_text(job, "Pool") == Some(pool.name())
                    && set.job_text(job, "Storage").is_some_and(of_changer)
            })
        };
        match pool.text("Storage") {
            Some(storage) => of_changer(storage),
            None => by_job(),
        }
    })
}
