//! Passwords stand in two files each; a difference shows only when the daemons talk.

use super::report::{Place, Report};
use crate::schema::resources::{Resource, Set};
use crate::values::program::Program;

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    let Some(director) = set.director() else { return };
    let of_storage = set.all(Program::Storage, "Director").find(|known| known.name() == director.name());
    for storage in set.storages() {
        // Several storage daemons may be in use; only the one whose devices are at hand can be compared.
        let ours = storage.text("Device").is_some_and(|device| {
            set.named(Program::Storage, "Autochanger", device)
                .or(set.named(Program::Storage, "Device", device))
                .is_some()
        });
        if let Some(known) = of_storage.filter(|_| ours) {
            compare(report, storage, known, "the storage daemon");
        }
    }
    for daemon in set.all(Program::Client, "FileDaemon").chain(set.all(Program::Client, "Client")) {
        let client = set.named(Program::Director, "Client", daemon.name());
        let known = set
            .all(Program::Client, "Director")
            .find(|known| known.file == daemon.file && known.name() == director.name());
        if let (Some(client), Some(known)) = (client, known) {
            compare(report, client, known, "the file daemon");
        }
    }
    consoles(set, director, report);
}

/// A console with a name proves itself with its own password, one without with the Director's.
fn consoles(set: &Set<'_>, director: &Resource<'_>, report: &mut Report<'_>) {
    for known in set.all(Program::Console, "Director").filter(|known| known.name() == director.name()) {
        let mut named =
            set.all(Program::Console, "Console").filter(|console| console.file == known.file).peekable();
        if named.peek().is_none() {
            compare(report, director, known, "the console");
        }
        for console in named {
            match set.named(Program::Director, "Console", console.name()) {
                Some(allowed) => compare(report, allowed, console, "the console"),
                None if !set.is_whole(Program::Director) => {}
                None => report.error(
                    "unknown-console",
                    Place::value(console, "Name"),
                    format!("the Director knows no console called {}", console.name()),
                    "add a Console resource with that name and password to the Director's configuration",
                ),
            }
        }
    }
}

fn compare(report: &mut Report<'_>, here: &Resource<'_>, there: &Resource<'_>, partner: &str) {
    if here.text("Password") != there.text("Password") {
        report.error(
            "password",
            Place::key(there, "Password"),
            format!(
                "{} {} and {partner} have different passwords: they will refuse each other",
                here.block.name(),
                here.name()
            ),
            "write the same password in both files",
        );
    }
}
