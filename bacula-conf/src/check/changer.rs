//! The autochanger, its drives, and what Director and changer have to know about them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::report::{Place, Report};
use crate::schema::resources::{Resource, Set, is_file, is_yes};
use crate::schema::setting::period_of;
use crate::syntax::tree::{Document, same_key};
use crate::values::program::Program;
use crate::values::units::Period;

/// What only the files of vchanger 0.8 say, with blanks for underscores.
const OLD_KEYS: [&str; 4] = ["Changer Name", "Automount Dir", "Slots Per Magazine", "Magazine Bays"];

/// A text of vchanger 0.8 with its keys as Bacula writes them, `changer name` for `changer_name`, each at its place.
pub(super) fn modern_keys(text: &str) -> Option<String> {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.replace('_', " "));
    let old = |line: &str| key(line).is_some_and(|key| OLD_KEYS.into_iter().any(|old| same_key(&key, old)));
    if !text.lines().any(old) {
        return None;
    }
    let modern = |line: &str| match (key(line), line.find('=')) {
        (Some(key), Some(equals)) if !line.trim_start().starts_with('#') => {
            format!("{key}{}", line.get(equals..).unwrap_or(""))
        }
        _ => line.to_owned(),
    };
    Some(text.split_inclusive('\n').map(modern).collect())
}

/// `src/stored/stored_conf.c`: less is silently raised.
const LEAST_POLL: Period = Period::seconds(60);

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for changer in set.autochangers() {
        let drives = set.drives(changer);
        drive_indexes(&drives, report);
        for drive in &drives {
            says_it_belongs(changer, drive, report);
        }
        for storage in set.storages().filter(|storage| storage.text("Device") == Some(changer.name())) {
            check_storage(storage, changer, &drives, report);
        }
    }
    for changer in set.virtual_changers() {
        let drives = set.drives(changer);
        for drive in &drives {
            check_drive(drive, report);
            poll_interval(drive, report);
        }
        command(changer, report);
        long_enough(changer, &drives, report);
        nobody_tells(set, changer, report);
        console_rights(set, report);
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
}

/// Bacula takes it from the autochanger's resource today.
fn says_it_belongs(changer: &Resource<'_>, drive: &Resource<'_>, report: &mut Report<'_>) {
    if !drive.is_yes("Autochanger") {
        report.warning(
            "device-autochanger",
            Place::value(drive, "Autochanger"),
            format!(
                "drive {} belongs to autochanger {} and doesn't say so: before version 9 nothing is ever loaded into it",
                drive.name(),
                changer.name()
            ),
            "add `Autochanger = yes`",
        );
    }
}

fn check_drive(drive: &Resource<'_>, report: &mut Report<'_>) {
    let name = drive.name();
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

/// A drive is looked for, unlocked, perhaps checked, and mounted while the storage daemon waits.
const LEAST_WAIT: Period = Period::seconds(60);

fn long_enough(changer: &Resource<'_>, drives: &[&Resource<'_>], report: &mut Report<'_>) {
    for drive in drives {
        let Some(directive) = drive.directive("Maximum Changer Wait") else { continue };
        if period_of(directive.value()).is_some_and(|wait| wait < LEAST_WAIT) {
            report.warning(
                "changer-wait",
                Place::value(drive, "Maximum Changer Wait"),
                format!("the storage daemon ends {}'s command after this; unlocking and mounting a drive may take longer, and the job then fails", changer.name()),
                "set `Maximum Changer Wait = 5 minutes`, which is the default",
            );
        }
        if !drive.is_yes("Automatic Mount") {
            report.warning(
                "automatic-mount",
                Place::value(drive, "Automatic Mount"),
                format!(
                    "drive {} waits for `mount` in the console although its volume is there",
                    drive.name()
                ),
                "set `Automatic Mount = yes`",
            );
        }
    }
}

/// Somebody has to tell the Director what was plugged and pulled: the changer by bconsole, or at least a job.
fn nobody_tells(set: &Set<'_>, changer: &Resource<'_>, report: &mut Report<'_>) {
    let named = changer.text("Changer Device").unwrap_or("");
    let Some((file, config)) =
        set.changers.iter().find(|(file, _)| set.paths.get(*file).is_some_and(|path| is_file(path, named)))
    else {
        return;
    };
    // vchanger 1.0 finds a bconsole by itself; an empty name switches that off. vchanger 0.8 never calls it.
    let silent = config.directive("bconsole").is_some_and(|directive| directive.value().text() == Some(""));
    if silent || is_old(config) {
        report.warning(
            "changer-silent",
            Place { file: *file, span: config.directive("bconsole").map_or_else(Default::default, |directive| directive.value().span()) },
            format!("{} tells the Director nothing: `update slots` of a job leaves all volumes of the last drive that was pulled marked as present, and a restore from one ends at once", changer.name()),
            "let the changer call bconsole: set `bconsole` and `bconsole config`",
        );
    }
}

