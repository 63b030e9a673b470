//! `docs/directives.md`, written from the schema, so that the page says what the checks do.

use std::fmt::Write as _;
use std::path::Path;

use super::spec::{Destinations, Kind, Spec};
use super::{group, resources, spaced};
use crate::values::program::Program;

const HEAD: &str = "\
# Every directive that is known, and what is done with it

This page is generated from `bacula-conf/src/schema`; a test compares the two. To write it again:
`OFFSITE_WRITE_DOCS=1 cargo test --workspace the_page_of_directives_is_fresh`.

`offsite conf --check` reports a directive that isn't here as unknown, with the nearest name. Names
are compared as Bacula does: without blanks, whatever their case. What the columns say:

| column | meaning |
|---|---|
| value | what is accepted; anything else is an error, as it is to the daemon |
| default | what counts when the directive isn't there, where the checks need to know it |
| known to | the first version of Bacula that has it, from 9 on, and Bareos; another one gets a warning |
| besides | `required`: its absence is an error; `adds up`: it may stand there several times, else the last one counts, with a warning |
";

fn value(kind: Kind) -> String {
    let text = match kind {
        Kind::Name => "a name",
        Kind::Text | Kind::Each => "text",
        Kind::ShortText => "text of at most 127 bytes",
        Kind::Path => "a path; what a shell would expand in it is an error",
        Kind::Password => "a password, never shown",
        Kind::YesNo => "yes, no",
        Kind::YesNoOrName => "yes, no, or the name of a storage",
        Kind::Number => "a number",
        Kind::Integer => "a whole number, unquoted",
        Kind::Port => "a port or a service, unquoted",
        Kind::Size => "a size",
        Kind::BlockSize => "a size of at most 20,000,000",
        Kind::Speed => "bytes a second",
        Kind::Period => "a duration",
        Kind::Word(words) => {
            let mut words: Vec<&str> = words.iter().map(|word| word.text).collect();
            words.dedup();
            return words.join(", ");
        }
        Kind::Codes => "letters and digits, an option each",
        Kind::Digits => "digits",
        Kind::Texts => "texts with commas between them",
        Kind::List => "texts with commas between them; what follows the last one is skipped",
        Kind::Acl => "texts with commas between them that may be used",
        Kind::Reference(to) => return format!("the name of a {to}, which must exist"),
        Kind::References(to) => return format!("names of {to} resources, which must exist"),
        Kind::Address => "an address to listen on, unquoted",
        Kind::Addresses => "a group of addresses",
        Kind::Messages(Destinations::None) => "kinds of messages",
        Kind::Messages(_) => "destinations, then kinds of messages",
        Kind::Run => "a line of a schedule",
        Kind::Script | Kind::FileList | Kind::Options => "a group of directives",
    };
    text.to_owned()
}

fn row(spec: &Spec) -> String {
    let mut besides = Vec::new();
    if spec.required {
        besides.push("required".to_owned());
    }
    if spec.adds_up() {
        besides.push("adds up".to_owned());
    }
    if spec.canonical() != spec.name {
        besides.push(format!("counts as {}", spaced(spec.canonical())));
    }
    let bacula = spec.bacula_since().map(|version| format!("Bacula {version}"));
    let bareos = spec.in_bareos().then(|| "Bareos".to_owned());
    let known: Vec<String> = bacula.into_iter().chain(bareos).collect();
    let default = spec.default.map(|text| format!("`{text}`")).unwrap_or_default();
    let cells = [spaced(spec.name), value(spec.kind), default, known.join(", "), besides.join("; ")];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn page() -> String {
    let programs = [
        (Program::Director, "The Director"),
        (Program::Storage, "The storage daemon"),
        (Program::Client, "The file daemon"),
        (Program::Console, "The console"),
    ];
    let mut text = HEAD.to_owned();
    for (program, title) in programs {
        let _ = write!(text, "\n## {title}\n");
        let mut groups = Vec::new();
        for resource in resources(program) {
            section(&mut text, resource, &mut groups);
        }
        while let Some(kind) = groups.pop() {
            if let Some(resource) = group(kind) {
                section(&mut text, &resource, &mut groups);
            }
        }
    }
    text
}

fn section(text: &mut String, resource: &super::Resource, groups: &mut Vec<Kind>) {
    let _ = write!(
        text,
        "\n### {}\n\n| directive | value | default | known to | besides |\n|---|---|---|---|---|\n",
        resource.name
    );
    for spec in resource.specs() {
        text.push_str(&row(spec));
        if group(spec.kind).is_some() && !groups.contains(&spec.kind) {
            groups.push(spec.kind);
        }
    }
}

#[test]
fn the_page_of_directives_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/directives.md");
    if std::env::var_os("OFFSITE_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "{} is not what the schema says; its head tells how to write it",
        path.display()
    );
}
