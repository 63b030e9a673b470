//! Traps of single lines.

use crate::check::{Place, Report};
use crate::lexer::WordKind;
use crate::name::MAX_LENGTH;
use crate::resources::Set;
use crate::tree::{Block, Directive, Item};

/// What Bacula cuts off or refuses beyond 127 bytes, each with what may make it shorter.
const SHORT: [&str; 4] = ["Name", "Changer Command", "Changer Device", "Archive Device"];

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
                run_over_brace(directive, place, report);
                too_long(directive, place, report);
                month_for_minute(directive, place, report);
                ignored_words(block, directive, Place { file, span: directive.span() }, report);
            }
            Item::Include(_) => {}
        }
    }
}

fn run_over_brace(directive: &Directive, place: Place, report: &mut Report<'_>) {
    if directive.value().words().iter().any(|word| word.kind == WordKind::Brace) {
        report.error(
            "run-brace",
            place,
            "Bacula reads a Run line to its end, so this brace is taken for a part of it and closes nothing",
            "put the brace on a line of its own",
        );
    }
}

fn too_long(directive: &Directive, place: Place, report: &mut Report<'_>) {
    let length = directive.value().text().map_or(0, str::len);
    if length > MAX_LENGTH && SHORT.into_iter().any(|key| directive.is(key)) {
        report.error(
            "too-long",
            place,
            format!(
                "{} has {length} bytes; Bacula takes at most {MAX_LENGTH} and does not start",
                directive.key()
            ),
            "use shorter paths, or a link to them",
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

/// Behind a name or a string, the rest of the line is skipped without a word.
fn ignored_words(block: &Block, directive: &Directive, place: Place, report: &mut Report<'_>) {
    let mut words = directive.value().words().iter();
    let (Some(first), Some(second)) = (words.next(), words.next()) else { return };
    let continues = matches!(second.kind, WordKind::Comma | WordKind::Equals | WordKind::Brace);
    let number = first.kind == WordKind::Bare && first.text.starts_with(|c: char| c.is_ascii_digit());
    // These read on: lines of a schedule, lists of messages, and options in the old style.
    let reads_on = directive.is("Run") || block.is("Messages") || block.is("Options");
    if !continues && !number && !reads_on {
        report.warning(
            "ignored-words",
            place,
            format!(
                "Bacula reads only the first word of {}; the rest of the line is skipped",
                directive.key()
            ),
            "quote the whole value, or start a new line",
        );
    }
}
