//! Bacula's own programs judge values: what they refuse is an error here, what they take is none.
//!
//! Each directive of 9.6 gets some of the values below, in a file that is right otherwise.
//! `OFFSITE_FUZZ_CASES=all cargo test -p bacula-conf --test judgement` tries all of them, for some minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bacula_conf::{Program, Severity, check, known_directives, same_key};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

/// Values as somebody may write them, up to the end of the line. A `}` closes the resource.
const VALUES: [&str; 52] = [
    "yes",
    "no }",
    "\"yes\"",
    "on",
    "10",
    "\"10\"",
    "10 }",
    "10}",
    "10 x",
    "10.5",
    "-1",
    "+1",
    "1e3",
    "70000",
    "300K",
    "300 kb/s",
    "5 m/s }",
    "5 gb",
    "5 gib",
    "50G }",
    "1g, 2g",
    "365d",
    "365d }",
    "365 days }",
    "365d\t}",
    "365 days, 12 hours",
    "1\tday",
    "1 day 2 foo",
    "4 weeks; }",
    "2 hours # note",
    "a b",
    "a1 b",
    "a1 b1 c1",
    "a, b",
    "a , b",
    "a1 , b1",
    "a1, b1 }",
    "a,",
    "a#b",
    "p{a",
    "a=b",
    "\"\"",
    "Büro",
    "\"a<b\"",
    "2019",
    ", x",
    "File",
    "Full 1st sun",
    "Level=Full sun at 23:05",
    "root@localhost = all, !skipped",
    "all, !nothing",
    "/tmp/x y",
];

/// A whole configuration of each program: the resources, each with the lines that it can't do without.
type Resources = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const DIRECTOR: Resources = &[
    (
        "Director",
        &[
            ("Name", "d"),
            ("QueryFile", "/q"),
            ("WorkingDirectory", "/tmp"),
            ("PidDirectory", "/tmp"),
            ("Password", "p"),
            ("Messages", "m"),
        ],
    ),
    ("Messages", &[("Name", "m"), ("Console", "all")]),
    ("Catalog", &[("Name", "File"), ("DbName", "b")]),
    ("Client", &[("Name", "File"), ("Address", "127.0.0.1"), ("Password", "p"), ("Catalog", "File")]),
    ("FileSet", &[("Name", "File")]),
    ("Schedule", &[("Name", "File")]),
    ("Counter", &[("Name", "File")]),
    (
        "Storage",
        &[("Name", "File"), ("Address", "127.0.0.1"), ("Password", "p"), ("Device", "x"), ("MediaType", "F")],
    ),
    ("Pool", &[("Name", "File"), ("PoolType", "Backup")]),
    ("Console", &[("Name", "File"), ("Password", "p")]),
    ("Statistics", &[("Name", "File"), ("Type", "CSV")]),
    ("JobDefs", &[("Name", "File")]),
    (
        "Job",
        &[
            ("Name", "File"),
            ("Type", "Backup"),
            ("Client", "File"),
            ("FileSet", "File"),
            ("Storage", "File"),
            ("Pool", "File"),
            ("Messages", "m"),
        ],
    ),
];

const STORAGE: Resources = &[
    ("Storage", &[("Name", "s"), ("WorkingDirectory", "/tmp"), ("PidDirectory", "/tmp")]),
    ("Director", &[("Name", "d"), ("Password", "p")]),
    ("Messages", &[("Name", "m"), ("Director", "d = all")]),
    ("Device", &[("Name", "File"), ("MediaType", "F"), ("ArchiveDevice", "/tmp")]),
    (
        "Autochanger",
        &[("Name", "File"), ("Device", "File"), ("ChangerDevice", "/dev/null"), ("ChangerCommand", "\"\"")],
    ),
    ("Statistics", &[("Name", "File"), ("Type", "CSV")]),
];

const CLIENT: Resources = &[
    ("FileDaemon", &[("Name", "f"), ("WorkingDirectory", "/tmp"), ("PidDirectory", "/tmp")]),
    ("Director", &[("Name", "d"), ("Password", "p")]),
    ("Messages", &[("Name", "m"), ("Director", "d = all")]),
    ("Console", &[("Name", "File"), ("Password", "p")]),
];

const CONSOLE: Resources = &[
    ("Director", &[("Name", "d"), ("Address", "127.0.0.1"), ("Password", "p")]),
    ("Console", &[("Name", "File"), ("Password", "p")]),
];

/// Directives whose values a program looks further into than this crate does.
const DEEPER: [&str; 9] = [
    "DirAddress", // names of hosts are resolved
    "SdAddress",
    "FdAddress",
    "DirSourceAddress",
    "FdSourceAddress",
    "WorkingDirectory", // has to be there
    "TlsEnable",        // needs certificates
    "TlsAuthenticate",
    "TlsRequire",
];

/// Errors of ours about what these programs don't look at.
const OTHERS: [&str; 4] = ["loopback", "console-command", "device-autochanger", "changer-command"];

/// What people wrote: what it is, the program, what is replaced in its file, by what, and whether the program takes it.
type Sample = (&'static str, &'static str, &'static str, &'static str, bool);

