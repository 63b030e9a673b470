//! What the configuration asks of the machine: paths with rights, room for volumes, and a daemon that may do its work.

use std::path::{Path, PathBuf};

use super::need::{Need, volume_size};
use super::report::{Place, Report, Severity};
use super::{apparmor, unit};
use crate::schema::host::{Host, Mount, Obstacle, Want};
use crate::schema::resources::{Resource, Set, is_file};
use crate::syntax::text::Span;
use crate::syntax::tree::{Directive, Document};
use crate::values::program::Program;
use crate::values::units::Size;

pub(super) fn check(set: &Set<'_>, host: &dyn Host, report: &mut Report<'_>) {
    let mut needs = daemons(set);
    needs.extend(configurations(set, host));
    for changer in set.virtual_changers() {
        needs.extend(changers(set, changer));
    }
    for need in &needs {
        may(need, host, report);
    }
    for (file, config) in &set.changers {
        magazines(set, *file, config, host, report);
    }
    database(set, host, report);
    let of_changer: Vec<_> = needs.iter().filter(|need| need.program == Program::Storage).collect();
    unit::check(set, &of_changer, host, report);
    apparmor::check(set, &of_changer, host, report);
}

/// Every daemon reads its configuration as its own user; a test that root runs can read anything.
fn configurations(set: &Set<'_>, host: &dyn Host) -> Vec<Need> {
    let files = set.paths.iter().zip(&set.programs).enumerate();
    let read = files.filter_map(|(file, (path, program))| {
        let program = (*program).filter(|program| matches!(program, Program::Director | Program::Storage))?;
        // Files may have been read from elsewhere, and commands have no file.
        host.entry(path)?;
        let place = Place { file, span: Span::default() };
        let why = "the daemon does not start";
        Some(Need {
            program,
            path: path.to_path_buf(),
            want: Want::Read,
            place,
            why,
            severity: Severity::Error,
        })
    });
    read.collect()
}

/// What the daemons need by themselves.
fn daemons(set: &Set<'_>) -> Vec<Need> {
    let mut needs = Vec::new();
    for resource in &set.resources {
        let program = resource.program;
        let own = match program {
            Program::Director => resource.block.is("Director"),
            Program::Storage => resource.block.is("Storage"),
            _ => false,
        };
        let mut need = |key: &str, want, why, severity| {
            let Some((file, directive)) = resource.placed(key) else { return };
            // A tape drive's device is there while the drive is switched on.
            let Some(path) = absolute(directive).filter(|path| !path.starts_with("/dev")) else { return };
            let place = Place { file, span: directive.value().span() };
            needs.push(Need { program, path, want, place, why, severity });
        };
        if own {
            need("Working Directory", Want::Fill, "it does not start", Severity::Error);
            need("Query File", Want::Read, "`query` in the console does not work", Severity::Error);
        }
        if program == Program::Storage && resource.block.is("Device") && !resource.is_yes("Autochanger") {
            let file = resource.text("Device Type").is_none_or(|kind| kind.eq_ignore_ascii_case("File"));
            if file {
                // Debian installs devices that nobody has set up yet.
                need("Archive Device", Want::Fill, "no volume can be made or written", Severity::Warning);
            }
        }
        need("Spool Directory", Want::Fill, "jobs that spool fail", Severity::Error);
    }
    needs
}

