//! `offsite conf --check`: cross-checks of our own, then Bacula's own programs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bacula_conf::{Finding, Host as _, Program as Reader, Severity, hide_passwords_of};
use nix::unistd::geteuid;
use serde::Serialize;

use super::live;
use super::machine::Machine;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::program::account::Account;
use crate::base::program::{Program, locate};
use crate::base::report;
use crate::commands::arguments::Conf;
use crate::site::description::Site;

/// The programs that can test a file, what the file is called, and as whose user the program runs.
const TESTERS: [(&str, &str, Reader); 4] = [
    ("bacula-dir.conf", "bacula-dir", Reader::Director),
    ("bacula-sd.conf", "bacula-sd", Reader::Storage),
    ("bacula-fd.conf", "bacula-fd", Reader::Director),
    ("bconsole.conf", "bconsole", Reader::Director),
];

/// A configuration with all that was found in it.
pub(crate) struct Checked {
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) findings: Vec<Finding>,
    /// Files beside it that nothing includes.
    pub(crate) unread: Vec<PathBuf>,
}

/// What one of Bacula's programs says of its file; no answer where it wasn't asked.
#[derive(Serialize)]
struct Test {
    file: PathBuf,
    program: &'static str,
    accepted: Option<bool>,
    /// Its own words, where it refuses the file, or why it wasn't asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
    programs: &'a [Test],
    unread: &'a [PathBuf],
}

/// Checks the configuration below `directory`, or the installed one.
pub(super) fn run(root: &Root, directory: Option<&Path>, options: &Conf) -> Result<(), Failure> {
    let site = root.site_toml().exists().then(|| Site::load(root)).transpose()?;
    let installed = installed(root, site.as_ref());
    let directory = directory.map_or(installed, Path::to_owned);
    let checked = examine(root, &directory, site.as_ref(), options.run_includes)?;
    let tests = checked.tests(root, options.run_includes)?;
    if options.json {
        report::json(&Report { findings: &checked.findings, programs: &tests, unread: &checked.unread })?;
    } else {
        for finding in &checked.findings {
            print!("{}\n", checked.shown(root, finding)); // with the lines of the file around it
        }
        for Test { file, program, accepted, said } in &tests {
            let (file, said) = (file.display(), said.as_deref().unwrap_or_default());
            match accepted {
                Some(true) => println!("{file}: {program} accepts it"),
                Some(false) => {
                    println!("{file}: {program} refuses it:");
                    said.lines().for_each(|line| println!("  | {line}"));
                }
                None => println!("{file}: not tested by {program}: {said}"),
            }
        }
        for path in &checked.unread {
            println!("{}: not looked at, nothing includes it", path.display());
        }
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
    let live::Live { files, mut findings, unread } = live::read(root, directory, run_includes)?;
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
        findings.extend(on_machine(root, &files));
    }
    Ok(Checked { files, findings, unread })
}

/// What the machine stands in the way of. It knows the files by the paths that the daemons use.
fn on_machine(root: &Root, files: &[(PathBuf, String)]) -> Vec<Finding> {
    let seen = |path: &Path| {
        path.strip_prefix(root.path()).map_or_else(|_| path.to_owned(), |p| Path::new("/").join(p))
    };
    let installed: Vec<_> = files.iter().map(|(path, text)| (seen(path), text.clone())).collect();
    let mut findings = bacula_conf::check_machine(&installed, &Machine::new(root));
    for finding in &mut findings {
        if let Some((path, _)) = files.iter().find(|(path, _)| seen(path) == finding.file) {
            path.clone_into(&mut finding.file);
        }
    }
    findings
}

impl Checked {
    /// A finding with the line that it is about; it may be in a file that isn't Bacula's.
    fn shown(&self, root: &Root, finding: &Finding) -> String {
        match self.files.iter().find(|(path, _)| *path == finding.file) {
            Some((_, text)) => finding.render(text),
            None => finding.render(&live::text(&root.join(&finding.file)).unwrap_or_default()),
        }
    }

    /// Asks Bacula's own programs.
    fn tests(&self, root: &Root, run_includes: bool) -> Result<Vec<Test>, Failure> {
        // A program's own test runs what such an include or path holds.
        let commands = |finding: &Finding| matches!(finding.check, "include-command" | "shell-path");
        let commands = !run_includes && self.findings.iter().any(commands);
        let machine = Machine::new(root);
        let configuration: String = self.files.iter().map(|(_, text)| text.as_str()).collect();
        let mut tests = Vec::new();
        for (path, _) in &self.files {
            let tester = TESTERS.iter().find(|(name, ..)| path.file_name().is_some_and(|n| n == *name));
            let Some((_, program, reader)) = tester else { continue };
            let unasked = |said: &str| Test {
                file: path.clone(),
                program,
                accepted: None,
                said: Some(said.to_owned()),
            };
            tests.push(if locate(program).is_none() {
                unasked("it isn't installed")
            } else if commands {
                unasked("it would run the commands in these files (--run-includes)")
            } else {
                test(program, path, machine.account(*reader), &configuration)?
            });
        }
        Ok(tests)
    }
}

/// Runs a program's own test, as the user who runs the program every day: root could read anything, and must not run
/// what others may write into these files.
fn test(
    program: &'static str,
    path: &Path,
    account: Option<bacula_conf::Account>,
    configuration: &str,
) -> Result<Test, Failure> {
    let file = path.to_owned();
    let path = path.canonicalize().or_fail(format!("cannot find {}", path.display()))?;
    let mut tester = Program::find(program, "bacula")?.args(["-t", "-c"]).args([&path]);
    // The file daemon and the console are root's programs, as long as their files are.
    let own = !matches!(program, "bacula-fd" | "bconsole") || !is_roots(&path);
    if let Some(account) = account.filter(|_| own && geteuid().is_root()) {
        let gid = account.gids.first().copied().unwrap_or(account.uid);
        tester = tester.user(Account { uid: account.uid, gid, groups: account.gids });
    }
    let finished = tester.run()?;
    let accepted = finished.code == Some(0);
    // Bacula quotes what it doesn't like.
    let said = (!accepted).then(|| hide_passwords_of(configuration, &finished.text));
    Ok(Test { file, program, accepted: Some(accepted), said })
}

/// Whether only root may write a file.
fn is_roots(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
}
