//! The Admin job that updates the slots, and what else jobs get wrong in silence.

use super::report::{Place, Report};
use crate::schema::resources::{Resource, Set};
use crate::syntax::tree::Block;
use crate::values::program::Program;

/// Bacula's default.
const PRIORITY: u32 = 10;

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for job in set.all(Program::Director, "Job") {
        if is_type(set, job, "Admin") {
            for (file, script) in scripts(job) {
                runs_on_client(job, Place { file, span: script.span() }, script, report);
                update_slots(set, job, file, script, report);
                unseen_failure(job, file, script, report);
            }
            prunes_placeholder(set, job, report);
            order(set, job, report);
        }
    }
    for job in set.all(Program::Director, "Job").chain(set.all(Program::Director, "JobDefs")) {
        commands(job, report);
    }
    catalog_backup(set, report);
    side_by_side(set, report);
}

fn is_type(set: &Set<'_>, job: &Resource<'_>, kind: &str) -> bool {
    set.job_text(job, "Type").is_some_and(|text| text.eq_ignore_ascii_case(kind))
}

/// The scripts of a job, each with its file.
fn scripts<'a>(job: &Resource<'a>) -> impl Iterator<Item = (usize, &'a Block)> {
    job.groups().filter(|(_, block)| block.is("RunScript"))
}

fn runs_on_client(job: &Resource<'_>, place: Place, script: &Block, report: &mut Report<'_>) {
    let off = script.text("Runs On Client").is_some_and(|text| text.eq_ignore_ascii_case("no"));
    if !off {
        report.error(
            "runs-on-client",
            place,
            format!("the script of Admin job {} is never run: by default it runs on the client, and the job has none; it ends well all the same", job.name()),
            "add `RunsOnClient = no`",
        );
    }
}

