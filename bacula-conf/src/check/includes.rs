//! Following `@file`, and `@|command` where that is asked for; reading and running are the caller's.

use std::io;
use std::path::{Path, PathBuf};

use super::report::{Finding, Severity, finding};
use crate::schema::resources::{all_includes, is_included};
use crate::syntax::tree::{Document, Include};

/// How deep files may include each other; Bacula itself goes on until it can open no more of them.
const MAX_DEPTH: usize = 32;

/// Where included text comes from.
pub trait Includes {
    /// Reads a file by its absolute path.
    fn read(&mut self, path: &Path) -> io::Result<String>;

    /// Runs a command and returns what it prints; `None` where commands are not to be run, as is the rule.
    fn run(&mut self, _command: &str) -> Option<io::Result<String>> {
        None
    }
}

/// Adds the files that the given ones include, and those that these include; a name that begins with no `/` is looked
/// for beside the file that it stands in.
///
/// What can't be followed is a finding: a file that is not there, one that includes itself, a chain that never ends.
///
/// # Examples
/// ```
/// use bacula_conf::{Includes, follow};
/// use std::io::{Error, ErrorKind, Result};
/// use std::path::Path;
///
/// struct Disk;
/// impl Includes for Disk {
///     fn read(&mut self, path: &Path) -> Result<String> {
///         match path == Path::new("/etc/bacula/jobs.conf") {
///             true => Ok("Pool {\n  Name = A\n  Pool Type = Backup\n}\n".to_owned()),
///             false => Err(Error::from(ErrorKind::NotFound)),
///         }
///     }
/// }
/// let given = vec![("/etc/bacula/bacula-dir.conf".into(), "@/etc/bacula/jobs.conf\n@|\"rm -rf /\"\n".to_owned())];
/// let (files, findings) = follow(given, &mut Disk);
/// assert_eq!((files.len(), findings.len()), (2, 0), "the command was not run");
/// ```
pub fn follow(
    given: Vec<(PathBuf, String)>,
    includes: &mut dyn Includes,
) -> (Vec<(PathBuf, String)>, Vec<Finding>) {
    let mut walk = Walk { includes, files: given, findings: Vec::new() };
    let mut next = 0;
    let mut chains: Vec<Vec<usize>> = (0..walk.files.len()).map(|index| vec![index]).collect();
    while let Some(chain) = chains.get(next).cloned() {
        walk.file(&chain, &mut chains);
        next += 1;
    }
    walk.findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    walk.findings.dedup();
    (walk.files, walk.findings)
}

