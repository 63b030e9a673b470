//! Files that nobody generated: those that a distribution installs.

use std::fs;
use std::path::{Path, PathBuf};

use bacula_conf::{Document, Severity, check, settings};
use libtest_mimic::{Arguments, Failed, Trial};

const FILES: [&str; 4] = ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for file in FILES {
        let name = format!("installed_{file}_comes_back_and_is_understood");
        let path = Path::new("/etc/bacula").join(file);
        trials.push(match fs::read_to_string(&path) {
            Ok(text) => Trial::test(name, move || comes_back(&path, &text)),
            // Not installed, or not ours to read: listed as ignored, with the reason.
            Err(error) => {
                let reason = format!("{}: {error}", path.display());
                Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true)
            }
        });
    }
    let files: Vec<_> = FILES.iter().map(|file| Path::new("/etc/bacula").join(file)).collect();
    let texts: Result<Vec<_>, _> =
        files.into_iter().map(|path| fs::read_to_string(&path).map(|text| (path, text))).collect();
    let name = "the_installed_files_together_have_no_mistake";
    trials.push(match texts {
        Ok(files) => Trial::test(name, move || no_mistake(&files)),
        Err(error) => {
            Trial::test(name, || Ok(())).with_kind(format!("/etc/bacula: {error}")).with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&arguments, trials).exit();
}

fn no_mistake(files: &[(PathBuf, String)]) -> Result<(), Failed> {
    match check(files).into_iter().find(|finding| finding.severity == Severity::Error) {
        None => Ok(()),
        Some(finding) => Err(finding.to_string().into()),
    }
}

fn comes_back(path: &Path, text: &str) -> Result<(), Failed> {
    let document: Document = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    if document.blocks().next().is_none() || document.to_string() != text {
        return Err(format!("{} was read as something else", path.display()).into());
    }
    let files = [(path.to_owned(), text.to_owned())];
    let all = settings(&files);
    let unknown: Vec<_> = all.iter().flat_map(|settings| &settings.unknown).collect();
    if all.len() != document.blocks().count() || !unknown.is_empty() {
        return Err(format!("{}: {} resources, unknown: {unknown:?}", path.display(), all.len()).into());
    }
    let strange = ["bad-value", "missing-directive", "set-twice", "other-version", "shell-path"];
    match check(&files).into_iter().find(|finding| strange.contains(&finding.check)) {
        None => Ok(()),
        Some(finding) => Err(finding.to_string().into()),
    }
}
