//! `offsite key rotate`: a new key takes the place of the site's, drive by drive.
//!
//! Three states, each of them written in site.toml before it is acted on, so that an interrupted run goes on:
//! nothing under way; a `next_key_file` that drives get beside their own; a new `key_file` and `old_key_files` that
//! are removed. Between the last two a copy of the new key is proven: a burnt-down server must not take with it
//! the only key that still opens the drives.

use std::path::{Path, PathBuf};

use luks_core::{Secret, generate_key_file};

use super::{escrow, status};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::protocol::socket;
use crate::records::key_copies::{self, Done};
use crate::records::keyring::{Keyring, Role, check_fingerprint};
use crate::site::description::Site;
use crate::site::{edit, key_file};

/// Length of the new key file in bytes.
const KEY_BYTES: usize = 4096;

/// Takes the next step that can be taken, and says what the one after it needs.
pub(super) fn run(
    root: &Root,
    copies: &[PathBuf],
    identity: Option<&Path>,
    without_copy: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let proven = !copies.is_empty() || without_copy;
    match &site.next_key_file {
        None if !site.old_key_files.is_empty() => finish(root, site, dry_run),
        None if !copies.is_empty() => {
            Err(Failure::new(Exit::Usage, "there is no new key yet that this could be a copy of")
                .hint("make it first: offsite key rotate"))
        }
        None if dry_run => {
            println!(
                "would make {} and add it to each drive that is plugged",
                free_path(root, &site).display()
            );
            Ok(())
        }
        None => {
            let next = free_path(root, &site);
            let site = edit::set_keys(root, &Site { next_key_file: Some(next.clone()), ..site })?;
            let site = begin(root, site, &next, None, !proven)?;
            if proven { exchange(root, site, &next, None, false) } else { Ok(()) }
        }
        Some(next) => {
            let next = next.clone();
            refuse_itself(root, &next, copies)?;
            let copy = (!copies.is_empty()).then(|| escrow::bring_back(copies, identity)).transpose()?;
            let copy = copy.as_ref();
            if dry_run && !proven {
                println!(
                    "{} is being added to each drive that is plugged; next: --copy PATH",
                    next.display()
                );
            }
            let site = if dry_run { site } else { begin(root, site, &next, copy, !proven)? };
            if proven {
                exchange(root, site, &next, copy, dry_run)?;
            }
            if let Some(copy) = copy.filter(|_| !dry_run) {
                key_copies::note(root, copy.fingerprint(), Done::Tested);
            }
            Ok(())
        }
    }
}

/// A name beside the site's key file that no file has.
fn free_path(root: &Root, site: &Site) -> PathBuf {
    let stem = site.key_file.to_string_lossy();
    let stem =
        stem.rsplit_once('-').filter(|(_, end)| end.parse::<u32>().is_ok()).map_or(&*stem, |(stem, _)| stem);
    let mut number = 2_u64;
    loop {
        let path = PathBuf::from(format!("{stem}-{number}"));
        if root.join(&path).symlink_metadata().is_err() {
            return path;
        }
        number += 1;
    }
}

/// Makes the next key unless an interrupted run did, notes which one it is, and has the daemon add it.
///
/// A key that was noted and is gone is never made anew: drives may take it already, and its copy is in the safe.
fn begin(
    root: &Root,
    site: Site,
    next: &Path,
    copy: Option<&Secret>,
    explain: bool,
) -> Result<Site, Failure> {
    let path = root.join(next);
    if path.symlink_metadata().is_err() {
        match (site.next_key_fingerprint, copy) {
            (None, _) => drop(generate_key_file(&path, KEY_BYTES).or_fail("no key file was made")?),
            (expected, Some(copy)) => {
                check_fingerprint(expected, copy.fingerprint())?;
                escrow::save(&path, copy)?;
                println!("{}: brought back from the copy", path.display());
            }
            (Some(expected), None) => {
                let lost = format!("the next key {} ({expected}) is missing", path.display());
                return Err(Failure::new(Exit::NotThere, lost).hint(
                    "drives may take it already; bring the copy back: offsite key rotate --copy PATH",
                ));
            }
        }
    }
    let print = key_file::load(&path)?.fingerprint();
    check_fingerprint(site.next_key_fingerprint, print)?;
    let site = if site.next_key_fingerprint.is_none() {
        edit::set_keys(root, &Site { next_key_fingerprint: Some(print), ..site })?
    } else {
        site
    };
    socket::reload(root);
    if explain {
        println!("{}: the next key, {print}", path.display());
        println!("Each drive takes it, beside the old one, when it is plugged: offsite key status");
        println!("Put a copy of it into the safe, and prove it: offsite key rotate --copy PATH-OF-THE-COPY");
    }
    Ok(site)
}

