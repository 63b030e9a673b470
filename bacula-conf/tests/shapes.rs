//! Files in the shapes that people's own have: each comes back byte for byte, is understood, and means to this crate
//! what it means to Bacula's own programs.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bacula_conf::{Document, Setting, Settings, check, settings};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value as Json;

/// The program that prints a configuration as JSON, by the beginning of a fixture's name.
const PRINTERS: [(&str, &str); 4] =
    [("dir-", "bdirjson"), ("sd-", "bsdjson"), ("fd-", "bfdjson"), ("con-", "bbconsjson")];

/// What the printers of 9.6.7 leave out or print in a form of their own.
const ODD: [&str; 14] = [
    "Password",    // of consoles and clients by another name, or hidden
    "Autochanger", // a storage's own name in place of yes
    "DirPort",
    "SdPort",
    "FdPort", // part of the addresses
    "DirAddress",
    "SdAddress",
    "FdAddress",
    "DirSourceAddress",
    "FdSourceAddress",
    "RunScript",
    "Run",
    "CopyPool",            // always printed as null
    "MultipleConnections", // always printed as false
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for path in fixtures() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let files = with_includes(&path);
        let understood = files.clone();
        trials.push(Trial::test(format!("{name}_is_understood"), move || is_understood(&understood)));
        let printer = PRINTERS.iter().find(|(start, _)| name.starts_with(start)).expect("a printer").1;
        let installed = Path::new("/usr/sbin").join(printer).exists();
        let trial = Trial::test(format!("{name}_means_the_same_to_{printer}"), move || {
            means_the_same(&path, &files, printer)
        });
        trials.push(if installed {
            trial
        } else {
            trial.with_kind(format!("no {printer} here")).with_ignored_flag(true)
        });
    }
    trials.push(Trial::test("there_are_thirty_of_them", || {
        if fixtures().len() < 30 { Err("fixtures are missing".into()) } else { Ok(()) }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shapes")
}

fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).expect("fixtures");
    let mut found: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    found.sort();
    found
}

/// A fixture with the files that it includes.
fn with_includes(path: &Path) -> Vec<(PathBuf, String)> {
    let read = |path: &Path| (path.to_owned(), fs::read_to_string(path).expect("text"));
    let mut files = vec![read(path)];
    if path.ends_with("dir-secrets-included.conf") {
        let secrets = fs::read_dir(directory().join("secrets")).expect("secrets");
        files.extend(secrets.map(|entry| read(&entry.expect("an entry").path())));
    }
    files
}

fn is_understood(files: &[(PathBuf, String)]) -> Result<(), Failed> {
    for (path, text) in files {
        let document: Document = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        if document.to_string() != *text {
            return Err(format!("{} came back as something else", path.display()).into());
        }
    }
    let strange = [
        "syntax",
        "unknown-directive",
        "unknown-resource",
        "bad-value",
        "missing-directive",
        "set-twice",
        "include",
    ];
    let findings: Vec<_> =
        check(files).into_iter().filter(|finding| strange.contains(&finding.check)).collect();
    if !findings.is_empty() {
        return Err(format!("{findings:#?}").into());
    }
    let all = settings(files);
    let unknown: Vec<_> = all
        .iter()
        .flat_map(|settings| {
            settings.unknown.iter().chain(settings.groups.iter().flat_map(|group| &group.unknown))
        })
        .collect();
    if all.is_empty() || !unknown.is_empty() {
        return Err(format!("{} resources, unknown: {unknown:?}", all.len()).into());
    }
    Ok(())
}

fn means_the_same(path: &Path, files: &[(PathBuf, String)], printer: &str) -> Result<(), Failed> {
    // Includes are relative to where a daemon is started.
    let output = Command::new(Path::new("/usr/sbin").join(printer))
        .arg("-c")
        .arg(path)
        .current_dir(directory())
        .output()?;
    let theirs: Json = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let theirs: Vec<(&String, &Json)> = theirs
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.as_object()?.iter().next())
        .collect();
    let ours = settings(files);
    if ours.len() != theirs.len() {
        return Err(format!("{} resources, theirs {}", ours.len(), theirs.len()).into());
    }
    let mut compared = 0;
    for settings in &ours {
        let found = theirs.iter().find(|(kind, resource)| {
            // The Director takes Autochanger as another word for Storage.
            let alike = settings.kind == "Autochanger" && *kind == "Storage";
            (alike || kind.eq_ignore_ascii_case(&settings.kind))
                && resource["Name"].as_str() == Some(&settings.name)
        });
        let (_, resource) =
            found.ok_or_else(|| format!("they have no {} {}", settings.kind, settings.name))?;
        compared += compare(settings, resource)?;
        if settings.kind == "FileSet" {
            compared += compare_lists(settings, resource)?;
        }
    }
    if compared == 0 { Err("nothing was compared".into()) } else { Ok(()) }
}