/// What a changer says in the console: which volumes are there, new labels, and that a waiting job may go on.
const CONSOLE_COMMANDS: [&str; 3] = ["update", "label", "mount"];

/// The console that a changer uses has to be allowed what the changer does there.
fn console_rights(set: &Set<'_>, report: &mut Report<'_>) {
    let files: Vec<&str> =
        set.changers.iter().filter_map(|(_, config)| config.text("bconsole config")).collect();
    for console in set.all(Program::Console, "Console") {
        let used =
            set.paths.get(console.file).is_some_and(|path| files.iter().any(|file| is_file(path, file)));
        let Some(allowed) = set.named(Program::Director, "Console", console.name()).filter(|_| used) else {
            continue;
        };
        let commands: Vec<&str> = allowed.list("CommandACL").collect();
        let may =
            |command: &&str| commands.iter().any(|one| one.eq_ignore_ascii_case(command) || *one == "*all*");
        let lacking: Vec<&str> = CONSOLE_COMMANDS.into_iter().filter(|command| !may(command)).collect();
        if !lacking.is_empty() {
            report.error(
                "console-acl",
                Place::value(allowed, "CommandACL"),
                format!(
                    "the changer's console {} may not {}: the catalog does not follow the drives",
                    console.name(),
                    lacking.join(", ")
                ),
                format!("add {} to its CommandACL", lacking.join(", ")),
            );
        }
    }
}

/// Whether a changer's file is of vchanger 0.8.
fn is_old(config: &Document) -> bool {
    OLD_KEYS.into_iter().any(|key| config.directive(key).is_some())
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
    magazines(config, file, report);
    if let Some(count) = config
        .text("Virtual Drives")
        .and_then(|count| count.parse::<usize>().ok())
        .filter(|count| *count < drives.len())
    {
        report.error(
            "virtual-drives",
            place("Virtual Drives"),
            format!(
                "the changer has {count} drives, autochanger {} has {}: jobs on the others fail",
                changer.name(),
                drives.len()
            ),
            format!("set `virtual_drives = {}`", drives.len()),
        );
    }
    let Some(work_dir) = config.text("Work Dir") else { return };
    for drive in drives {
        let index = drive.text("Drive Index").unwrap_or("0");
        let mut link = Path::new(work_dir).join(index);
        if is_old(config) {
            link.push(format!("drive{index}"));
        }
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

/// What a changer's file says of its magazines.
fn magazines(config: &Document, file: usize, report: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for directive in config.directives().filter(|directive| directive.is("Magazine")) {
        let place = Place { file, span: directive.value().span() };
        let text = directive.value().text().unwrap_or("");
        if !seen.insert(text.to_ascii_lowercase()) {
            report.error(
                "magazine-twice",
                place,
                format!("magazine {text} is listed twice: its volumes would lie in two slots each"),
                "keep one of the two lines",
            );
        }
        if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("uuid:")) {
            report.warning(
                "uuid-magazine",
                place,
                "Josh Fisher's vchanger walks through all devices of the machine for each such line at each question of Bacula's: a tenth of a second each time",
                "name the directory at which the magazine is mounted",
            );
        }
    }
}

fn storage_names_a_drive(set: &Set<'_>, storage: &Resource<'_>, report: &mut Report<'_>) {
    let Some(device) = storage.text("Device") else { return };
    let owner = set.autochangers().find(|changer| {
        let drives = changer.directive("Device");
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
        .all(Program::Director, "Client")
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
    let Some(directive) = device.directive("Volume Poll Interval") else {
        report.warning(
            "poll-interval",
            Place::of(device),
            format!(
                "a job that waits on drive {} looks for its volume only every 5 minutes, Bacula's default",
                device.name()
            ),
            "set `Volume Poll Interval = 1 minute`; `mount` in the console wakes a waiting job at once",
        );
        return;
    };
    if period_of(directive.value()).is_some_and(|period| period < LEAST_POLL) {
        report.warning(
            "poll-interval",
            Place::value(device, "Volume Poll Interval"),
            format!("drive {} asks for less than a minute; Bacula silently waits a whole one", device.name()),
            "set `Volume Poll Interval = 1 minute`; `mount` in the console wakes a waiting job at once",
        );
    }
}
