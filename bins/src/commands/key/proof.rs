//! `offsite key test`: proves a copy of the key while the drives are away.

use std::path::{Path, PathBuf};

use luks_core::{KeySlot, Secret, TestKeyError};
use serde::Serialize;

use super::escrow;
use crate::base::failure::{Exit, Failure, chain};
use crate::base::paths::Root;
use crate::base::{report, secret_input};
use crate::records::header_backups;
use crate::records::key_copies::{self, Done};
use crate::site::description::{Magazine, Site};
use crate::site::key_file;

/// What a copy of the key is good for on one drive.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// The header backup is there and the copy opens it.
    opens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<KeySlot>,
    /// Why nothing was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

impl Row {
    fn of(root: &Root, magazine: &Magazine, key: &Secret) -> Option<Self> {
        let luks = magazine.luks_uuid?;
        let failed = |exit, problem: String| Self {
            name: magazine.name.clone(),
            opens: false,
            slot: None,
            problem: Some(problem),
            exit: Some(exit),
        };
        let copy = match header_backups::load(root, luks, &magazine.name) {
            Ok(copy) => copy,
            Err(failure) => return Some(failed(failure.exit(), failure.message().to_owned())),
        };
        Some(match copy.test_key(key) {
            Ok(slot) => {
                Self { name: magazine.name.clone(), opens: true, slot: Some(slot), problem: None, exit: None }
            }
            Err(TestKeyError::WrongKey { .. }) => {
                failed(Exit::Failed, "it opens no slot of this drive".to_owned())
            }
            Err(error) => failed(Exit::Failed, chain(&error)),
        })
    }
}

/// Opens every header backup with a copy, whatever its form, or with a recovery key that is typed.
pub(super) fn run(
    root: &Root,
    copies: &[PathBuf],
    identity: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let (mut copy, mut other_length) = (None, None);
    let rows = if copies.is_empty() {
        rows(root, &site, secret_input::recovery_key()?.secret())
    } else {
        let key = escrow::bring_back(copies, identity)?;
        if !json {
            let shown: Vec<_> = copies.iter().map(|path| path.display().to_string()).collect();
            println!("{}: the key {}", shown.join(", "), key.fingerprint());
        }
        copy = Some(key.fingerprint());
        other_length = key_file::load(&root.join(&site.key_file))
            .ok()
            .map(|site| site.len())
            .filter(|length| *length != key.len())
            .map(|length| (key.len(), length));
        rows(root, &site, &key)
    };
    if json {
        report::json(&rows)?;
    } else {
        print(&rows);
    }
    if rows.is_empty() {
        return Err(Failure::new(Exit::NotThere, "no encrypted drive is enrolled, so nothing was proven"));
    }
    let count = |exit| rows.iter().filter(|row| row.exit == Some(exit)).count();
    match (count(Exit::Failed), count(Exit::NotThere)) {
        (0, 0) => {
            // The key file itself is no copy.
            let own = root.join(&site.key_file).canonicalize().ok();
            let is_own = own.is_some() && copies.iter().any(|copy| copy.canonicalize().ok() == own);
            if let Some(key) = copy.filter(|_| !is_own) {
                key_copies::note(root, key, Done::Tested);
            }
            Ok(())
        }
        (0, missing) => Err(Failure::new(
            Exit::NotThere,
            format!(
                "{missing} of {} drives have no header backup, so nothing is proven for them",
                rows.len()
            ),
        )
        .hint("plug them in: headers are backed up when drives are unlocked")),
        (wrong, _) => Err(Failure::new(
            Exit::Failed,
            format!("this key would not open {wrong} of {} drives", rows.len()),
        )
        .hint(match other_length {
            Some((copy, site)) => format!(
                "the copy has {copy} bytes and the site's key {site}: it was changed on its way, as an editor does that \
                 adds a line end; make a new one, or have `offsite key import` undo it"
            ),
            None => "`offsite key status` tells which drive takes which key".to_owned(),
        })),
    }
}

fn rows(root: &Root, site: &Site, key: &Secret) -> Vec<Row> {
    site.magazines.iter().filter_map(|magazine| Row::of(root, magazine, key)).collect()
}

fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for Row { name, slot, problem, .. } in rows {
        let said = match (slot, problem) {
            (Some(slot), _) => format!("opens (slot {slot})"),
            (None, problem) => format!("NOT OPENED: {}", problem.as_deref().unwrap_or_default()),
        };
        println!("{name:width$}  {said}");
    }
}