/// Compares what is set, each way.
fn compare(ours: &Settings, theirs: &Json) -> Result<usize, Failed> {
    let place = format!("{} {}", ours.kind, ours.name);
    let theirs = theirs.as_object().ok_or("a resource that is no object")?;
    let odd = |key: &str| ODD.iter().any(|odd| odd.eq_ignore_ascii_case(key));
    let mut compared = 0;
    for (key, setting) in &ours.set {
        if odd(key) || ours.kind == "Messages" || *setting == Setting::Text(String::new()) {
            continue;
        }
        let Some((_, value)) = theirs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) else {
            // A default of the job's template that its own level replaces, and scripts in the short form.
            if key.ends_with("Job") && key.contains("Run") {
                continue;
            }
            return Err(format!("{place}: they know nothing of {key}").into());
        };
        let ours = if value.is_array() {
            Setting::Texts(ours.texts(key))
        } else {
            ours.get(key).ok_or("set, and not there")?
        };
        if !same(&ours, value) {
            return Err(format!("{place}: {key} is {ours:?}, theirs {value}").into());
        }
        compared += 1;
    }
    for key in theirs.keys() {
        let known = ours.is_set(key) || ours.groups.iter().any(|group| group.kind.eq_ignore_ascii_case(key));
        if !known && !odd(key) && key != "Destinations" && !odd(key) {
            return Err(format!("{place}: we know nothing of {key}").into());
        }
    }
    Ok(compared)
}

fn same(ours: &Setting, theirs: &Json) -> bool {
    match (ours, theirs) {
        (Setting::Text(ours), Json::String(theirs)) => {
            ours.replace(' ', "").eq_ignore_ascii_case(&theirs.replace(' ', ""))
        }
        (Setting::Texts(ours), Json::Array(theirs)) => {
            ours.iter().map(String::as_str).eq(theirs.iter().filter_map(Json::as_str))
        }
        (Setting::Texts(ours), Json::String(theirs)) => ours.last() == Some(theirs),
        (Setting::YesNo(ours), Json::Bool(theirs)) => ours == theirs,
        (Setting::Number(ours), Json::Number(theirs)) => theirs.as_u64() == Some(*ours),
        (Setting::Size(ours), Json::Number(theirs)) => theirs.as_u64() == Some(ours.as_bytes()),
        (Setting::Period(ours), Json::Number(theirs)) => theirs.as_u64() == Some(ours.as_seconds()),
        _ => false,
    }
}

/// The lists of files of a set, and their options.
fn compare_lists(ours: &Settings, theirs: &Json) -> Result<usize, Failed> {
    let mut compared = 0;
    let includes = ours.groups.iter().filter(|group| group.kind.eq_ignore_ascii_case("Include"));
    for (list, theirs) in includes.zip(theirs["Include"].as_array().into_iter().flatten()) {
        if !same(&Setting::Texts(list.texts("File")), &theirs["File"]) && theirs.get("File").is_some() {
            return Err(
                format!("{}: files {:?}, theirs {}", ours.name, list.texts("File"), theirs["File"]).into()
            );
        }
        for (options, theirs) in list.groups.iter().zip(theirs["Options"].as_array().into_iter().flatten()) {
            for (key, value) in theirs.as_object().into_iter().flatten() {
                // 9.6.7 prints the level of a compression and the length of a hash in a form of its own.
                if matches!(key.as_str(), "Compression" | "Signature") {
                    continue;
                }
                let setting = if value.is_array() {
                    Setting::Texts(options.texts(key))
                } else {
                    options.get(key).ok_or(format!("no {key}"))?
                };
                if !same(&setting, value) {
                    return Err(format!("{}: {key} is {setting:?}, theirs {value}", ours.name).into());
                }
                compared += 1;
            }
        }
    }
    Ok(compared)
}