/// What a changer needs, which the storage daemon runs as itself.
fn changers(set: &Set<'_>, changer: &Resource<'_>) -> Vec<Need> {
    let program = Program::Storage;
    let mut needs = Vec::new();
    let command = changer.text("Changer Command").and_then(|command| command.split_whitespace().next());
    let mut add = |path: Option<&str>, key: &str, want, why| {
        if let Some(path) = path.filter(|path| path.starts_with('/')) {
            let place = Place::value(changer, key);
            needs.push(Need { program, path: path.into(), want, place, why, severity: Severity::Error });
        }
    };
    add(command, "Changer Command", Want::Execute, "no volume is ever loaded");
    add(
        changer.text("Changer Device"),
        "Changer Device",
        Want::Read,
        "the changer does not know its magazines",
    );
    for drive in set.drives(changer) {
        let link = drive.directive("Archive Device").and_then(absolute);
        if let Some(directory) = link.as_deref().and_then(Path::parent) {
            needs.push(Need {
                program,
                path: directory.to_owned(),
                want: Want::Fill,
                place: Place::value(drive, "Archive Device"),
                why: "the changer can't put the volume there",
                severity: Severity::Error,
            });
        }
    }
    let named = changer.text("Changer Device").unwrap_or("");
    for (file, config) in
        set.changers.iter().filter(|(file, _)| set.paths.get(*file).is_some_and(|path| is_file(path, named)))
    {
        let mut add = |key: &str, want, why, of: fn(PathBuf) -> Option<PathBuf>| {
            let Some(directive) = config.directive(key) else { return };
            let Some(path) = absolute(directive).and_then(of) else { return };
            needs.push(Need {
                program,
                path,
                want,
                place: Place { file: *file, span: directive.value().span() },
                why,
                severity: Severity::Error,
            });
        };
        add("Work Dir", Want::Fill, "the changer can't keep its state", Some);
        add("Logfile", Want::Fill, "the changer says nothing of what goes wrong", |path| {
            path.parent().map(Path::to_owned)
        });
        add("bconsole", Want::Execute, "the Director never hears of a swap", Some);
        add("bconsole config", Want::Read, "the Director never hears of a swap", Some);
    }
    needs
}

fn absolute(directive: &Directive) -> Option<PathBuf> {
    directive.value().text().filter(|text| text.starts_with('/')).map(PathBuf::from)
}

fn may(need: &Need, host: &dyn Host, report: &mut Report<'_>) {
    let Need { program, path, want, place, why, severity } = need;
    let Some(account) = host.account(*program) else { return };
    let (user, verb, path) = (&account.user, want.verb(), path.as_path());
    let (check, message, remedy) = match account.obstacle(host, path, *want) {
        None => return,
        Some(Obstacle::Missing) => (
            "missing-path",
            format!("{} is not there, and {user} has to {verb} it: {why}", path.display()),
            "make it, or name the right one".to_owned(),
        ),
        Some(Obstacle::Way(directory)) => (
            "rights",
            format!(
                "{user} can't {verb} {}, for it may not pass {}: {why}",
                path.display(),
                directory.display()
            ),
            format!("chmod o+x {}, or give it to a group of {user}", directory.display()),
        ),
        Some(Obstacle::Itself) => (
            "rights",
            format!("{user} may not {verb} {}: {why}", path.display()),
            match want {
                Want::Fill => format!("chown {user} {0} && chmod 0750 {0}", path.display()),
                _ => format!(
                    "chgrp it to a group of {user} and give that the right, e.g. chmod g+r {}",
                    path.display()
                ),
            },
        ),
    };
    report.add(check, *severity, *place, message, remedy);
}

/// The magazines that are here: mounted, writable, with room for what the pool wants to write.
fn magazines(set: &Set<'_>, file: usize, config: &Document, host: &dyn Host, report: &mut Report<'_>) {
    let mut total = 0;
    let slots: Option<u32> = config.text("Slots Per Magazine").and_then(|slots| slots.parse().ok());
    for directive in config.directives().filter(|directive| directive.is("Magazine")) {
        let Some(path) = absolute(directive) else { continue };
        let place = Place { file, span: directive.value().span() };
        let volumes = host.volumes(&path);
        total += volumes.unwrap_or(0);
        if let (Some(slots), Some(volumes)) = (slots, volumes)
            && volumes > slots
        {
            report.error(
                "slots",
                place,
                format!("{} holds {volumes} volumes, the changer has {slots} slots for a magazine: Bacula never sees the others", path.display()),
                format!("set `slots_per_magazine = {volumes}`"),
            );
        }
        match host.mount(&path) {
            Some(mount) => mounted(set, &path, &mount, volumes, place, host, report),
            None if !below_autofs(host, &path) && host.entry(&path).is_some() => report.warning(
                "magazine-unmounted",
                place,
                format!(
                    "{} is a bare directory with nothing mounted: backups would fill the disk below it",
                    path.display()
                ),
                "remove the directory, or let offsited mount there",
            ),
            None => {}
        }
    }
    capacity(set, config, total, report);
}

