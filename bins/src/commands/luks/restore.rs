//! `offsite luks restore`: a ruined header is written anew from the register.
//!
//! The header of one drive on another one destroys the other's data as surely as a fire. So before a byte is written the
//! drive must be the magazine's by its serial number, the header goes where it was when it was backed up and nowhere
//! else, and something on the drive must speak for it: what is left of the header, or the data behind it, which the
//! backup shows. Without that (`--unproven`) serial number, size and place must leave no doubt.

use std::path::Path;

use luks_core::{CloseMode, Container, LoadError, OpenOptions, Secret};
use media_wipe::Identity;
use mount_by_uuid::{System, Tag};

use super::survey::{Candidate, Objection, Survey};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::{confirm, shell, superblock};
use crate::drives::identity;
use crate::drives::scoped_open::require_device_mapper;
use crate::records::header_backups;
use crate::records::keyring::Keyring;
use crate::site::description::{Magazine, Site};

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) confirmed: Option<&'a str>,
    pub(super) unproven: bool,
    pub(super) dry_run: bool,
}

/// Restores a drive's header.
pub(super) fn run(root: &Root, device: &Path, wish: &Wish<'_>) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let identity = identity::one(root, device)?;
    let magazine = magazine(&site, &identity, wish.name)?;
    let luks = magazine.luks_uuid.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("magazine {magazine} is not encrypted, so it has no such header"))
    })?;
    if let Some(refusal) = identity.refusals.first() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} can't be used now: {}", device.display(), refusal.message()),
        )
        .hint(refusal.remedy()));
    }
    let survey = Survey::make(root, &identity, luks)?;
    let candidates = survey.candidates(magazine).map_err(refused)?;
    let keys = Keyring::load(root, &site)?;
    let backup = header_backups::load(root, luks, &magazine.name)?;
    refuse_other(root, magazine, &backup)?;
    let is_changing = header_backups::is_changing(root, luks);
    candidates.iter().try_for_each(|place| refuse_sound(&place.path, &backup, is_changing, &keys))?;
    let key = &keys.opening(&backup)?.secret;
    let place = match proven(root, &survey, &candidates, &backup, key, magazine) {
        Ok(place) => place,
        Err(failure) if !wish.unproven => return Err(failure),
        Err(_) => match (survey.unproven_objection(&site, magazine, &candidates), candidates.first()) {
            (None, Some(only)) => only.clone(),
            (objection, _) => return Err(refused(objection.unwrap_or_default())),
        },
    };
    if let Some(objection) = survey.foreign(&site, &place) {
        return Err(refused(objection));
    }
    let place = place.path;
    if wish.dry_run {
        println!("would write the header of {magazine} to {}", place.display());
        return Ok(());
    }
    confirm::overwrite_header(&identity, &magazine.name, wish.confirmed)?;
    let overwritten = header_backups::keep_overwritten(root, luks, &place, backup.data_offset_bytes())?;
    println!("{}: kept as it was before the header is written", overwritten.display());
    let backup = header_backups::path(root, luks);
    Container::restore_header(root.kernel(), &place, &backup, luks, key)
        .or_exit(Exit::Refused, format!("the header of {magazine} was not restored"))?;
    println!("{}: the header of {magazine} is restored, and its key opens it", place.display());
    println!("When the drive is well: rm {}", shell::path(&overwritten));
    Ok(())
}

fn refused((message, hint): Objection) -> Failure {
    Failure::new(Exit::Refused, message).hint(hint)
}

/// The magazine that the drive is, by its sticker and its serial number.
fn magazine<'a>(site: &'a Site, identity: &Identity, name: Option<&str>) -> Result<&'a Magazine, Failure> {
    let magazine = match name {
        Some(name) => site.magazine(name)?,
        None => site.magazine(&identity.id).map_err(|failure| match failure.exit() {
            Exit::NotThere => {
                let message = format!("no magazine has the serial number {:?}", identity.id);
                Failure::new(failure.exit(), message).hint("say which one it is: --name STICKER")
            }
            _ => failure,
        })?,
    };
    match &magazine.serial {
        Some(serial) if *serial != identity.id => Err(Failure::new(
            Exit::Refused,
            format!(
                "{} has the id {:?}, and {magazine} was enrolled with {serial:?}: it is another drive",
                identity.device.display(),
                identity.id
            ),
        )
        .hint("if a dock hides the serial number, correct `serial` in site.toml first")),
        _ => Ok(magazine),
    }
}