struct Walk<'a> {
    includes: &'a mut dyn Includes,
    files: Vec<(PathBuf, String)>,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    /// Looks at the last file of a chain of includes; what is new there is appended.
    fn file(&mut self, chain: &[usize], chains: &mut Vec<Vec<usize>>) {
        let Some((path, text)) = chain.last().and_then(|index| self.files.get(*index)).cloned() else {
            return;
        };
        let Ok(document) = text.parse::<Document>() else { return };
        for include in all_includes(&document) {
            let say = |check, severity, message: String, remedy: &str| {
                finding(check, severity, &path, &text, include.span(), message, remedy.to_owned())
            };
            if let Some(found) = self.known(&path, include) {
                if chain.contains(&found) {
                    let names: Vec<_> = chain
                        .iter()
                        .skip_while(|index| **index != found)
                        .filter_map(|index| self.files.get(*index))
                        .map(|(path, _)| path.display().to_string())
                        .collect();
                    self.findings.push(say(
                        "include-loop",
                        Severity::Error,
                        format!("this file is included by itself, over {}: Bacula reads on until it can open no more files", names.join(", ")),
                        "remove one of the includes",
                    ));
                } else if !chains
                    .iter()
                    .any(|other| other.last() == Some(&found) && other.len() == chain.len() + 1)
                    && chain.len() < MAX_DEPTH
                {
                    // Seen before by another way; a loop over this way still has to be found.
                    chains.push([chain, &[found]].concat());
                }
                continue;
            }
            if chain.len() >= MAX_DEPTH {
                self.findings.push(say(
                    "include-depth",
                    Severity::Error,
                    format!("includes are nested more than {MAX_DEPTH} deep"),
                    "include the files from one place",
                ));
                continue;
            }
            match self.fetch(&path, include) {
                None => {}
                Some(Ok(file)) => {
                    chains.push([chain, &[self.files.len()]].concat());
                    self.files.push(file);
                }
                Some(Err(error)) => self.findings.push(say(
                    "include-missing",
                    Severity::Error,
                    format!(
                        "{} can't be read ({error}): Bacula does not start",
                        include.raw().trim_start_matches('@')
                    ),
                    "correct the name, or remove the line",
                )),
            }
            if include.path().is_some_and(|named| !named.starts_with('/')) {
                self.findings.push(say(
                    "include-relative",
                    Severity::Warning,
                    "Bacula looks for this where the daemon was started, which is / under systemd, not beside this file".to_owned(),
                    "write the whole path",
                ));
            }
        }
    }

    fn known(&self, from: &Path, include: &Include) -> Option<usize> {
        self.files.iter().position(|(path, _)| match include.path() {
            Some(named) => is_included(path, from, named),
            None => path == Path::new(include.raw()),
        })
    }

    fn fetch(&mut self, from: &Path, include: &Include) -> Option<io::Result<(PathBuf, String)>> {
        if let Some(named) = include.path() {
            let path = from.parent().unwrap_or(Path::new("/")).join(named);
            return Some(self.includes.read(&path).map(|text| (path, text)));
        }
        let command = include.raw().strip_prefix("@|")?.trim_matches('"').to_owned();
        Some(self.includes.run(&command)?.map(|text| (PathBuf::from(include.raw()), text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk<'a> {
        files: &'a [(&'a str, &'a str)],
        /// What a command prints; no command is run without it.
        prints: Option<&'a str>,
        asked: Vec<String>,
    }

    impl Includes for Disk<'_> {
        fn read(&mut self, path: &Path) -> io::Result<String> {
            let found = self.files.iter().find(|(other, _)| Path::new(other) == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }

        fn run(&mut self, command: &str) -> Option<io::Result<String>> {
            self.asked.push(command.to_owned());
            Some(Ok(self.prints?.to_owned()))
        }
    }

    fn followed(files: &[(&str, &str)], prints: Option<&str>) -> (usize, Vec<String>) {
        let mut disk = Disk { files, prints, asked: Vec::new() };
        let first =
            files.iter().take(1).map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let (files, findings) = follow(first, &mut disk);
        assert!(disk.asked.iter().all(|command| command == "sh -c 'cat /e/*.d'"), "{:?}", disk.asked);
        (files.len(), findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn files_are_followed_wherever_they_are_named() {
        let files = [
            ("/e/d.conf", "Director {\n  Name = d\n  @/e/secret\n}\n@\"/e/with blank\"\n"),
            ("/e/secret", "Password = x\n"),
            ("/e/with blank", "@/e/deep\n"),
            ("/e/deep", "Pool {\n  Name = p\n}\n"),
        ];
        assert_eq!(followed(&files, None), (4, vec![]));
    }

    #[test]
    fn loops_end_and_are_shown() {
        let (count, findings) =
            followed(&[("/e/a", "@/e/b\n"), ("/e/b", "\n  @/e/c\n"), ("/e/c", "@/e/a\n")], None);
        assert_eq!(count, 3);
        assert_eq!(
            findings,
            [
                "/e/c:1:1: error[include-loop]: this file is included by itself, over /e/a, /e/b, /e/c: Bacula reads on until it can open no more files"
            ]
        );
        assert_eq!(followed(&[("/e/a", "@/e/a\n")], None).1.len(), 1);
    }

    #[test]
    fn what_is_not_there_is_shown_at_its_place() {
        let (_, findings) = followed(&[("/e/a", "# first\nPool {\n  @nothing\n}\n")], None);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(
            findings[0].starts_with("/e/a:3:3: error[include-missing]: nothing can't be read"),
            "{findings:?}"
        );
        assert!(findings[1].starts_with("/e/a:3:3: warning[include-relative]"), "{findings:?}");
    }

    #[test]
    fn a_chain_has_an_end() {
        let names: Vec<String> = (0..40).map(|number| format!("/e/{number}")).collect();
        let texts: Vec<String> = (1..41).map(|number| format!("@/e/{number}\n")).collect();
        let files: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        let (count, findings) = followed(&files, None);
        assert_eq!(count, MAX_DEPTH);
        assert!(findings[0].contains("include-depth"), "{findings:?}");
    }

    #[test]
    fn a_command_runs_only_when_asked_for() {
        let files = [("/e/a", "@|\"sh -c 'cat /e/*.d'\"\n"), ("/e/b", "Pool {\n  Name = b\n}\n")];
        assert_eq!(followed(&files, None), (1, vec![]));
        assert_eq!(followed(&files, Some("@/e/b\n")), (3, vec![]));
    }
}
