//! Every name that is used has to be there, once.

use std::collections::HashSet;

use super::report::{Place, Report};
use crate::schema;
use crate::schema::resources::{Resource, Set};
use crate::schema::spec::Kind;
use crate::syntax::suggest::nearest;
use crate::syntax::tree::{Directive, Value};
use crate::values::keyword::read_yes_no;
use crate::values::program::Program;
use crate::values::schedule::scan;

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    duplicates(set, report);
    unread(set, report);
    director_is_known(set, report);
    for resource in &set.resources {
        // An included file alone names much that stands elsewhere.
        let whole = resource.program != Program::Director || set.director().is_some();
        if whole && set.is_whole(resource.program) {
            references(set, resource, report);
        }
    }
}

/// What a resource names.
fn references(set: &Set<'_>, resource: &Resource<'_>, report: &mut Report<'_>) {
    let Some(kind) = schema::resource(resource.program, resource.block.name()) else { return };
    for (file, directive) in resource.directives() {
        let Some(spec) = kind.spec(directive.key()) else { continue };
        let value = directive.value();
        let place = Place { file, span: value.span() };
        let first = value.text().unwrap_or("");
        match spec.kind {
            // The rest of the line is skipped.
            Kind::Reference(target) => known(set, report, resource, place, first, target),
            Kind::References(target) => {
                for name in value.list() {
                    known(set, report, resource, place, name, target);
                }
            }
            Kind::YesNoOrName if read_yes_no(first).is_none() => {
                known(set, report, resource, place, first, "Storage");
            }
            Kind::Run => runs(set, resource, (file, directive), report),
            Kind::Texts if spec.name == "Device" => devices(set, resource, place, value, report),
            _ => {}
        }
    }
}

/// The Director knows of a device by the storage that names it first; further ones have to be known that way.
fn devices(set: &Set<'_>, storage: &Resource<'_>, place: Place, value: &Value, report: &mut Report<'_>) {
    let first = |name: &str| set.storages().any(|storage| storage.text("Device") == Some(name));
    if let Some(name) = value.list().skip(1).find(|name| !first(name)) {
        report.error(
            "unknown-name",
            place,
            format!(
                "storage {} names a second device, {name:?}: the Director does not start",
                storage.name()
            ),
            "name the autochanger alone; its drives stand in the storage daemon's configuration",
        );
    }
}

/// What a line of a schedule names.
fn runs(set: &Set<'_>, schedule: &Resource<'_>, (file, run): (usize, &Directive), report: &mut Report<'_>) {
    // A line that can't be read is a finding of its own.
    let Ok(scanned) = scan(run.value().words(), "") else { return };
    for (target, word) in scanned.references {
        known(set, report, schedule, Place { file, span: word.span }, &word.text, target);
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

fn known(
    set: &Set<'_>,
    report: &mut Report<'_>,
    resource: &Resource<'_>,
    place: Place,
    name: &str,
    target: &str,
) {
    // A type that the program has only in other editions or versions.
    if schema::resource(resource.program, target).is_none() {
        return;
    }
    // Another word for the Director's storages.
    let alias =
        if resource.program == Program::Director && target == "Storage" { "Autochanger" } else { target };
    let candidates =
        || set.all(resource.program, target).chain(set.all(resource.program, alias)).map(Resource::name);
    if candidates().any(|candidate| candidate == name) {
        return;
    }
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
    report.error("unknown-name", place, message, remedy);
}

fn duplicates(set: &Set<'_>, report: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for resource in &set.resources {
        let kind: String = resource.block.name().split_whitespace().collect::<String>().to_ascii_lowercase();
        // Other words for one type.
        let kind = match (resource.program, kind.as_str()) {
            (Program::Director, "autochanger") => "storage".to_owned(),
            (Program::Client, "client") => "filedaemon".to_owned(),
            _ => kind,
        };
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
