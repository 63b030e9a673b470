//! What AppArmor may forbid the storage daemon, and so the changer that it runs.

use std::path::{Path, PathBuf};

use super::need::Need;
use super::report::{Report, Severity, finding};
use crate::schema::host::{Host, Want};
use crate::schema::resources::Set;
use crate::syntax::text::Span;

const PROFILES: &str = "/etc/apparmor.d";

/// The programs that run the changer.
const DAEMONS: [&str; 2] = ["/usr/sbin/bacula-sd", "/usr/sbin/bareos-sd"];

/// A rule for files: what it covers, and the rights that it gives.
struct Rule {
    pattern: String,
    rights: String,
}

/// A profile that confines a storage daemon.
struct Profile {
    file: PathBuf,
    text: String,
    span: Span,
    rules: Vec<Rule>,
}

pub(super) fn check(set: &Set<'_>, needs: &[&Need], host: &dyn Host, report: &mut Report<'_>) {
    if set.virtual_changers().next().is_none() {
        return;
    }
    for file in host.list(Path::new(PROFILES)) {
        let Some(profile) = host.text(&file).and_then(|text| profile(&file, &text)) else { continue };
        let mut lacking: Vec<String> =
            needs.iter().filter(|need| !profile.allows(need)).map(|need| rule(need)).collect();
        lacking.sort();
        lacking.dedup();
        if !lacking.is_empty() {
            report.findings.push(finding(
                "apparmor",
                Severity::Error,
                &profile.file,
                &profile.text,
                profile.span,
                format!(
                    "this profile forbids the changer its work: it has no rule for {}",
                    lacking.join(" ")
                ),
                format!(
                    "add {} to /etc/apparmor.d/local, and reload with apparmor_parser -r",
                    lacking.join(" ")
                ),
            ));
        }
    }
}

/// The rule that a need takes.
fn rule(need: &Need) -> String {
    let path = need.path.display();
    match need.want {
        Want::Read => format!("{path} r,"),
        Want::Execute => format!("{path} Ux,"),
        Want::Fill => format!("{path}/** rwk,"),
        Want::Write => format!("{path} rwk,"),
    }
}

/// A profile of a storage daemon that is enforced; what it includes is not followed.
fn profile(file: &Path, text: &str) -> Option<Profile> {
    let mut start = 0;
    let mut found: Option<Profile> = None;
    let mut depth = 0_usize;
    for line in text.split_inclusive('\n') {
        let code = line.split('#').next().unwrap_or("").trim();
        if depth == 0
            && code.ends_with('{')
            && DAEMONS.iter().any(|daemon| code.split_whitespace().any(|word| word == *daemon))
        {
            if code.contains("complain") || code.contains("unconfined") {
                return None;
            }
            found = Some(Profile {
                file: file.to_owned(),
                text: text.to_owned(),
                span: Span::new(start, start + line.trim_end().len()),
                rules: Vec::new(),
            });
        } else if depth == 1
            && let Some(profile) = &mut found
            && let Some(rule) = file_rule(code)
        {
            profile.rules.push(rule);
        }
        depth = (depth + code.matches('{').count()).saturating_sub(code.matches('}').count());
        if depth == 0 && found.is_some() {
            return found;
        }
        start += line.len();
    }
    found
}

/// `/path/** rw,`, with or without `file` or `owner` before it.
fn file_rule(code: &str) -> Option<Rule> {
    let code = code.strip_suffix(',')?;
    let words: Vec<_> = code
        .split_whitespace()
        .filter(|word| !matches!(*word, "file" | "owner" | "audit" | "allow"))
        .collect();
    if code.trim() == "file" {
        return Some(Rule { pattern: "/**".to_owned(), rights: "rwkxU".to_owned() });
    }
    match words.as_slice() {
        [pattern, rights] if pattern.starts_with('/') => {
            Some(Rule { pattern: (*pattern).to_owned(), rights: (*rights).to_owned() })
        }
        _ => None,
    }
}

impl Profile {
    fn allows(&self, need: &Need) -> bool {
        let (path, wanted): (PathBuf, &[char]) = match need.want {
            Want::Read => (need.path.clone(), &['r']),
            Want::Execute => (need.path.clone(), &['x']),
            Want::Fill => (need.path.join("any"), &['r', 'w']),
            Want::Write => (need.path.clone(), &['r', 'w']),
        };
        let path = path.to_string_lossy();
        wanted.iter().all(|right| {
            self.rules.iter().any(|rule| rule.rights.contains(*right) && covers(&rule.pattern, &path))
        })
    }
}

/// AppArmor's globs as far as paths of directories need them: `**` crosses `/`, `*` does not.
fn covers(pattern: &str, path: &str) -> bool {
    let Some(star) = pattern.find('*') else { return pattern == path };
    let (literal, rest) = pattern.split_at(star);
    let Some(tail) = path.strip_prefix(literal) else { return false };
    let (rest, crosses) = match rest.strip_prefix("**") {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix('*').unwrap_or(""), false),
    };
    let most = if crosses { tail.len() } else { tail.find('/').unwrap_or(tail.len()) };
    (0..=most).filter_map(|end| tail.get(end..)).any(|tail| covers(rest, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_cross_what_they_may() {
        assert!(covers("/srv/offsite/**", "/srv/offsite/a/b"));
        assert!(!covers("/srv/offsite/*", "/srv/offsite/a/b") && covers("/srv/*/a/b", "/srv/offsite/a/b"));
        assert!(covers("/usr/bin/vchanger", "/usr/bin/vchanger") && !covers("/usr/bin", "/usr/bin/vchanger"));
        assert!(covers("/**.conf", "/etc/offsite/vchanger.conf"));
    }
}
