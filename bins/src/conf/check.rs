//! `offsite conf --check`: cross-checks of our own, then Bacula's own programs.

use std::path::{Path, PathBuf};

use bacula_conf::Severity;

use crate::failure::{Exit, Failure, OrFail as _};
use crate::program::{Program, locate};
use crate::report;

/// The programs that can test a file, and what the file is called.
const TESTERS: [(&str, &str); 4] = [
    ("bacula-dir.conf", "bacula-dir"),
    ("bacula-sd.conf", "bacula-sd"),
    ("bacula-fd.conf", "bacula-fd"),
    ("bconsole.conf", "bconsole"),
];

/// Checks the configuration below `directory`.
pub(super) fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let files = read(directory)?;
    if files.is_empty() {
        return Err(Failure::new(
            Exit::NotThere,
            format!("no configuration of Bacula below {}", directory.display()),
        ));
    }
    let findings = bacula_conf::check(&files);
    let mut tests = Vec::new();
    for (path, _) in &files {
        let tester = TESTERS.iter().find(|(name, _)| path.file_name().is_some_and(|n| n == *name));
        if let Some((_, program)) = tester {
            tests.push((path.clone(), *program, test(program, path)?));
        }
    }
    if json {
        report::json(&findings)?;
    } else {
        for finding in &findings {
            let text = files.iter().find(|(path, _)| *path == finding.file).map_or("", |(_, text)| text);
            println!("{}", finding.render(text));
        }
        for (path, program, result) in &tests {
            match result {
                Some(Ok(())) => println!("{}: {program} accepts it", path.display()),
                Some(Err(text)) => println!("{}: {program} refuses it:\n{text}", path.display()),
                None => println!("{}: not tested, {program} isn't installed", path.display()),
            }
        }
    }
    let refused = tests.iter().filter(|(_, _, result)| matches!(result, Some(Err(_)))).count();
    let wrong = findings.iter().filter(|f| f.severity == Severity::Error).count();
    if refused + wrong > 0 {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} mistakes in {}", refused + wrong, directory.display()),
        ));
    }
    Ok(())
}

/// Runs a daemon's own test; `None` when it isn't installed.
fn test(program: &str, path: &Path) -> Result<Option<Result<(), String>>, Failure> {
    if locate(program).is_none() {
        return Ok(None);
    }
    let path = path.canonicalize().or_fail(format!("cannot find {}", path.display()))?;
    let finished = Program::find(program, "bacula")?.args(["-t", "-c"]).args([&path]).run()?;
    Ok(Some(if finished.code == Some(0) { Ok(()) } else { Err(finished.text) }))
}

/// Whether a file is configuration of Bacula's, by its name: Debian keeps others beside them.
fn is_bacula(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    path.extension().is_some_and(|e| e == "conf")
        && ["bacula-", "bconsole", "offsite-"].iter().any(|start| name.starts_with(start))
}

/// Bacula's configuration below the directory.
fn read(directory: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let failed = |path: &Path| format!("cannot read {}", path.display());
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in next.read_dir().or_exit(Exit::NotThere, failed(&next))? {
            let entry = entry.or_fail(failed(&next))?;
            let (path, kind) = (entry.path(), entry.file_type().or_fail(failed(&next))?);
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() && is_bacula(&path) {
                let text = std::fs::read_to_string(&path).or_fail(failed(&path))?;
                files.push((path, text));
            }
        }
    }
    files.sort();
    Ok(files)
}
