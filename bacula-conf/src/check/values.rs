//! Values that Bacula takes, but not as they are meant.

use super::report::{Place, Report};
use crate::schema::setting::message_kinds;
use crate::schema::spec::{Flavour, Kind, SHELL, Spec};
use crate::schema::{Keyword, MESSAGE_TYPES, spaced};
use crate::syntax::lexer::WordKind;
use crate::syntax::tree::{Directive, Stop, Value};
use crate::values::keyword::keyword;
use crate::values::name::MAX_LENGTH;

pub(super) fn check(
    spec: &Spec,
    directive: &Directive,
    file: usize,
    flavour: Flavour,
    report: &mut Report<'_>,
) {
    let value = directive.value();
    let place = Place { file, span: value.span() };
    // The key is shown in place of what may be a password.
    let at_key = Place { file, span: directive.span() };
    if flavour == Flavour::Bacula {
        newer_keywords(spec, value, place, report);
    }
    too_long(spec, value, place, report);
    shell_path(spec, value, place, report);
    swallowed_brace(spec, value, place, report);
    ignored_words(spec, value, at_key, report);
    cut_at_comment(spec, value, at_key, report);
    if spec.kind == Kind::Run {
        run_without_time(value, place, report);
    }
}

fn newer_keywords(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    for keyword in keywords(spec.kind, value) {
        if let Some(why) = keyword.foreign() {
            report.warning(
                "other-version",
                place,
                format!("{:?} may not be known to this daemon: {why}", keyword.text),
                "take it out unless this daemon knows it",
            );
        }
    }
}

/// The keywords of a value, as far as its kind has some.
fn keywords(kind: Kind, value: &Value) -> Vec<Keyword> {
    match kind {
        Kind::Word(words) => value.text().and_then(|text| keyword(text, words)).into_iter().collect(),
        Kind::Messages(destinations) => {
            let kinds = message_kinds(destinations, value).unwrap_or_default();
            kinds
                .iter()
                .filter_map(|(_, text)| keyword(text.trim_start_matches('!'), MESSAGE_TYPES))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn too_long(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    let length = value.text().map_or(0, str::len);
    let short = matches!(spec.kind, Kind::Name | Kind::ShortText | Kind::Reference(_));
    if short && length > MAX_LENGTH {
        report.error(
            "too-long",
            place,
            format!(
                "{} has {length} bytes; Bacula takes at most {MAX_LENGTH} and does not start",
                spaced(spec.name)
            ),
            "use shorter paths, or a link to them",
        );
    }
}

fn shell_path(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    let text = value.text().filter(|text| spec.kind == Kind::Path && !text.starts_with('|')).unwrap_or("");
    if let Some(found) = text.chars().find(|c| SHELL.contains(c)) {
        report.warning(
            "shell-path",
            place,
            format!(
                "the path of {} holds {found:?}: the daemon has a shell expand it when it starts, and runs what stands in $( )",
                spaced(spec.name)
            ),
            "write a plain path",
        );
    }
}

/// Bacula looks for the unit of a number behind its space and reads over a brace there.
fn swallowed_brace(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    if is_measured(spec.kind) && value.stop == Stop::BraceBehindBlank && value.goes_on_at_end() {
        report.error(
            "swallowed-brace",
            place,
            format!(
                "Bacula looks for a unit behind {} and reads over the brace, which then closes nothing",
                spaced(spec.name)
            ),
            "put the brace on a line of its own, or `;` before it",
        );
    }
}

/// Behind what Bacula reads of a value, the rest of the line is skipped without a word.
fn ignored_words(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    let words = value.words().len();
    let (read, what) = match spec.kind {
        // Several words by their nature, or strict about what follows.
        Kind::Run
        | Kind::Texts
        | Kind::List
        | Kind::References(_)
        | Kind::Address
        | Kind::Port
        | Kind::Addresses
        | Kind::Script
        | Kind::FileList
        | Kind::Options => return,
        kind if is_measured(kind) => {
            let last = (0..words).find(|index| !value.goes_on_behind(*index)).unwrap_or(words);
            (last + 1, "only the number and its unit")
        }
        Kind::Acl => {
            let commas = value.words().iter().skip(1).step_by(2);
            (2 * commas.take_while(|word| word.kind == WordKind::Comma).count() + 1, "only the list")
        }
        Kind::Messages(destinations) => {
            let kinds = message_kinds(destinations, value).unwrap_or_default();
            (kinds.last().map_or(words, |(index, _)| index + 1), "only the list")
        }
        _ => (1, "only the first word"),
    };
    if words > read {
        report.warning(
            "ignored-words",
            place,
            format!("Bacula reads {what} of {}; the rest of the line is skipped", spaced(spec.name)),
            "quote the whole value, or start a new line",
        );
    }
}

/// `secret#1` without quotes is the word `secret` and a comment.
fn cut_at_comment(spec: &Spec, value: &Value, place: Place, report: &mut Report<'_>) {
    let bare = value.words().last().is_some_and(|word| word.kind != WordKind::Quoted);
    if value.stop == Stop::Comment && bare {
        report.warning(
            "cut-at-comment",
            place,
            format!(
                "the `#` in {} begins a comment: Bacula reads only what stands before it",
                spaced(spec.name)
            ),
            "put the value into quotes, or a blank before the comment",
        );
    }
}

fn run_without_time(value: &Value, place: Place, report: &mut Report<'_>) {
    if crate::values::schedule::scan(value.words(), "").is_ok_and(|scanned| !scanned.times) {
        report.warning(
            "run-hourly",
            place,
            "this line says no time of day: Bacula starts the job every hour",
            "add for example `at 23:05`",
        );
    }
}

fn is_measured(kind: Kind) -> bool {
    matches!(kind, Kind::Size | Kind::BlockSize | Kind::Speed | Kind::Period)
}