#[rustfmt::skip]
const SAMPLES: &[Sample] = &[
    ("a schedule without a time", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Level=Full sun-sat\n", true),
    ("a day where a time is meant", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Full sun at 23\n", true),
    ("two times", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Full sun at 1:00, 2:00\n", true),
    ("a blank before pm", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Full sun at 9:00 pm\n", false),
    ("a level that there isn't", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Level=Fulll sun at 9:00\n", false),
    ("a pool that there isn't", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Pool=Fulll sun at 9:00\n", false),
    ("`last` is no word of a schedule", "bdirjson", "Schedule {\n", "Schedule {\n  Run = Full last sun at 9:00\n", false),
    ("an autochanger twice", "bdirjson", "  MediaType = F\n", "  MediaType = F\n  Autochanger = yes\n  Autochanger = File\n", true),
    ("an autochanger that there isn't", "bdirjson", "  MediaType = F\n", "  MediaType = F\n  Autochanger = c\n", false),
    ("a bandwidth without /s", "bdirjson", "  Type = Backup\n", "  Type = Backup\n  Maximum Bandwidth = 300K\n", true),
    ("a duration with a comma", "bdirjson", "  PoolType = Backup\n", "  PoolType = Backup\n  Volume Retention = 365 days, 12 hours\n", true),
    ("a brace in a password", "bdirjson", "  Password = p\n", "  Password = p{a\n", true),
    ("a hash in a password", "bdirjson", "  Password = p\n", "  Password = p#a\n", true),
    ("a password of digits", "bdirjson", "  Password = p\n", "  Password = 123456\n", false),
    ("two catalogs", "bdirjson", "  Catalog = File\n", "  Catalog = File, B\n", true),
    ("defaults that a command prints", "bdirjson", "Job {\n  Name = File\n  Type = Backup\n", "@|\"sh -c 'echo JobDefs {; echo Name = j; echo Type = Backup; echo }'\"\nJob {\n  Name = File\n  JobDefs = j\n", true),
    ("an umlaut in a name", "bdirjson", "Pool {\n", "Pool {\n  Name = Büro\n  PoolType = Backup\n}\nPool {\n", false),
    ("an angle bracket in a name", "bdirjson", "Pool {\n", "Pool {\n  Name = \"a<b\"\n  PoolType = Backup\n}\nPool {\n", false),
    ("a name of digits", "bdirjson", "Pool {\n", "Pool {\n  Name = 2019\n  PoolType = Backup\n}\nPool {\n", false),
    ("a name of digits in quotes", "bdirjson", "Pool {\n", "Pool {\n  Name = \"2019\"\n  PoolType = Backup\n}\nPool {\n", true),
    ("a brace in place of a name", "bdirjson", "  Pool = File\n", "  Pool = {\n  }\n", false),
    ("a second Director", "bdirjson", "Messages {\n", "Director {\n  Name = e\n  QueryFile = /q\n  WorkingDirectory = /tmp\n  PidDirectory = /tmp\n  Password = p\n}\nMessages {\n", false),
    ("a brace behind a period", "bdirjson", "  PoolType = Backup\n}\n", "  PoolType = Backup\n  Volume Retention = 365d }\n", false),
    ("a brace behind a period in words", "bdirjson", "  PoolType = Backup\n}\n", "  PoolType = Backup\n  Volume Retention = 365 days }\n", true),
    ("a brace behind an access list", "bdirjson", "Console {\n", "Console {\n  Name = c\n  Password = p\n  CommandACL = status }\nConsole {\n", false),
    ("no Messages", "bsdjson", "Messages {\n  Name = m\n  Director = d = all\n}\n", "", false),
    ("no Director", "bsdjson", "Director {\n  Name = d\n  Password = p\n}\n", "", false),
    ("a second Storage", "bsdjson", "Messages {\n", "Storage {\n  Name = t\n  WorkingDirectory = /tmp\n  PidDirectory = /tmp\n}\nMessages {\n", false),
    ("a message of newer versions", "bsdjson", "d = all", "d = all, !verified", false),
    ("a directive of newer versions", "bsdjson", "Device {\n", "Device {\n  Volume Encryption = yes\n", false),
    ("a second file daemon", "bfdjson", "Messages {\n", "Client {\n  Name = t\n  WorkingDirectory = /tmp\n  PidDirectory = /tmp\n}\nMessages {\n", false),
    ("no Messages", "bfdjson", "Messages {\n  Name = m\n  Director = d = all\n}\n", "", false),
    ("a line that goes on", "bfdjson", "d = all", "d = all, \\\n  !skipped", true),
    ("a value behind a lone backslash", "bfdjson", "  Password = p\n", "  Password = \\a p\n", true),
];

const PROGRAMS: [(&str, &str, Program, Resources); 4] = [
    ("bdirjson", "bacula-dir.conf", Program::Director, DIRECTOR),
    ("bsdjson", "bacula-sd.conf", Program::Storage, STORAGE),
    ("bfdjson", "bacula-fd.conf", Program::Client, CLIENT),
    ("bbconsjson", "bconsole.conf", Program::Console, CONSOLE),
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (printer, file, program, resources) in PROGRAMS {
        let installed = Path::new("/usr/sbin").join(printer).exists();
        for trial in [
            Trial::test(format!("{printer}_judges_as_we_do"), move || {
                judges_alike(printer, file, program, resources)
            }),
            Trial::test(format!("{printer}_and_what_people_wrote"), move || {
                samples(printer, file, resources)
            }),
        ] {
            trials.push(if installed {
                trial
            } else {
                trial.with_kind(format!("no {printer} here")).with_ignored_flag(true)
            });
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn samples(printer: &str, file: &str, resources: Resources) -> Result<(), Failed> {
    let root = TempDir::new()?;
    let path = root.path().join(file);
    let plain = whole(resources, "", "", "");
    let mut differences = Vec::new();
    for (what, _, from, to, taken) in SAMPLES.iter().filter(|(_, program, ..)| *program == printer) {
        assert!(plain.contains(from), "{what}: no {from:?} in {plain}");
        let text = plain.replacen(from, to, 1);
        fs::write(&path, &text)?;
        let (theirs, ours) = (judge(printer, &path)?, errors(&path, &text));
        if theirs.is_ok() != *taken || ours.is_empty() != *taken {
            differences.push(format!("{what}: {printer} says {theirs:?}, we say {ours:?}"));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}

fn judges_alike(printer: &str, file: &str, program: Program, resources: Resources) -> Result<(), Failed> {
    let root = TempDir::new()?;
    let path = root.path().join(file);
    let all = std::env::var("OFFSITE_FUZZ_CASES").is_ok_and(|cases| cases == "all");
    let known = known_directives().filter(|known| known.program == program && known.bacula == Some(9));
    let mut differences = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    let own = resources.first().map_or("", |(kind, _)| *kind);
    for (number, known) in known.enumerate() {
        if DEEPER.contains(&known.name) {
            continue;
        }
        for (index, value) in VALUES.iter().enumerate() {
            if !all && (number + index) % 12 != 0 {
                continue;
            }
            // Names of services are resolved as well.
            let listens = known.name.ends_with("Port") && known.resource == own;
            if listens && !value.trim_matches('"').starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let Some(text) = configuration(resources, known.resource, known.name, value) else { continue };
            fs::write(&path, &text)?;
            let theirs = judge(printer, &path)?;
            let ours = errors(&path, &text);
            if theirs.is_ok() != ours.is_empty() {
                differences.push(format!(
                    "{} {{ {} = {value} }}: {printer} says {theirs:?}, we say {ours:?}",
                    known.resource, known.name
                ));
            }
            if theirs.is_ok() { taken += 1 } else { refused += 1 }
        }
    }
    if !differences.is_empty() {
        return Err(format!("{} differences:\n{}", differences.len(), differences.join("\n")).into());
    }
    if taken == 0 || refused == 0 { Err(format!("{taken} taken, {refused} refused").into()) } else { Ok(()) }
}

/// The configuration with one more directive in the first resource of a type, or with another value for one that is
/// there; `None` where the program has no such resource here.
fn configuration(resources: Resources, kind: &str, key: &str, value: &str) -> Option<String> {
    resources.iter().find(|(name, _)| *name == kind)?;
    Some(whole(resources, kind, key, value))
}

fn whole(resources: Resources, kind: &str, key: &str, value: &str) -> String {
    let resource = |(name, lines): &(&str, &[(&str, &str)])| {
        let changed = *name == kind;
        let others = lines.iter().filter(|(other, _)| !(changed && same_key(other, key)));
        let mut lines: Vec<String> = others.map(|(key, value)| format!("  {key} = {value}\n")).collect();
        if changed {
            lines.push(format!("  {key} = {value}\n"));
        }
        let end = if changed && value.ends_with('}') { "" } else { "}\n" };
        format!("{name} {{\n{}{end}", lines.concat())
    };
    resources.iter().map(resource).collect()
}

/// What the program says of a configuration, shortened; nothing if it takes it.
fn judge(printer: &str, path: &Path) -> Result<Result<(), String>, Failed> {
    let output = Command::new(Path::new("/usr/sbin").join(printer)).arg("-c").arg(path).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let wrong = said.lines().find(|line| line.contains("onfig error") || line.contains("rror:"));
    Ok(match wrong {
        None if output.status.success() => Ok(()),
        None => Err(said.into_owned()),
        Some(line) => Err(line.to_owned()),
    })
}

/// Our own errors, and warnings that a program refuses what it doesn't know.
fn errors(path: &Path, text: &str) -> Vec<String> {
    let strict = |check: &str| matches!(check, "unknown-directive" | "unknown-resource" | "other-version");
    check(&[(PathBuf::from(path), text.to_owned())])
        .iter()
        .filter(|finding| finding.severity == Severity::Error || strict(finding.check))
        .filter(|finding| !OTHERS.contains(&finding.check))
        .map(ToString::to_string)
        .collect()
}
