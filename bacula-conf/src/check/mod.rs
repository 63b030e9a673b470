//! What Bacula's own `-t` lets pass, and what it explains badly.

mod apparmor;
mod changer;
mod daemons;
mod directives;
mod jobs;
mod lines;
mod machine;
mod names;
mod passwords;
mod pools;
mod repeats;
mod unit;
mod values;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::diagnostic::{self, ParseError};
use crate::host::Host;
use crate::resources::{Resource, Set};
use crate::rotation::Rotation;
use crate::text::{Position, Span};
use crate::tree::Document;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Works, until one day it doesn't.
    Warning,
    /// Does not work, or loses data.
    Error,
}

/// Something that is wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Stable name of the check, e.g. `media-type`.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and why it matters; never holds a password.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The place in bytes.
    #[serde(skip)]
    pub span: Span,
}

impl Finding {
    /// Shows the finding with the line it is in; `text` is the file's text. Passwords are not shown.
    pub fn render(&self, text: &str) -> String {
        let title = format!("{}[{}]: {}", self.severity, self.check, self.message);
        diagnostic::render(&title, &self.file.to_string_lossy(), text, self.span, Some(&self.remedy))
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { check, severity, line, column, message, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}[{check}]: {message}", self.file.display())
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Checks the configuration files of one site together: those of the daemons, the consoles and the changer.
///
/// Files are told apart by what they hold. A check that needs a file which is not there is left out.
///
/// # Examples
/// ```
/// let text = "Autochanger {\n  Name = c\n  Device = d\n  Changer Command = x\n  Changer Device = y\n}\n\
///             Device {\n  Name = d\n  Media Type = File\n  Archive Device = /var/lib/offsite/c0/0\n}\n";
/// let findings = bacula_conf::check(&[("/etc/bacula/bacula-sd.conf".into(), text.into())]);
/// assert!(findings.iter().any(|finding| finding.check == "device-autochanger" && finding.line == 7));
/// ```
pub fn check(files: &[(PathBuf, String)]) -> Vec<Finding> {
    let (parsed, mut findings) = parse(files);
    let set = Set::new(files, &parsed);
    let mut report = Report { files, findings: Vec::new() };
    directives::check(&set, &mut report);
    lines::check(&set, &mut report);
    daemons::check(&set, &mut report);
    names::check(&set, &mut report);
    passwords::check(&set, &mut report);
    changer::check(&set, &mut report);
    jobs::check(&set, &mut report);
    pools::check(&set, &mut report);
    repeats::check(&set, &mut report);
    findings.append(&mut report.findings);
    sorted(findings)
}

/// Checks what the configuration asks of the machine: paths with the rights that the daemons need, room for volumes,
/// and that neither systemd nor AppArmor forbids the changer its work.
///
/// Findings may be in files that were not given, such as a unit of systemd's.
pub fn check_machine(files: &[(PathBuf, String)], host: &dyn Host) -> Vec<Finding> {
    let (parsed, _) = parse(files);
    let set = Set::new(files, &parsed);
    let mut report = Report { files, findings: Vec::new() };
    machine::check(&set, host, &mut report);
    sorted(report.findings)
}

/// Checks that the pools of the changer keep their volumes longer than the drives are on their way.
pub fn check_rotation(files: &[(PathBuf, String)], rotation: &Rotation) -> Vec<Finding> {
    let (parsed, _) = parse(files);
    let set = Set::new(files, &parsed);
    let mut report = Report { files, findings: Vec::new() };
    pools::check_rotation(&set, rotation, &mut report);
    sorted(report.findings)
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (&a.file, a.line, a.column, a.check).cmp(&(&b.file, b.line, b.column, b.check)));
    findings.dedup();
    findings
}

/// The trees of the files, `None` for those that can't be parsed, which are findings.
fn parse(files: &[(PathBuf, String)]) -> (Vec<Option<Document>>, Vec<Finding>) {
    let mut findings = Vec::new();
    let parsed = files.iter().map(|(path, text)| match document(text) {
        Ok(document) => Some(document),
        Err(error) => {
            let remedy = error.kind.hint().unwrap_or_else(|| "correct the line".to_owned());
            findings.push(finding(
                "syntax",
                Severity::Error,
                path,
                text,
                error.span,
                error.kind.to_string(),
                remedy,
            ));
            None
        }
    });
    let parsed = parsed.collect();
    (parsed, findings)
}

/// The tree of a file of Bacula's or of the changer's.
fn document(text: &str) -> Result<Document, ParseError> {
    changer::modern_keys(text).map_or_else(|| text.parse(), |text| text.parse())
}

pub(crate) fn finding(
    check: &'static str,
    severity: Severity,
    path: &Path,
    text: &str,
    span: Span,
    message: String,
    remedy: String,
) -> Finding {
    let Position { line, column } = Position::of(text, span.start);
    Finding { check, severity, file: path.to_owned(), line, column, message, remedy, span }
}

/// Collects findings; each names the check once.
struct Report<'a> {
    files: &'a [(PathBuf, String)],
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn error(
        &mut self,
        check: &'static str,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, Severity::Error, place, message.into(), remedy.into());
    }

    fn warning(
        &mut self,
        check: &'static str,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, Severity::Warning, place, message.into(), remedy.into());
    }

    fn add(
        &mut self,
        check: &'static str,
        severity: Severity,
        place: Place,
        message: String,
        remedy: String,
    ) {
        if let Some((path, text)) = self.files.get(place.file) {
            self.findings.push(finding(check, severity, path, text, place.span, message, remedy));
        }
    }
}

/// A place in one of the files.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    span: Span,
}

impl Place {
    /// Where a resource starts.
    fn of(resource: &Resource<'_>) -> Self {
        Self { file: resource.file, span: resource.block.span() }
    }

    /// The value of a directive, or the start of the resource that lacks it.
    fn value(resource: &Resource<'_>, key: &str) -> Self {
        match resource.placed(key) {
            Some((file, directive)) => Self { file, span: directive.value().span() },
            None => Self::of(resource),
        }
    }

    /// A directive's key: for what must not be shown itself.
    fn key(resource: &Resource<'_>, key: &str) -> Self {
        match resource.placed(key) {
            Some((file, directive)) => Self { file, span: directive.span() },
            None => Self::of(resource),
        }
    }
}
