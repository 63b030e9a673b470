//! Traps of single lines.

use super::report::{Place, Report};
use crate::schema::resources::Set;
use crate::syntax::lexer::WordKind;
use crate::syntax::tree::{Block, Directive, Item};

/// Directives whose value is a duration.
const PERIODS: [&str; 9] = [
    "Volume Retention",
    "Volume Use Duration",
    "File Retention",
    "Job Retention",
    "Volume Poll Interval",
    "Maximum Changer Wait",
    "Maximum Open Wait",
    "Max Run Time",
    "Heartbeat Interval",
];

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for resource in &set.resources {
        walk(resource.block, resource.file, report);
    }
}

fn walk(block: &Block, file: usize, report: &mut Report<'_>) {
    for item in block.items() {
        match item {
            Item::Block(inner) => walk(inner, file, report),
            Item::Directive(directive) => {
                let place = Place { file, span: directive.value().span() };
                run_over_brace(block, directive, place, report);
                month_for_minute(directive, place, report);
            }
            Item::Include(_) => {}
        }
    }
}

fn run_over_brace(block: &Block, directive: &Directive, place: Place, report: &mut Report<'_>) {
    let brace = directive.value().words().iter().any(|word| word.kind == WordKind::Brace);
    if brace && block.is("Schedule") && directive.is("Run") {
        report.error(
            "run-brace",
            place,
            "Bacula reads a Run line to its end, so this brace closes nothing and Bacula does not start",
            "put the brace on a line of its own",
        );
    }
}

fn month_for_minute(directive: &Directive, place: Place, report: &mut Report<'_>) {
    let line = directive.value().line();
    let unit = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    if unit.eq_ignore_ascii_case("m") && PERIODS.into_iter().any(|key| directive.is(key)) {
        report.warning(
            "month-for-minute",
            place,
            format!("Bacula reads {line:?} as months, not as minutes"),
            "write \"min\" or \"months\"",
        );
    }
}