/// A backup that isn't the header which site.toml names is written nowhere: an earlier backup of another header, or one that
/// somebody put there.
fn refuse_other(root: &Root, magazine: &Magazine, backup: &Container) -> Result<(), Failure> {
    match (magazine.luks_digest, backup.digest()) {
        (Some(enrolled), found) if enrolled != found => Err(Failure::new(
            Exit::Refused,
            format!(
                "{} is not the header that {magazine} was enrolled with: its digest is {found}, and luks_digest in \
                 site.toml is {enrolled}",
                header_backups::path(root, backup.uuid()).display()
            ),
        )
        .hint("put the right backup in its place, from a copy of the server or from the kit")),
        _ => Ok(()),
    }
}

/// A header that says what the backup says and that a key opens is left alone. That it can be read says little: nothing
/// checks the key material, and LUKS1 has no checksum. While a change of its key slots isn't finished, the drive's may be
/// the newer ones. One with a single damaged copy is restored: the backup says what that copy said, and what lies over it
/// may keep `luks repair` from mending it.
fn refuse_sound(place: &Path, backup: &Container, is_changing: bool, keys: &Keyring) -> Result<(), Failure> {
    let sound = match Container::load(place) {
        Ok(container) if container.uuid() == backup.uuid() => {
            let as_enrolled = container.digest() == backup.digest();
            let slots_too = || container.is_backed_up_by(backup.device()).unwrap_or(false);
            if !as_enrolled || !(is_changing || slots_too()) || keys.opening(&container).is_err() {
                return Ok(());
            }
            "its header is sound, a key of this site opens it".to_owned()
        }
        Ok(container) => format!("it carries the sound container {}, another drive's", container.uuid()),
        Err(error @ LoadError::Reencryption { .. }) => {
            return Err(Failure::new(Exit::Refused, error.to_string()));
        }
        Err(LoadError::Missing { device }) => {
            return Err(Failure::new(Exit::NotThere, format!("{} is not there", device.display())));
        }
        Err(_ruined) => return Ok(()),
    };
    Err(Failure::new(Exit::Refused, format!("{} is not overwritten: {sound}", place.display()))
        .hint("offsite doctor tells what is wrong with a drive"))
}

/// The place for which something on the drive speaks: what is left of this container's header there, or the enrolled
/// filesystem as the backup shows it. Nothing is written.
fn proven(
    root: &Root,
    survey: &Survey,
    candidates: &[Candidate],
    backup: &Container,
    key: &Secret,
    magazine: &Magazine,
) -> Result<Candidate, Failure> {
    if let Some(place) = candidates.iter().find(|candidate| survey.has_remains_at(candidate)) {
        return Ok(place.clone());
    }
    require_device_mapper(root)?;
    for candidate in candidates {
        if shows_filesystem(root, backup, &candidate.path, key, magazine)? {
            return Ok(candidate.clone());
        }
    }
    let places: Vec<_> = candidates.iter().map(|candidate| candidate.path.display().to_string()).collect();
    Err(Failure::new(
        Exit::Refused,
        format!(
            "by the backup of {magazine} there is no filesystem {} on {}: it is another drive, or more than its header is lost",
            magazine.fs_uuid,
            places.join(" or ")
        ),
    )
    .hint("when you know that it is the right drive: --unproven"))
}

/// Whether the enrolled filesystem, or a copy of its superblock, is seen through the backup.
fn shows_filesystem(
    root: &Root,
    backup: &Container,
    place: &Path,
    key: &Secret,
    magazine: &Magazine,
) -> Result<bool, Failure> {
    let name = format!("offsite-look-{}", std::process::id());
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mapping = backup
        .open_on(place, &name, key, &options)
        .or_fail(format!("cannot look at {} through the backup", place.display()))?;
    let found = System::new(root.kernel()).probe(mapping.path());
    let shows = found.is_ok_and(|found| found.tag == Some(Tag::Filesystem(magazine.fs_uuid.clone())))
        || superblock::has_copy(mapping.path(), &magazine.fs_type, magazine.fs_uuid.as_str());
    let closed =
        luks_core::close(&name, CloseMode::Now).or_else(|_| luks_core::close(&name, CloseMode::Deferred));
    closed.or_fail(format!("cannot close {name}"))?;
    Ok(shows)
}
