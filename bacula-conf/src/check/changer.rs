//! The autochanger, its drives, and what Director and changer have to know about them.

use std::collections::HashMap;
use std::path::Path;

use crate::check::{Place, Report};
use crate::resources::{Reader, Resource, Set, is_file, is_yes};
use crate::tree::Document;
use crate::units::Period;

/// `src/stored/stored_conf.c`: less is silently raised.
const LEAST_POLL: Period = Period::seconds(60);

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for changer in set.autochangers() {
        let drives = set.drives(changer);
        for drive in &drives {
            check_drive(changer, drive, report);
        }
        drive_indexes(&drives, report);
        for storage in set.storages().filter(|storage| storage.text("Device") == Some(changer.name())) {
            check_storage(storage, changer, &drives, report);
        }
        command(changer, report);
        for (file, config) in &set.changers {
            let named = changer.text("Changer Device").unwrap_or("");
            if set.paths.get(*file).is_some_and(|path| is_file(path, named)) {
                changer_file(set, changer, &drives, (*file, config), report);
            }
        }
    }
    for storage in set.storages() {
        storage_names_a_drive(set, storage, report);
        loopback(set, storage, report);
    }
    for device in set.all(Reader::Storage, "Device") {
        poll_interval(device, report);
    }
}

fn check_drive(changer: &Resource<'_>, drive: &Resource<'_>, report: &mut Report<'_>) {
    let name = drive.name();
    if !drive.is_yes("Autochanger") {
        report.error(
            "device-autochanger",
            Place::value(drive, "Autochanger"),
            format!("drive {name} belongs to autochanger {}, but without `Autochanger = yes` nothing is ever loaded into it", changer.name()),
            "add `Autochanger = yes`",
        );
    }
    if !drive.text("Device Type").is_some_and(|kind| kind.eq_ignore_ascii_case("File")) {
        report.warning(
            "device-type",
            Place::value(drive, "Device Type"),
            format!("drive {name} has no `Device Type = File`: the storage daemon looks at its archive device at start, when no volume is loaded, and fails"),
            "add `Device Type = File`",
        );
    }
    if drive.is_yes("Label Media") {
        report.warning(
            "label-media",
            Place::value(drive, "Label Media"),
            format!("drive {name} labels by itself what it finds unlabelled, with names that the changer does not know"),
            "set `Label Media = no` and use `label barcodes`",
        );
    }
}

