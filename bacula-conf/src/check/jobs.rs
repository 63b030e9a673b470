//! The Admin job that updates the slots, and what else jobs get wrong in silence.

use crate::check::{Place, Report};
use crate::resources::{Reader, Resource, Set};
use crate::tree::Block;

/// Bacula's default.
const PRIORITY: u32 = 10;

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for job in set.all(Reader::Director, "Job") {
        if is_type(set, job, "Admin") {
            for script in scripts(job.block) {
                runs_on_client(job, script, report);
                update_slots(set, job, script, report);
            }
            prunes_placeholder(set, job, report);
            order(set, job, report);
        }
    }
    catalog_backup(set, report);
}

fn is_type(set: &Set<'_>, job: &Resource<'_>, kind: &str) -> bool {
    set.job_text(job, "Type").is_some_and(|text| text.eq_ignore_ascii_case(kind))
}

fn scripts(job: &Block) -> impl Iterator<Item = &Block> {
    job.blocks().filter(|block| block.is("RunScript"))
}

fn runs_on_client(job: &Resource<'_>, script: &Block, report: &mut Report<'_>) {
    let off = script
        .text("Runs On Client")
        .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "no" | "false"));
    if !off {
        report.error(
            "runs-on-client",
            Place { file: job.file, span: script.span() },
            format!("the script of Admin job {} is never run: by default it runs on the client, and the job has none; it ends well all the same", job.name()),
            "add `RunsOnClient = no`",
        );
    }
}

fn update_slots(set: &Set<'_>, job: &Resource<'_>, script: &Block, report: &mut Report<'_>) {
    for directive in script.directives().filter(|directive| directive.is("Console")) {
        let command = directive.value().text().unwrap_or("").to_ascii_lowercase();
        if !command.contains("update") || !command.contains("slots") {
            continue;
        }
        let place = Place { file: job.file, span: directive.value().span() };
        if !command.contains("storage=") && set.storages().count() > 1 {
            report.error(
                "update-slots",
                place,
                format!("job {} does not say which storage's slots to update; the console asks and nobody answers", job.name()),
                "add `storage=` with the name of the changer's storage",
            );
        }
        let several = set.autochangers().any(|changer| set.drives(changer).len() > 1);
        if !command.contains("drive=") && several {
            report.error(
                "update-slots",
                place,
                format!(
                    "job {} names no drive; with several drives the console asks and nobody answers",
                    job.name()
                ),
                "add `drive=0`",
            );
        }
    }
}

/// An Admin job prunes its client like any other job.
fn prunes_placeholder(set: &Set<'_>, job: &Resource<'_>, report: &mut Report<'_>) {
    let client = set.job_text(job, "Client").and_then(|name| set.named(Reader::Director, "Client", name));
    let Some(client) = client.filter(|client| client.name().eq_ignore_ascii_case("none")) else { return };
    let off = client
        .text("AutoPrune")
        .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "no" | "false"));
    if !off {
        report.warning(
            "placeholder-prune",
            Place::value(client, "AutoPrune"),
            format!(
                "Admin job {} prunes its placeholder client {} each time it runs",
                job.name(),
                client.name()
            ),
            "add `AutoPrune = no` to the client",
        );
    }
}

/// Slots that are updated after the backups have started come too late.
fn order(set: &Set<'_>, admin: &Resource<'_>, report: &mut Report<'_>) {
    let priority = |job: &Resource<'_>| {
        set.job_text(job, "Priority").and_then(|text| text.parse().ok()).unwrap_or(PRIORITY)
    };
    let own = priority(admin);
    let schedule = set.job_text(admin, "Schedule");
    let late = set.all(Reader::Director, "Job").find(|job| {
        is_type(set, job, "Backup")
            && schedule.is_some()
            && set.job_text(job, "Schedule") == schedule
            && set.job_text(job, "Storage") == set.job_text(admin, "Storage")
            && priority(job) <= own
    });
    if let Some(job) = late {
        report.error(
            "admin-priority",
            Place::value(admin, "Priority"),
            format!(
                "Admin job {} has priority {own} and does not run before backup {} with priority {}",
                admin.name(),
                job.name(),
                priority(job)
            ),
            "give the Admin job a lower number than any backup",
        );
    }
}

/// Without its catalog a site can't tell what is on which drive.
fn catalog_backup(set: &Set<'_>, report: &mut Report<'_>) {
    let Some(director) = set.director().filter(|_| set.is_whole(Reader::Director)) else { return };
    let dumps = |block: &Block| {
        let before = block.directive("Run Before Job").and_then(|directive| directive.value().text());
        let scripts = scripts(block).filter_map(|script| script.text("Command"));
        before.into_iter().chain(scripts).any(|command| command.contains("catalog"))
    };
    let found = set
        .all(Reader::Director, "Job")
        .chain(set.all(Reader::Director, "JobDefs"))
        .any(|job| dumps(job.block));
    if !found && set.all(Reader::Director, "Job").next().is_some() {
        report.warning(
            "catalog-backup",
            Place::of(director),
            "no job backs the catalog up: after a loss of this machine nobody knows what is on which volume",
            "add a job that runs make_catalog_backup and backs its output up, after the other jobs",
        );
    }
}
