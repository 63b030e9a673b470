//! `offsite key status`: which drive takes which key.

use luks_core::{Container, Fingerprint, LuksUuid};
use mount_by_uuid::System;
use serde::Serialize;

use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::report;
use crate::records::header_backups;
use crate::records::keyring::{self, Keyring, Role};
use crate::site::description::{Magazine, Site};

/// A key of the site, as it is told of.
#[derive(Debug, Serialize)]
struct Known {
    role: Role,
    fingerprint: Fingerprint,
    path: String,
}

/// Which keys a drive takes, by their roles.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// By the registered header backup; none when there is none that can be read.
    pub(super) backup: Option<Vec<Role>>,
    /// By the drive itself; none when it isn't plugged.
    pub(super) drive: Option<Vec<Role>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
}

impl Row {
    /// The drive's own word where it is plugged, else that of its backup.
    pub(super) fn takes(&self, role: Role) -> Option<bool> {
        let keys = self.drive.as_ref().or(self.backup.as_ref())?;
        Some(keys.contains(&role))
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    keys: &'a [Known],
    drives: &'a [Row],
}

/// Shows every key and every drive.
pub(super) fn run(root: &Root, json: bool) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let keys = Keyring::load(root, &site)?;
    let rows = rows(root, &site, &keys)?;
    let known: Vec<Known> = keys
        .keys()
        .iter()
        .map(|key| Known {
            role: key.role,
            fingerprint: key.secret.fingerprint(),
            path: key.path.display().to_string(),
        })
        .collect();
    if json {
        report::json(&Report { keys: &known, drives: &rows })?;
    } else {
        print(&known, &rows, &keys.problems);
    }
    let without: Vec<&str> = rows
        .iter()
        .filter(|row| row.takes(Role::Current) == Some(false))
        .map(|row| row.name.as_str())
        .collect();
    if !without.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            format!("the site's key doesn't open {}", without.join(", ")),
        )
        .hint("plug them in while offsited runs, with an older key in old_key_files"));
    }
    let unknown: Vec<&str> =
        rows.iter().filter(|row| row.takes(Role::Current).is_none()).map(|row| row.name.as_str()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::NotThere, format!("nothing is known of {}", unknown.join(", ")))
        .hint("plug them in: headers are backed up when drives are unlocked"))
}

/// Looks at every encrypted drive's backup, and at the drives that are plugged.
pub(super) fn rows(root: &Root, site: &Site, keys: &Keyring) -> Result<Vec<Row>, Failure> {
    let devices = System::new(root.kernel()).scan().or_fail("cannot look for drives")?;
    let row = |magazine: &Magazine, luks: LuksUuid| {
        let mut problems = Vec::new();
        let backup = header_backups::load(root, luks, &magazine.name)
            .and_then(|copy| roles(keys, &copy))
            .map_err(|failure| problems.push(failure.message().to_owned()))
            .ok();
        let plugged = devices.iter().find(|device| device.tag.as_ref() == Some(&magazine.tag()));
        let drive = plugged.and_then(|device| {
            Container::load(&device.path)
                .or_fail(format!("cannot read the header of {magazine}"))
                .and_then(|container| roles(keys, &container))
                .map_err(|failure| problems.push(failure.message().to_owned()))
                .ok()
        });
        Row { name: magazine.name.clone(), backup, drive, problems }
    };
    Ok(site.magazines.iter().filter_map(|magazine| Some(row(magazine, magazine.luks_uuid?))).collect())
}

fn roles(keys: &Keyring, container: &Container) -> Result<Vec<Role>, Failure> {
    let mut taken = Vec::new();
    for key in keys.keys() {
        if keyring::opens(container, &key.secret)? && !taken.contains(&key.role) {
            taken.push(key.role);
        }
    }
    Ok(taken)
}

fn print(known: &[Known], rows: &[Row], problems: &[String]) {
    for Known { role, fingerprint, path } in known {
        println!("{:7}  {fingerprint}  {path}", word(*role));
    }
    for problem in problems {
        println!("problem  {problem}");
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let words = |roles: &Option<Vec<Role>>, absent: &str| match roles.as_deref() {
        None => absent.to_owned(),
        Some([]) => "no key of this site".to_owned(),
        Some(roles) => roles.iter().map(|role| word(*role)).collect::<Vec<_>>().join(" and "),
    };
    for row in rows {
        let (backup, drive) = (words(&row.backup, "none"), words(&row.drive, "away"));
        println!("{:width$}  backup: {backup:20}  drive: {drive}", row.name);
        for problem in &row.problems {
            println!("{:width$}    problem: {problem}", "");
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Current => "current",
        Role::Next => "next",
        Role::Old => "old",
    }
}
