//! `offsite conf --check`: cross-checks of our own, then Bacula's own programs.

use std::io;
use std::path::{Path, PathBuf};

use bacula_conf::{Finding, Includes, Program as Reader, Severity};
use serde::Serialize;

use crate::cli::Conf;
use crate::conf::machine::Machine;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::program::{Program, locate};
use crate::report;
use crate::site::Site;

/// The programs that can test a file, and what the file is called.
const TESTERS: [(&str, &str); 4] = [
    ("bacula-dir.conf", "bacula-dir"),
    ("bacula-sd.conf", "bacula-sd"),
    ("bacula-fd.conf", "bacula-fd"),
    ("bconsole.conf", "bconsole"),
];

/// A configuration with all that was found in it.
pub(crate) struct Checked {
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) findings: Vec<Finding>,
}

/// What one of Bacula's programs says of its file; no answer where it isn't installed.
#[derive(Serialize)]
struct Test {
    file: PathBuf,
    program: &'static str,
    accepted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

/// Checks the configuration below `directory`, or the installed one.
pub(super) fn run(root: &Root, directory: Option<&Path>, options: &Conf) -> Result<(), Failure> {
    let site = root.site_toml().exists().then(|| Site::load(root)).transpose()?;
    let installed = installed(root, site.as_ref());
    let directory = directory.map_or(installed, Path::to_owned);
    let checked = examine(root, &directory, site.as_ref(), options.run_includes)?;
    // Bacula's own test runs what such an include or path holds.
    let commands = |finding: &Finding| matches!(finding.check, "include-command" | "shell-path");
    let untested = !options.run_includes && checked.findings.iter().any(commands);
    let mut tests = Vec::new();
    for (path, _) in checked.files.iter().filter(|_| !untested) {
        let tester = TESTERS.iter().find(|(name, _)| path.file_name().is_some_and(|n| n == *name));
        if let Some((_, program)) = tester {
            tests.push(test(program, path)?);
        }
    }
    if options.json {
        report::json(&checked.findings)?;
    } else {
        for finding in &checked.findings {
            println!("{}", checked.shown(root, finding));
        }
        for Test { file, program, accepted, said } in &tests {
            let (file, said) = (file.display(), said.as_deref().unwrap_or_default());
            match accepted {
                Some(true) => println!("{file}: {program} accepts it"),
                Some(false) => println!("{file}: {program} refuses it:\n{said}"),
                None => println!("{file}: not tested, {program} isn't installed"),
            }
        }
    }
    if untested && !options.json {
        println!(
            "Bacula's own programs were not asked: they would run the commands in these files (--run-includes)"
        );
    }
    let refused = tests.iter().filter(|test| test.accepted == Some(false)).count();
    let wrong = checked.findings.iter().filter(|f| f.severity == Severity::Error).count();
    if refused + wrong > 0 {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} mistakes in {}", refused + wrong, directory.display()),
        ));
    }
    Ok(())
}

/// Where the daemons' configuration is installed.
fn installed(root: &Root, site: Option<&Site>) -> PathBuf {
    site.map_or_else(|| root.join("/etc/bacula"), |site| root.join(&site.bacula.paths.configuration))
}

/// Reads and checks; what only a whole machine can show is looked at when the installed configuration is meant.
pub(crate) fn examine(
    root: &Root,
    directory: &Path,
    site: Option<&Site>,
    run_includes: bool,
) -> Result<Checked, Failure> {
    let Checked { files, mut findings } = read(root, directory, run_includes)?;
    if files.is_empty() {
        return Err(Failure::new(
            Exit::NotThere,
            format!("no configuration of Bacula below {}", directory.display()),
        ));
    }
    findings.extend(bacula_conf::check(&files));
    if let Some(site) = site.filter(|site| site.rotation.drives.is_some() || !site.magazines.is_empty()) {
        findings.extend(bacula_conf::check_rotation(&files, &site.rotation.turns(site.magazines.len())));
    }
    if directory.canonicalize().ok() == installed(root, site).canonicalize().ok() {
        findings.extend(bacula_conf::check_machine(&files, &Machine::new(root)));
    }
    Ok(Checked { files, findings })
}

impl Checked {
    /// A finding with the line that it is about; it may be in a file that isn't Bacula's.
    fn shown(&self, root: &Root, finding: &Finding) -> String {
        match self.files.iter().find(|(path, _)| *path == finding.file) {
            Some((_, text)) => finding.render(text),
            None => finding.render(&std::fs::read_to_string(root.join(&finding.file)).unwrap_or_default()),
        }
    }
}