fn below_autofs(host: &dyn Host, path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .any(|directory| host.mount(directory).is_some_and(|mount| mount.fs_type == "autofs"))
}

fn mounted(
    set: &Set<'_>,
    path: &Path,
    mount: &Mount,
    volumes: Option<u32>,
    place: Place,
    host: &dyn Host,
    report: &mut Report<'_>,
) {
    if mount.fs_type == "autofs" {
        return;
    }
    let need = Need {
        program: Program::Storage,
        path: path.to_owned(),
        want: Want::Fill,
        place,
        why: "no volume on it can be written",
        severity: Severity::Error,
    };
    may(&need, host, report);
    if mount.reserved > 0 {
        report.warning(
            "reserved-blocks",
            place,
            format!(
                "{} keeps {} for root: Bacula finds the drive full while that is free",
                path.display(),
                Size::bytes(mount.reserved)
            ),
            "tune2fs -m 0 on its device",
        );
    }
    let size = set.all(Program::Director, "Pool").filter_map(volume_size).max();
    if let (Some(size), Some(volumes)) = (size, volumes)
        && size.saturating_mul(u64::from(volumes)) > mount.bytes
    {
        report.warning(
            "drive-capacity",
            place,
            format!(
                "{volumes} volumes of {} don't fit on {}, which holds {}: it is full before its last volume",
                Size::bytes(size),
                path.display(),
                Size::bytes(mount.bytes)
            ),
            "lower `Maximum Volume Bytes`; a job that finds the drive full goes on with another volume, of another drive",
        );
    }
}

/// The pool of the changer's volumes has to take all that there are; what others take is none of their business.
fn capacity(set: &Set<'_>, config: &Document, volumes: u32, report: &mut Report<'_>) {
    let is_ours = |pool: &Resource<'_>| {
        let storage = config.text("Storage Resource").or_else(|| config.text("changer_name"));
        let labelled = config.text("Default Pool").or_else(|| config.text("def_pool"));
        labelled.is_some_and(|name| name == pool.name())
            || storage.is_some_and(|name| pool.list("Storage").any(|storage| storage == name))
    };
    let named = set.all(Program::Director, "Pool").any(&is_ours);
    for pool in set.all(Program::Director, "Pool").filter(|pool| !named || is_ours(pool)) {
        let most: Option<u32> = pool.text("Maximum Volumes").and_then(|most| most.parse().ok());
        if let Some(most) = most.filter(|most| *most > 0 && *most < volumes && volume_size(pool).is_some()) {
            report.error(
                "pool-capacity",
                Place::value(pool, "Maximum Volumes"),
                format!("pool {} takes {most} volumes, the magazines hold {volumes}: {} are never labelled, and their room is lost", pool.name(), volumes - most),
                "remove `Maximum Volumes`, or raise it",
            );
        }
    }
}

/// SQLite's file, which `bacula-dir -t` demands and explains badly.
fn database(set: &Set<'_>, host: &dyn Host, report: &mut Report<'_>) {
    let Some(working) =
        set.director().and_then(|director| director.directive("Working Directory")).and_then(absolute)
    else {
        return;
    };
    for catalog in set.all(Program::Director, "Catalog") {
        let user = catalog.text("dbuser").or_else(|| catalog.text("User")).unwrap_or("");
        let (Some(name), true) = (catalog.text("dbname"), user.is_empty()) else { continue };
        let path = working.join(format!("{name}.db"));
        let place = Place::value(catalog, "dbname");
        if host.entry(&path).is_none() {
            report.warning(
                "catalog-missing",
                place,
                format!(
                    "there is no {}: with SQLite the Director does not start, and even `bacula-dir -t` fails",
                    path.display()
                ),
                "make_sqlite3_tables of Bacula's makes it; with another database name its user",
            );
        } else {
            let why = "the Director does not start";
            let severity = Severity::Error;
            may(
                &Need { program: Program::Director, path, want: Want::Write, place, why, severity },
                host,
                report,
            );
        }
    }
}
