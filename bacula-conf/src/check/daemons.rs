//! What each daemon demands of its configuration as a whole, as `check_resources` of its source does.

use std::collections::HashMap;

use super::report::{Place, Report};
use crate::schema::resources::{Resource, Set};
use crate::schema::spec::Flavour;
use crate::values::program::Program;

/// A daemon: the types of its own resource, of which there is one, and what it doesn't start without.
struct Daemon {
    program: Program,
    own: &'static [&'static str],
    needs: &'static [&'static str],
}

const DAEMONS: [Daemon; 3] = [
    Daemon { program: Program::Director, own: &["Director"], needs: &["Job", "Messages"] },
    Daemon { program: Program::Storage, own: &["Storage"], needs: &["Director", "Device", "Messages"] },
    Daemon { program: Program::Client, own: &["FileDaemon", "Client"], needs: &["Director", "Messages"] },
];

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for daemon in &DAEMONS {
        let own: Vec<_> = daemon.own.iter().flat_map(|kind| set.all(daemon.program, kind)).collect();
        let own: Vec<_> = own.into_iter().filter(|own| set.flavour(own.file) == Flavour::Bacula).collect();
        second(daemon, &own, report);
        if let Some(own) = own.first().filter(|_| set.is_whole(daemon.program)) {
            missing(set, daemon, own, report);
        }
    }
    for resource in &set.resources {
        certificates(resource, report);
        key_pair(resource, report);
    }
    scratch(set, report);
}

fn second(daemon: &Daemon, own: &[&Resource<'_>], report: &mut Report<'_>) {
    // File daemons' files may be of several machines.
    let machine = |resource: &Resource<'_>| (daemon.program == Program::Client).then_some(resource.file);
    let mut first: HashMap<_, &str> = HashMap::new();
    for resource in own {
        match first.get(&machine(resource)) {
            None => drop(first.insert(machine(resource), resource.name())),
            Some(name) => report.error(
                "second-daemon",
                Place::of(resource),
                format!(
                    "there is a {} resource already, {name}: a daemon has one, and does not start with two",
                    resource.block.name()
                ),
                "remove one of them; check whether a file is included twice",
            ),
        }
    }
}

fn missing(set: &Set<'_>, daemon: &Daemon, own: &Resource<'_>, report: &mut Report<'_>) {
    for kind in daemon.needs {
        if set.all(daemon.program, kind).next().is_none() {
            report.error(
                "missing-resource",
                Place::of(own),
                format!("{} {} has no {kind} resource: it does not start", own.block.name(), own.name()),
                format!("add a {kind} resource to its configuration"),
            );
        }
    }
}

/// Which connections prove themselves by a certificate, and so need one and its key; the others only need to know the
/// authority.
const PROVING: [(Program, &str); 6] = [
    (Program::Director, "Director"),
    (Program::Director, "Console"),
    (Program::Storage, "Storage"),
    (Program::Storage, "Director"),
    (Program::Client, "Director"),
    (Program::Client, "Console"),
];

/// Encryption by certificates that are not named.
fn certificates(resource: &Resource<'_>, report: &mut Report<'_>) {
    let keys = ["TLS Enable", "TLS Authenticate", "TLS Require"];
    let Some(wanted) = keys.into_iter().find(|key| resource.is_yes(key)) else { return };
    let lacks = |key: &str| resource.directive(key).is_none();
    let mut lacking = Vec::new();
    let proves =
        PROVING.iter().any(|(program, kind)| resource.program == *program && resource.block.is(kind));
    if proves {
        lacking.extend(["TLS Certificate", "TLS Key"].into_iter().filter(|key| lacks(key)));
    }
    let trusts_all = proves
        && resource.text("TLS Verify Peer").is_some_and(|text| !crate::schema::resources::is_yes(text));
    if !trusts_all && lacks("TLS CA Certificate File") && lacks("TLS CA Certificate Dir") {
        lacking.push("TLS CA Certificate File");
    }
    if lacking.is_empty() {
        return;
    }
    let place = Place::value(resource, wanted);
    let what = format!(
        "{} {} is to be encrypted and lacks {}",
        resource.block.name(),
        resource.name(),
        lacking.join(", ")
    );
    let remedy = "name the files, or take the line out";
    if wanted == "TLS Require" {
        // From version 11 on there are keys made of the passwords.
        report.warning(
            "certificates",
            place,
            format!("{what}: before version 11 Bacula does not start"),
            remedy,
        );
    } else {
        report.error("certificates", place, format!("{what}: the daemon does not start"), remedy);
    }
}

/// A file daemon that signs or encrypts needs a key.
fn key_pair(resource: &Resource<'_>, report: &mut Report<'_>) {
    let mut keys = ["PKI Signatures", "PKI Encryption"].into_iter();
    let Some(wanted) = keys.find(|key| resource.is_yes(key)) else { return };
    if resource.program == Program::Client && resource.directive("PKI Key Pair").is_none() {
        report.error(
            "certificates",
            Place::value(resource, wanted),
            format!("{wanted} needs a `PKI Key Pair`: the file daemon does not start"),
            "name the file with certificate and key, or take the line out",
        );
    }
}

/// Volumes are taken from the pool `Scratch`, never written in it (`check_pool` of `src/dird/job.c`).
fn scratch(set: &Set<'_>, report: &mut Report<'_>) {
    for job in set.all(Program::Director, "Job") {
        let writes = set.job_text(job, "Type").is_some_and(|kind| kind.eq_ignore_ascii_case("Backup"));
        if writes && set.job_text(job, "Pool") == Some("Scratch") {
            report.error(
                "scratch-pool",
                Place::value(job, "Pool"),
                format!("job {} can't write in the pool Scratch: the Director does not start", job.name()),
                "name a pool of its own; Bacula takes volumes of Scratch into it",
            );
        }
    }
}