fn refuse_itself(root: &Root, next: &Path, copies: &[PathBuf]) -> Result<(), Failure> {
    match copies.iter().find(|copy| same_file(copy, &root.join(next))) {
        None => Ok(()),
        Some(copy) => {
            Err(Failure::new(Exit::Refused, format!("{} is the key itself, no copy", copy.display()))
                .hint("name the copy that goes into the safe, or give --without-copy"))
        }
    }
}

/// Makes the next key the site's; from now on the old one is removed from drives that take the new one.
fn exchange(
    root: &Root,
    site: Site,
    next: &Path,
    copy: Option<&Secret>,
    dry_run: bool,
) -> Result<(), Failure> {
    let print = key_file::load(&root.join(next))?.fingerprint();
    if let Some(found) = copy.map(Secret::fingerprint).filter(|found| *found != print) {
        return Err(Failure::new(Exit::Refused, format!("the copy is the key {found}, not {print}"))
            .hint(format!("make a new copy of {}", next.display())));
    }
    if dry_run {
        println!("would remove the old key {} from each drive that is plugged", site.key_file.display());
        return Ok(());
    }
    let mut old = site.old_key_files.clone();
    old.push(site.key_file.clone());
    let site = Site {
        key_file: next.to_owned(),
        key_fingerprint: Some(print),
        next_key_file: None,
        next_key_fingerprint: None,
        old_key_files: old,
        ..site
    };
    edit::set_keys(root, &site)?;
    socket::reload(root);
    println!("{}: the site's key now, {print}", next.display());
    println!("The old one is removed from each drive when it is plugged: offsite key status");
    println!(
        "Keep the copy of the old key until the last drive has come home: it opens those that are away."
    );
    println!("When no drive takes it any more: offsite key rotate");
    Ok(())
}

/// Forgets the old keys when no drive takes them any more.
fn finish(root: &Root, site: Site, dry_run: bool) -> Result<(), Failure> {
    let keys = Keyring::load(root, &site)?;
    let waiting: Vec<String> = status::rows(root, &site, &keys)?
        .into_iter()
        .filter(|row| row.takes(Role::Current) != Some(true) || row.takes(Role::Old) != Some(false))
        .map(|row| row.name)
        .collect();
    if !waiting.is_empty() {
        socket::reload(root);
        println!("still to come home: {}", waiting.join(", "));
        println!("Each of them is seen to when it is plugged while offsited runs.");
        println!(
            "Keep the copy of the old key until then: without it a drive that is still away can't be read."
        );
        return Ok(());
    }
    if !keys.problems.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            format!("an old key can't be tried: {}", keys.problems.join("; ")),
        )
        .hint("bring it back, or take it out of old_key_files in site.toml"));
    }
    if dry_run {
        println!("would forget {}", shown(&site.old_key_files));
        return Ok(());
    }
    let old = site.old_key_files.clone();
    edit::set_keys(root, &Site { old_key_files: Vec::new(), ..site })?;
    socket::reload(root);
    println!(
        "No drive takes the old key any more. Destroy it and its copies, and old header backups: {}",
        shown(&old)
    );
    Ok(())
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let node = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    node(a).is_some() && node(a) == node(b)
}