fn drive_indexes(drives: &[&Resource<'_>], report: &mut Report<'_>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for drive in drives {
        let index = drive.text("Drive Index").unwrap_or("0");
        if let Some(other) = seen.insert(index, drive.name()) {
            report.error(
                "drive-index",
                Place::value(drive, "Drive Index"),
                format!("drives {other} and {} both have drive index {index}: one volume would be loaded for two jobs", drive.name()),
                "number the drives of an autochanger from 0, each once",
            );
        }
    }
}

fn check_storage(
    storage: &Resource<'_>,
    changer: &Resource<'_>,
    drives: &[&Resource<'_>],
    report: &mut Report<'_>,
) {
    let name = storage.name();
    // Bacula 9 takes the name of a storage here as well; the type Autochanger says it by itself.
    let says_so = storage.text("Autochanger").is_some_and(|text| is_yes(text) || text == name);
    if !says_so && !storage.block.is("Autochanger") {
        report.error(
            "storage-autochanger",
            Place::value(storage, "Autochanger"),
            format!("storage {name} uses autochanger {}, but without `Autochanger = yes` the Director never asks it for slots", changer.name()),
            "add `Autochanger = yes`",
        );
    }
    for drive in drives {
        if let (Some(ours), Some(theirs)) = (storage.text("Media Type"), drive.text("Media Type"))
            && ours != theirs
        {
            report.error(
                "media-type",
                Place::value(drive, "Media Type"),
                format!("drive {} has media type {theirs}, storage {name} of the Director has {ours}: no volume will ever fit", drive.name()),
                format!("write `Media Type = {ours}` in both"),
            );
        }
    }
    let jobs = storage.text("Maximum Concurrent Jobs").and_then(|jobs| jobs.parse().ok()).unwrap_or(1_usize);
    if jobs < drives.len() {
        report.warning(
            "concurrent-jobs",
            Place::value(storage, "Maximum Concurrent Jobs"),
            format!(
                "storage {name} runs {jobs} job at a time, so {} of its {} drives stay idle",
                drives.len() - jobs,
                drives.len()
            ),
            format!("set `Maximum Concurrent Jobs = {}`", drives.len()),
        );
    }
}

fn command(changer: &Resource<'_>, report: &mut Report<'_>) {
    let command = changer.text("Changer Command").unwrap_or("");
    let missing: Vec<_> =
        ["%c", "%o", "%S", "%a", "%d"].into_iter().filter(|code| !command.contains(code)).collect();
    if !missing.is_empty() {
        report.error(
            "changer-command",
            Place::value(changer, "Changer Command"),
            format!(
                "the changer command lacks {}, so the changer does not know what to do",
                missing.join(", ")
            ),
            "end the command with `%c %o %S %a %d`",
        );
    }
}

/// The changer's own file has to agree with Bacula's.
fn changer_file(
    set: &Set<'_>,
    changer: &Resource<'_>,
    drives: &[&Resource<'_>],
    (file, config): (usize, &Document),
    report: &mut Report<'_>,
) {
    let place = |key: &str| {
        let span = config.directive(key).map_or_else(Default::default, |directive| directive.value().span());
        Place { file, span }
    };
    if let Some(name) = config.text("Storage Resource") {
        let mut storages =
            set.storages().filter(|storage| storage.text("Device") == Some(changer.name())).peekable();
        if storages.peek().is_some() && !storages.any(|storage| storage.name() == name) {
            report.error(
                "changer-storage",
                place("Storage Resource"),
                format!(
                    "the changer updates the slots of storage {name}, which the Director does not use for {}",
                    changer.name()
                ),
                "use the name of the Director's Storage resource",
            );
        }
    }
    let Some(work_dir) = config.text("Work Dir") else { return };
    for drive in drives {
        let link = Path::new(work_dir).join(drive.text("Drive Index").unwrap_or("0"));
        if drive.text("Archive Device").map(Path::new) != Some(link.as_path()) {
            report.error(
                "archive-device",
                Place::value(drive, "Archive Device"),
                format!(
                    "the changer makes the volume of drive {} appear at {}, its archive device is elsewhere",
                    drive.name(),
                    link.display()
                ),
                format!("set `Archive Device = {}`", link.display()),
            );
        }
    }
}

fn storage_names_a_drive(set: &Set<'_>, storage: &Resource<'_>, report: &mut Report<'_>) {
    let Some(device) = storage.text("Device") else { return };
    let owner = set.autochangers().find(|changer| {
        let drives = changer.block.directive("Device");
        drives.is_some_and(|directive| directive.value().list().any(|drive| drive == device))
    });
    if let Some(changer) = owner {
        report.error(
            "storage-device",
            Place::value(storage, "Device"),
            format!(
                "storage {} names drive {device}, so the Director goes past autochanger {}",
                storage.name(),
                changer.name()
            ),
            format!("set `Device = {}`", changer.name()),
        );
    }
}

/// The clients connect to the storage daemon at the address that the Director tells them.
fn loopback(set: &Set<'_>, storage: &Resource<'_>, report: &mut Report<'_>) {
    let local = |address: &str| matches!(address, "localhost" | "::1") || address.starts_with("127.");
    if !storage.text("Address").is_some_and(local) {
        return;
    }
    let far = set
        .all(Reader::Director, "Client")
        .find(|client| client.text("Address").is_some_and(|address| !local(address)));
    if let Some(client) = far {
        report.error(
            "loopback",
            Place::value(storage, "Address"),
            format!(
                "client {} is another machine and can't reach storage {} at a loopback address",
                client.name(),
                storage.name()
            ),
            "use an address or name of this machine that all clients can reach",
        );
    }
}

fn poll_interval(device: &Resource<'_>, report: &mut Report<'_>) {
    let Some(directive) = device.block.directive("Volume Poll Interval") else { return };
    if Period::from_bacula(&directive.value().line()).is_some_and(|period| period < LEAST_POLL) {
        report.warning(
            "poll-interval",
            Place::value(device, "Volume Poll Interval"),
            format!("drive {} asks for less than a minute; Bacula silently waits a whole one", device.name()),
            "set `Volume Poll Interval = 1 minute`; `mount` in the console wakes a waiting job at once",
        );
    }
}