fn update_slots(set: &Set<'_>, job: &Resource<'_>, file: usize, script: &Block, report: &mut Report<'_>) {
    for directive in script.directives().filter(|directive| directive.is("Console")) {
        let command = directive.value().text().unwrap_or("").to_ascii_lowercase();
        if !command.contains("update") || !command.contains("slots") {
            continue;
        }
        let place = Place { file, span: directive.value().span() };
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
    let client = set.job_text(job, "Client").and_then(|name| set.named(Program::Director, "Client", name));
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
    let late = set.all(Program::Director, "Job").find(|job| {
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

/// The console's commands that a job's script may use (`commands` of `src/dird/ua_cmds.c`, last column).
const SCRIPT_COMMANDS: [&str; 20] = [
    "cloud",
    "delete",
    "disable",
    "enable",
    "estimate",
    "memory",
    "prune",
    "purge",
    "reload",
    "status",
    "setdebug",
    "setbandwidth",
    "snapshot",
    "show",
    "statistics",
    "time",
    "trace",
    "truncate",
    "update",
    "version",
];

/// A program that fails is of no interest to a job that was told so.
fn unseen_failure(job: &Resource<'_>, file: usize, script: &Block, report: &mut Report<'_>) {
    let Some(directive) = script.directives().find(|directive| directive.is("Fail Job On Error")) else {
        return;
    };
    let off = directive
        .value()
        .text()
        .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "no" | "false"));
    if off && script.directive("Command").is_some() {
        report.warning(
            "script-failure",
            Place { file, span: directive.value().span() },
            format!("when the script of Admin job {} fails, the job ends well all the same", job.name()),
            "set `Fail Job On Error = yes`; bconsole itself always ends with 0, so the script has to read its output",
        );
    }
}

/// What the scripts of a job run.
fn commands(job: &Resource<'_>, report: &mut Report<'_>) {
    let own = job.directives();
    let inner =
        scripts(job).flat_map(|(file, script)| script.directives().map(move |directive| (file, directive)));
    for (file, directive) in own.chain(inner) {
        let place = Place { file, span: directive.value().span() };
        let Some(text) = directive.value().text() else { continue };
        if ["Console", "Console Run Before Job", "Console Run After Job"]
            .into_iter()
            .any(|key| directive.is(key))
        {
            console_command(job, text, place, report);
        } else if directive.is("Command") || directive.key().to_ascii_lowercase().contains("run") {
            console_file(job, text, place, report);
        }
    }
}

fn console_command(job: &Resource<'_>, text: &str, place: Place, report: &mut Report<'_>) {
    let first = text.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
    // Bacula takes any beginning of a command.
    let allowed =
        first.starts_with('.') || SCRIPT_COMMANDS.iter().any(|known| known.starts_with(first.as_str()));
    if !allowed {
        report.error(
            "console-command",
            place,
            format!(
                "the console command {first:?} is not allowed in the script of a job: job {} fails",
                job.name()
            ),
            format!("call bconsole with `Command =`; allowed are {}", SCRIPT_COMMANDS.join(", ")),
        );
    } else if !first.is_empty() && "purge".starts_with(first.as_str()) {
        report.warning(
            "purge-command",
            place,
            format!("job {} purges: the catalog forgets jobs whose volumes may lie in the safe, and with SQLite their numbers are given away again", job.name()),
            "let the retention decide, or use `prune`",
        );
    }
}

/// bconsole looks for a bare file name in /etc/bacula, whatever the directory is that it was started in.
fn console_file(job: &Resource<'_>, text: &str, place: Place, report: &mut Report<'_>) {
    if !text.contains("bconsole") {
        return;
    }
    let mut words = text.split([' ', '"', '\'']).filter(|word| !word.is_empty());
    let file = words.find(|word| *word == "-c").and_then(|_| words.next());
    if let Some(file) = file.filter(|file| !file.starts_with('/')) {
        report.warning(
            "console-file",
            place,
            format!(
                "bconsole looks for {file} in its own configuration directory, not where job {} runs",
                job.name()
            ),
            "write the whole path behind -c",
        );
    }
}

/// What keeps a second drive idle although the storage may use it.
fn side_by_side(set: &Set<'_>, report: &mut Report<'_>) {
    let of_drives = |job: &Resource<'_>| {
        let storage = set.job_text(job, "Storage")?;
        let storage = set.storages().find(|candidate| candidate.name() == storage)?;
        let changer = set.autochangers().find(|changer| storage.text("Device") == Some(changer.name()))?;
        Some(set.drives(changer).len())
    };
    let jobs: Vec<_> = set
        .all(Program::Director, "Job")
        .filter(|job| is_type(set, job, "Backup") && !dumps_catalog(job) && of_drives(job) > Some(1))
        .collect();
    if jobs.len() < 2 {
        return;
    }
    let no = |job: &Resource<'_>, key: &str| {
        set.job_text(job, key)
            .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "no" | "false"))
    };
    if let Some(job) = jobs.first().filter(|_| !jobs.iter().any(|job| no(job, "Prefer Mounted Volumes"))) {
        report.warning(
            "prefer-mounted",
            Place::of(job),
            "every job waits for the volume that is mounted already, so all of them use one drive and the others idle",
            "set `Prefer Mounted Volumes = no` in the jobs or their defaults",
        );
    }
    let priority = |job: &Resource<'_>| {
        set.job_text(job, "Priority").and_then(|text| text.parse().ok()).unwrap_or(PRIORITY)
    };
    let mixed = |job: &Resource<'_>| {
        set.job_text(job, "Allow Mixed Priority").is_some_and(crate::schema::resources::is_yes)
    };
    let odd = jobs.iter().find(|job| {
        let (first, schedule) =
            (jobs.first().map_or(PRIORITY, |job| priority(job)), set.job_text(job, "Schedule"));
        priority(job) != first
            && !mixed(job)
            && schedule.is_some()
            && jobs.first().and_then(|job| set.job_text(job, "Schedule")) == schedule
    });
    if let Some(job) = odd {
        report.warning(
            "mixed-priority",
            Place::value(job, "Priority"),
            format!("job {} has another priority than the others of its schedule: it waits until they have ended, and a drive idles", job.name()),
            "give the jobs one priority, or set `Allow Mixed Priority = yes`",
        );
    }
}

/// Whether a job, or the defaults of jobs, dumps the catalog first.
fn dumps_catalog(job: &Resource<'_>) -> bool {
    let before = job.text("Run Before Job");
    let inner = scripts(job).filter_map(|(_, script)| script.text("Command"));
    before.into_iter().chain(inner).any(|command| command.contains("catalog"))
}

/// Without its catalog a site can't tell what is on which drive.
fn catalog_backup(set: &Set<'_>, report: &mut Report<'_>) {
    let Some(director) = set.director().filter(|_| set.is_whole(Program::Director)) else { return };
    let mut dumping = set
        .all(Program::Director, "Job")
        .chain(set.all(Program::Director, "JobDefs"))
        .filter(|job| dumps_catalog(job))
        .peekable();
    if dumping.peek().is_none() && set.all(Program::Director, "Job").next().is_some() {
        report.warning(
            "catalog-backup",
            Place::of(director),
            "no job backs the catalog up: after a loss of this machine nobody knows what is on which volume",
            "add a job that runs make_catalog_backup and backs its output up, after the other jobs",
        );
    }
    for job in dumping.filter(|job| set.job_text(job, "Write Bootstrap").is_none()) {
        report.warning(
            "catalog-bootstrap",
            Place::of(job),
            format!("job {} writes no bootstrap file: to restore the catalog, every volume has to be searched for it", job.name()),
            "add `Write Bootstrap = ...`, and keep a copy away from this machine",
        );
    }
}
