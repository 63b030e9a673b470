//! `offsite luks restore`: a ruined header is written anew from the register.
//!
//! The header of one drive on another one destroys the other's data as surely as a fire. So three things must agree
//! before a byte is written: the serial number, what is left of a header on the drive, and what the backup shows of
//! the data behind it: the enrolled filesystem.

use std::path::Path;

use luks_core::{CloseMode, Container, LoadError, OpenOptions, Secret};
use media_wipe::Identity;
use mount_by_uuid::{System, Tag};

use crate::failure::{Exit, Failure, OrFail as _};
use crate::keyring::Keyring;
use crate::mapped::require_device_mapper;
use crate::paths::Root;
use crate::site::{Magazine, Site};
use crate::{confirm, headers, identify, partition};

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
    let identity = identify::one(root, device)?;
    let magazine = magazine(&site, &identity, wish.name)?;
    let luks = magazine.luks_uuid.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("magazine {magazine} is not encrypted, so it has no such header"))
    })?;
    if let Some(refusal) = identity.refusals.first() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} can't be used now: {refusal}", device.display()),
        )
        .hint(refusal.remedy()));
    }
    let place = partition::container_device(root, device)?;
    let keys = Keyring::load(root, &site)?;
    let backup = headers::load(root, luks, &magazine.name)?;
    refuse_sound(&place, &backup, &keys)?;
    let key = &keys.opening(&backup)?.secret;
    if !wish.unproven {
        prove(root, &backup, &place, key, magazine)?;
    }
    if wish.dry_run {
        println!("would write the header of {magazine} to {}", place.display());
        return Ok(());
    }
    confirm::overwrite_header(&identity, &magazine.name, wish.confirmed)?;
    let overwritten = headers::keep_overwritten(root, luks, &place, backup.data_offset_bytes())?;
    println!("{}: kept as it was before the header is written", overwritten.display());
    let backup = headers::path(root, luks);
    Container::restore_header(root.kernel(), &place, &backup, luks, key)
        .or_exit(Exit::Refused, format!("the header of {magazine} was not restored"))?;
    println!("{}: the header of {magazine} is restored, and its key opens it", place.display());
    println!("When the drive is well: rm {}", overwritten.display());
    Ok(())
}

/// The magazine that the drive is, by its sticker and its serial number.
fn magazine<'a>(site: &'a Site, identity: &Identity, name: Option<&str>) -> Result<&'a Magazine, Failure> {
    let magazine = match name {
        Some(name) => site.magazine(name)?,
        None => site.magazine(&identity.id).map_err(|failure| {
            Failure::new(failure.exit(), format!("no magazine has the serial number {:?}", identity.id))
                .hint("say which one it is: --name STICKER")
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

/// A header that a key opens and that finds the data where the backup does, or one that can be mended from its own second
/// copy, is left alone. That it can be read says little: nothing checks the key material, and LUKS1 has no checksum.
fn refuse_sound(place: &Path, backup: &Container, keys: &Keyring) -> Result<(), Failure> {
    let data = |container: &Container| {
        (container.cipher().to_owned(), container.sector_size(), container.data_offset_bytes())
    };
    let sound = match Container::load(place) {
        Ok(container) if container.uuid() == backup.uuid() => {
            if keys.opening(&container).is_err() || data(&container) != data(backup) {
                return Ok(());
            }
            "its header is sound, a key of this site opens it".to_owned()
        }
        Ok(container) => format!("it carries the sound container {}, another drive's", container.uuid()),
        Err(LoadError::HeaderDamaged { .. }) => {
            return Err(Failure::new(
                Exit::Refused,
                format!("{} has one sound copy of its header", place.display()),
            )
            .hint(format!("mend the other one from it: offsite luks repair {}", place.display())));
        }
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

/// Looks at the drive's data through the backup: they must be the enrolled filesystem. Nothing is written.
fn prove(
    root: &Root,
    backup: &Container,
    place: &Path,
    key: &Secret,
    magazine: &Magazine,
) -> Result<(), Failure> {
    require_device_mapper(root)?;
    let name = format!("offsite-look-{}", std::process::id());
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mapping = backup
        .open_on(place, &name, key, &options)
        .or_fail(format!("cannot look at {} through the backup", place.display()))?;
    let found = System::new(root.kernel()).probe(mapping.path());
    let closed =
        luks_core::close(&name, CloseMode::Now).or_else(|_| luks_core::close(&name, CloseMode::Deferred));
    closed.or_fail(format!("cannot close {name}"))?;
    if found.is_ok_and(|found| found.tag == Some(Tag::Filesystem(magazine.fs_uuid.clone()))) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!(
            "by the backup of {magazine} there is no filesystem {} on {}: it is another drive, or more than its header is lost",
            magazine.fs_uuid,
            place.display()
        ),
    )
    .hint("when you know that it is the right drive: --unproven"))
}
