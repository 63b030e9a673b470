//! `offsite adopt`: enrols a drive as it is; nothing on it is changed.

use std::path::Path;

use luks_core::{Container, LuksUuid};
use mount_by_uuid::{System, Tag};
use serde::Serialize;

use crate::cli::Adopt;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::keyring::Keyring;
use crate::mapped::{Mounted, Unlocked, require_device_mapper};
use crate::paths::Root;
use crate::site::{Magazine, Site, check_name, mapping_name};
use crate::{conf, control, headers, identify, partition, register, report};

#[derive(Debug, Serialize)]
struct Adopted<'a> {
    magazine: &'a Magazine,
    device: &'a Path,
    enrolled: bool,
}

/// Runs `offsite adopt`.
pub fn run(root: &Root, options: &Adopt) -> Result<(), Failure> {
    let site = Site::load(root)?;
    check_name("magazine", &options.name)
        .map_err(|(message, hint)| Failure::new(Exit::Usage, message).hint(hint))?;
    let identity = identify::one(root, &options.device)?;
    if let Some(refusal) = identity.refusals.first() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} can't be adopted now: {refusal}", options.device.display()),
        )
        .hint(refusal.remedy()));
    }
    let place = partition::container_device(root, &options.device)?;
    let (luks_uuid, inner) = look_inside(root, &site, &place)?;
    let magazine = Magazine {
        name: options.name.clone(),
        luks_uuid,
        fs_uuid: inner.0,
        fs_type: inner.1,
        serial: Some(identity.id),
    };
    if !options.dry_run {
        if luks_uuid.is_some() {
            let container = Container::load(&place).or_fail("cannot read the LUKS header again")?;
            let keys = Keyring::load(root, &site)?;
            headers::keep(root, &container, &keys.opening(&container)?.secret)?;
        }
        let site = register::add(root, &magazine)?;
        conf::refresh(root, &site)?;
        control::reload(root);
    }
    if options.json {
        return report::json(&Adopted {
            magazine: &magazine,
            device: &options.device,
            enrolled: !options.dry_run,
        });
    }
    let what = if options.dry_run { "would be enrolled" } else { "is enrolled" };
    println!(
        "{}: {what} as {magazine}, {} filesystem {}",
        options.device.display(),
        magazine.fs_type,
        magazine.fs_uuid
    );
    Ok(())
}

type Inner = (mount_by_uuid::FsUuid, String);

/// Opens the drive read-only with the site's key and reads what filesystem it holds.
fn look_inside(root: &Root, site: &Site, device: &Path) -> Result<(Option<LuksUuid>, Inner), Failure> {
    let system = System::new(root.kernel());
    if !luks_core::is_luks(device).or_fail(format!("cannot read {}", device.display()))? {
        return Ok((None, filesystem(&system, root, device)?));
    }
    require_device_mapper(root)?;
    let container =
        Container::load(device).or_fail(format!("cannot read the LUKS header of {}", device.display()))?;
    let keys = Keyring::load(root, site)?;
    let key = &keys.opening(&container)?.secret;
    let unlocked = Unlocked::open(&container, &mapping_name(container.uuid()), key, true)?;
    let inner = filesystem(&system, root, unlocked.path())?;
    unlocked.lock()?;
    Ok((Some(container.uuid()), inner))
}

fn filesystem(system: &System, root: &Root, device: &Path) -> Result<Inner, Failure> {
    let found = system.probe(device).or_fail(format!("cannot look into {}", device.display()))?;
    let (Some(Tag::Filesystem(uuid)), Some(fs_type)) = (found.tag, found.fs_type) else {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} holds no filesystem with a UUID", device.display()),
        )
        .hint("a blank drive is made into a magazine by `offsite prepare`"));
    };
    Mounted::mount(root, device, &fs_type, true)?.unmount()?;
    Ok((uuid, fs_type))
}