/// Runs a daemon's own test.
fn test(program: &'static str, path: &Path) -> Result<Test, Failure> {
    let file = path.to_owned();
    if locate(program).is_none() {
        return Ok(Test { file, program, accepted: None, said: None });
    }
    let path = path.canonicalize().or_fail(format!("cannot find {}", path.display()))?;
    let finished = Program::find(program, "bacula")?.args(["-t", "-c"]).args([&path]).run()?;
    let accepted = finished.code == Some(0);
    Ok(Test { file, program, accepted: Some(accepted), said: (!accepted).then_some(finished.text) })
}

/// Whether a file is configuration of Bacula's or Bareos's, by its name: Debian keeps others beside them.
fn is_configuration(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let bareos = path
        .iter()
        .filter_map(|part| part.to_str())
        .any(|part| matches!(part, "bareos-dir.d" | "bareos-sd.d" | "bareos-fd.d"));
    let starts = ["bacula-dir", "bacula-sd", "bacula-fd", "bconsole", "offsite-"];
    path.extension().is_some_and(|e| e == "conf")
        && (bareos || starts.iter().any(|start| name.starts_with(start)))
}

/// The configuration below a directory, with what it includes and the changers' files, and what is wrong with includes.
pub(super) fn read(root: &Root, directory: &Path, run_includes: bool) -> Result<Checked, Failure> {
    let failed = |path: &Path| format!("cannot read {}", path.display());
    let mut given = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in next.read_dir().or_exit(Exit::NotThere, failed(&next))? {
            let entry = entry.or_fail(failed(&next))?;
            let (path, kind) = (entry.path(), entry.file_type().or_fail(failed(&next))?);
            if kind.is_dir() {
                directories.push(path);
            } else if path.is_file() && is_configuration(&path) {
                let text = std::fs::read_to_string(&path).or_fail(failed(&path))?;
                given.push((path, text));
            }
        }
    }
    given.sort();
    let mut disk = Disk { root, directory, run: run_includes };
    let (mut files, findings) = bacula_conf::follow(given, &mut disk);
    for changer in bacula_conf::settings(&files) {
        let named = changer.text("Changer Device").filter(|_| changer.program == Reader::Storage);
        let Some(path) = named.map(PathBuf::from).filter(|path| path.is_absolute()) else { continue };
        let place = disk.place(&path);
        if !files.iter().any(|(known, _)| *known == place)
            && let Ok(text) = std::fs::read_to_string(&place)
        {
            files.push((place, text));
        }
    }
    Ok(Checked { files, findings })
}

/// The disk, as the configuration sees it: absolute paths may be meant below the directory that is checked.
struct Disk<'a> {
    root: &'a Root,
    directory: &'a Path,
    run: bool,
}

impl Disk<'_> {
    fn place(&self, path: &Path) -> PathBuf {
        let inside = self.directory.join(path.strip_prefix("/").unwrap_or(path));
        [inside, path.to_owned()]
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| self.root.join(path))
    }
}

impl Includes for Disk<'_> {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(self.place(path))
    }

    /// As Bacula does it: split into words, without a shell, from where the daemon would be started.
    fn run(&mut self, command: &str) -> Option<io::Result<String>> {
        self.run.then(|| {
            let words = words(command);
            let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let path = if name.starts_with('/') { Some(PathBuf::from(name)) } else { locate(name) };
            let program = Program::at(path.ok_or(io::ErrorKind::NotFound)?).args(arguments).apart();
            let finished = program.run().map_err(|failure| io::Error::other(failure.message().to_owned()))?;
            Ok(finished.text) // Bacula doesn't look at the exit status either
        })
    }
}

/// Words with blanks between them; quotes of either kind hold one together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_bacula_splits_it() {
        assert_eq!(words("sh -c 'cat /etc/*.conf'"), ["sh", "-c", "cat /etc/*.conf"]);
        assert_eq!(words("  a \"b c\"d '' "), ["a", "b cd", ""]);
    }

    #[test]
    fn bareos_files_are_known_by_their_directory() {
        assert!(is_configuration(Path::new("/etc/bareos/bareos-dir.d/pool/Full.conf")));
        assert!(is_configuration(Path::new("/etc/bacula/bacula-dir.conf")));
        assert!(!is_configuration(Path::new("/etc/bacula/common_default_passwords.conf")));
    }
}
