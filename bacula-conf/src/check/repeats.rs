//! Jobs that break when their drive is pulled, or wait for one: which of them are never run again.

use super::pools::changer_pools;
use super::report::{Place, Report};
use crate::schema::resources::{Resource, Set, is_yes};
use crate::values::program::Program;

/// What cancels a job that waits for its drive. The Director runs no job again that was cancelled.
const LIMITS: [&str; 3] = ["Max Wait Time", "Max Start Delay", "Max Run Sched Time"];

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    let pools: Vec<&str> = changer_pools(set).map(Resource::name).collect();
    for job in set.all(Program::Director, "Job") {
        let is = |key: &str| set.job_text(job, key).is_some_and(is_yes);
        if !set.job_text(job, "Type").is_some_and(|kind| kind.eq_ignore_ascii_case("Backup")) {
            continue;
        }
        let to_drives = set.job_text(job, "Pool").is_some_and(|pool| pools.contains(&pool));
        if is("Reschedule On Error") {
            repeat_is_cancelled(set, job, report);
        } else if to_drives && set.job_text(job, "Schedule").is_some() {
            report.warning(
                "not-repeated",
                Place::of(job),
                format!(
                    "job {} fails when its drive is pulled, and nothing runs it again before its next turn",
                    job.name()
                ),
                "add `Reschedule On Error = yes`, `Reschedule Interval = 10 minutes`, `Reschedule Times = 5`",
            );
        }
        if to_drives {
            limits(set, job, report);
        }
    }
}

/// The Director takes the failed run for a queued duplicate of the new one, once the failed one had saved anything.
fn repeat_is_cancelled(set: &Set<'_>, job: &Resource<'_>, report: &mut Report<'_>) {
    let no = |key: &str| {
        let text = set.job_text(job, key).map(str::to_ascii_lowercase);
        text.is_some_and(|text| matches!(&*text, "no" | "false"))
    };
    let gives_way = ["Cancel Queued Duplicates", "Cancel Running Duplicates"]
        .into_iter()
        .any(|key| set.job_text(job, key).is_some_and(is_yes));
    if no("Allow Duplicate Jobs") && !gives_way {
        report.warning(
            "repeat-cancelled",
            Place::value(job, "Reschedule On Error"),
            format!(
                "job {} is not run again once it had saved anything: the new run is cancelled as a duplicate of the one that failed",
                job.name()
            ),
            "add `Cancel Queued Duplicates = yes` and `Cancel Lower Level Duplicates = yes`",
        );
    }
}

fn limits(set: &Set<'_>, job: &Resource<'_>, report: &mut Report<'_>) {
    for key in LIMITS {
        let limited = set.job_text(job, key).is_some_and(|text| text.trim() != "0");
        if limited {
            report.warning(
                "waiting-cancelled",
                Place::value(job, key),
                format!(
                    "`{key}` cancels job {} when its drive does not come in time, and a cancelled job is not run again",
                    job.name()
                ),
                "remove the line: with `Allow Duplicate Jobs = no` one run waits, and the later ones end at once",
            );
        }
    }
}
