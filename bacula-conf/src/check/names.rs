//! Every name that is used has to be there, once.

use std::collections::HashSet;

use crate::check::{Place, Report};
use crate::resources::{Program, Resource, Set};
use crate::suggest::nearest;

/// Which directive of which resource of the Director names which resource.
const REFERENCES: [(&str, &str, &[&str]); 22] = [
    ("Job", "Client", &["Client"]),
    ("Job", "FileSet", &["FileSet"]),
    ("Job", "Schedule", &["Schedule"]),
    ("Job", "Storage", &["Storage", "Autochanger"]),
    ("Job", "Pool", &["Pool"]),
    ("Job", "Full Backup Pool", &["Pool"]),
    ("Job", "Incremental Backup Pool", &["Pool"]),
    ("Job", "Differential Backup Pool", &["Pool"]),
    ("Job", "Messages", &["Messages"]),
    ("Job", "JobDefs", &["JobDefs"]),
    ("JobDefs", "Client", &["Client"]),
    ("JobDefs", "FileSet", &["FileSet"]),
    ("JobDefs", "Schedule", &["Schedule"]),
    ("JobDefs", "Storage", &["Storage", "Autochanger"]),
    ("JobDefs", "Pool", &["Pool"]),
    ("JobDefs", "Messages", &["Messages"]),
    ("Pool", "Storage", &["Storage", "Autochanger"]),
    ("Pool", "Scratch Pool", &["Pool"]),
    ("Pool", "Recycle Pool", &["Pool"]),
    ("Pool", "Next Pool", &["Pool"]),
    ("Client", "Catalog", &["Catalog"]),
    ("Director", "Messages", &["Messages"]),
];

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    duplicates(set, report);
    unread(set, report);
    if set.is_whole(Program::Storage) {
        for changer in set.all(Program::Storage, "Autochanger") {
            resolve(set, report, changer, "Device", &["Device"]);
        }
    }
    director_is_known(set, report);
    // An included file alone names much that stands elsewhere.
    if set.director().is_none() || !set.is_whole(Program::Director) {
        return;
    }
    for (kind, key, targets) in REFERENCES {
        for resource in set.all(Program::Director, kind) {
            resolve(set, report, resource, key, targets);
        }
    }
}

fn unread(set: &Set<'_>, report: &mut Report<'_>) {
    for (_, file, include) in &set.unread {
        let place = Place { file: *file, span: include.span() };
        match include.path() {
            Some(path) => report.warning(
                "include",
                place,
                format!("{path} is not among the files that are checked, nor is what it defines"),
                "check it together with this file; Bacula does not start if it is not there",
            ),
            None => report.warning(
                "include-command",
                place,
                "what this command prints is not checked; the command was not run",
                "check its output together with this file",
            ),
        }
    }
}

fn resolve(set: &Set<'_>, report: &mut Report<'_>, resource: &Resource<'_>, key: &str, targets: &[&str]) {
    let Some(directive) = resource.directive(key) else { return };
    for name in directive.value().list() {
        let candidates =
            || targets.iter().flat_map(|kind| set.all(resource.program, kind)).map(Resource::name);
        if candidates().any(|candidate| candidate == name) {
            continue;
        }
        let target = targets.first().copied().unwrap_or(key);
        let message = format!(
            "{} {} names {target} {name:?}, which does not exist",
            resource.block.name(),
            resource.name()
        );
        let remedy = if name.eq_ignore_ascii_case("none") {
            format!("\"None\" is no keyword: add a {target} resource with that name, which is never used")
        } else if let Some(similar) = nearest(name, candidates()) {
            format!("did you mean {similar:?}?")
        } else {
            format!("add a {target} resource with that name, or name another")
        };
        report.error("unknown-name", Place::value(resource, key), message, remedy);
    }
}

fn duplicates(set: &Set<'_>, report: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for resource in &set.resources {
        let kind: String = resource.block.name().split_whitespace().collect::<String>().to_ascii_lowercase();
        // Consoles and file daemons may have files of several machines.
        let one_machine = matches!(resource.program, Program::Director | Program::Storage);
        let file = (!one_machine).then_some(resource.file);
        let twin = !seen.insert((resource.program, kind, resource.name(), file));
        if twin && !resource.name().is_empty() {
            report.error(
                "duplicate-name",
                Place::value(resource, "Name"),
                format!("there are two {} resources called {}", resource.block.name(), resource.name()),
                "rename one of them; check whether a file is included twice",
            );
        }
    }
}

/// Storage and file daemons talk only to Directors that they know by name.
fn director_is_known(set: &Set<'_>, report: &mut Report<'_>) {
    let Some(director) = set.director() else { return };
    for (program, daemon) in [(Program::Storage, "storage"), (Program::Client, "file")] {
        let mut known = set.all(program, "Director").peekable();
        let Some(first) = known.peek().copied().filter(|_| set.is_whole(program)) else { continue };
        if !known.any(|known| known.name() == director.name()) {
            report.error(
                "unknown-director",
                Place::value(first, "Name"),
                format!("the {daemon} daemon knows no Director called {}, and refuses it", director.name()),
                format!("add `Director {{ Name = {}; Password = ... }}`", director.name()),
            );
        }
    }
}
