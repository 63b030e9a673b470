//! What Bacula's own `-t` lets pass, and what it explains badly.

mod apparmor;
mod changer;
mod daemons;
mod directives;
pub(crate) mod includes;
mod jobs;
mod lines;
mod machine;
mod names;
mod need;
mod passwords;
mod pools;
mod repeats;
pub(crate) mod report;
mod unit;
mod values;

use std::path::PathBuf;

use report::{Finding, Report, Severity, finding};

use crate::rotation::turns::Rotation;
use crate::schema::host::Host;
use crate::schema::resources::Set;
use crate::syntax::diagnostic::ParseError;
use crate::syntax::tree::Document;

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
