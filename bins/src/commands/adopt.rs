//! `offsite adopt`: enrols a drive as it is; nothing on it is changed but the log of a filesystem that was not unmounted.

use std::path::{Path, PathBuf};

use luks_core::{Container, Header};
use mount_by_uuid::{System, Tag};
use serde::Serialize;

use super::arguments::Adopt;
use super::conf;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::{report, shell};
use crate::drives::scoped_open::{Mounted, Unlocked, require_device_mapper};
use crate::drives::{identity, partition};
use crate::protocol::socket;
use crate::records::fsck_due::Torn;
use crate::records::header_backups;
use crate::records::keyring::Keyring;
use crate::site::description::{Magazine, Site, check_name, mapping_name};
use crate::site::edit;

#[derive(Debug, Serialize)]
struct Adopted<'a> {
    magazine: &'a Magazine,
    device: &'a Path,
    enrolled: bool,
    volumes: usize,
    /// It was not unmounted the last time, and is checked at its next use.
    unclean: bool,
}

/// Runs `offsite adopt`.
pub fn run(root: &Root, options: &Adopt) -> Result<(), Failure> {
    let site = Site::load(root)?;
    options.name.as_deref().map_or(Ok(()), check_sticker)?;
    let identity = identity::one(root, &options.device)?;
    if let Some(refusal) = identity.refusals.first() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} can't be adopted now: {}", options.device.display(), refusal.message()),
        )
        .hint(refusal.remedy()));
    }
    let place = partition::container_device(root, &options.device)?;
    let is_luks = luks_core::is_luks(&place).or_fail(format!("cannot read {}", place.display()))?;
    if !is_luks && !options.unencrypted {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} is not encrypted: whoever has it reads every backup on it", options.device.display()),
        )
        .hint(
            "`offsite prepare` makes an encrypted magazine of a drive, and destroys what is on it; if this one is to stay \
             as it is: --unencrypted",
        ));
    }
    let (header, inner) = look_inside(root, &site, &place, is_luks, options.dry_run)?;
    let by_volumes = sticker(&inner.volumes);
    let name = options.name.clone().or_else(|| by_volumes.map(str::to_owned)).ok_or_else(|| {
        Failure::new(Exit::Usage, "the volumes on it don't tell what stands on its sticker")
            .hint("say it: --name STICKER")
    })?;
    check_sticker(&name)?;
    let magazine = Magazine {
        name,
        luks_uuid: header.as_ref().map(Header::uuid),
        luks_digest: header.as_ref().map(|header| header.enrolment().digest()),
        fs_uuid: inner.uuid,
        fs_type: inner.fs_type,
        serial: Some(identity.id),
    };
    let twins: Vec<_> = magazine.serial.iter().flat_map(|serial| site.with_serial(serial)).collect();
    if !options.dry_run {
        if inner.unclean {
            Torn::Pulled.note(root, &magazine.fs_uuid)?;
        }
        if let Some(header) = &header {
            header_backups::enrol(root, header, &Keyring::load(root, &site)?.secrets())?;
        }
        let site = edit::add(root, &magazine)?;
        conf::refresh(root, &site)?;
        socket::reload(root);
    }
    for twin in twins {
        eprintln!(
            "warning: magazine {twin} was enrolled with the same serial number: a dock that shows one for every drive tells \
             none apart"
        );
    }
    if options.json {
        return report::json(&Adopted {
            magazine: &magazine,
            device: &options.device,
            enrolled: !options.dry_run,
            volumes: inner.volumes.len(),
            unclean: inner.unclean,
        });
    }
    let what = if options.dry_run { "would be enrolled" } else { "is enrolled" };
    let device = options.device.display();
    let Magazine { fs_type, fs_uuid, .. } = &magazine;
    println!(
        "{device}: {what} as {magazine}, {fs_type} filesystem {fs_uuid}, {} volumes",
        inner.volumes.len()
    );
    if header.is_none() {
        println!("{device}: it is NOT ENCRYPTED; whoever has it reads every backup on it");
    }
    if inner.unclean {
        println!("{device}: it was not unmounted the last time; it is checked at its next use");
    }
    match by_volumes {
        Some(called) if !called.eq_ignore_ascii_case(&magazine.name) => {
            println!("{device}: its volumes are called after {called:?}, not after {:?}", magazine.name);
        }
        _ => {}
    }
    if inner.volumes.is_empty() && !inner.unread {
        println!(
            "{device}: there is no volume on it, so that Bacula can't write to it until `createvols` lays some"
        );
    }
    Ok(())
}

fn check_sticker(name: &str) -> Result<(), Failure> {
    check_name("magazine", name).map_err(|(message, hint)| Failure::new(Exit::Usage, message).hint(hint))
}

/// The filesystem of a drive.
struct Inner {
    uuid: mount_by_uuid::FsUuid,
    fs_type: String,
    volumes: Vec<String>,
    /// It was not unmounted the last time.
    unclean: bool,
    /// Its files could not be looked at without writing.
    unread: bool,
}

/// A container that is unlocked, or a drive that needs no unlocking.
struct Opened {
    path: PathBuf,
    unlocked: Option<Unlocked>,
}

impl Opened {
    fn close(self) -> Result<(), Failure> {
        self.unlocked.map_or(Ok(()), Unlocked::lock)
    }
}

/// Opens the drive with the site's key and looks at the filesystem that it holds; gives the header by which it opened.
///
/// Read-only at first. The log of a filesystem that was mounted when the power went is only read by writing to it.
fn look_inside(
    root: &Root,
    site: &Site,
    device: &Path,
    is_luks: bool,
    dry_run: bool,
) -> Result<(Option<Header>, Inner), Failure> {
    let mut header = None;
    let mut keys = None;
    if is_luks {
        require_device_mapper(root)?;
        let found = Container::load(device)
            .or_fail(format!("cannot read the LUKS header of {}", device.display()))?;
        let ring = Keyring::load(root, site)?;
        if let Err(failure) = ring.opening(&found) {
            return Err(no_key_opens(root, site, device, &failure));
        }
        let read =
            Header::read(device).or_fail(format!("cannot read the LUKS header of {}", device.display()))?;
        (header, keys) = (Some(read), Some(ring));
    }
    let open = |read_only: bool| match (&header, &keys) {
        (Some(header), Some(keys)) => {
            let unlocked = Unlocked::open(header, &mapping_name(header.uuid()), &keys.secrets(), read_only)?;
            Ok(Opened { path: unlocked.path().to_owned(), unlocked: Some(unlocked) })
        }
        _ => Ok(Opened { path: device.to_owned(), unlocked: None }),
    };
    let opened = open(true)?;
    let found = System::new(root.kernel())
        .probe(&opened.path)
        .or_fail(format!("cannot look into {}", device.display()))?;
    let (Some(Tag::Filesystem(uuid)), Some(fs_type)) = (found.tag, found.fs_type) else {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} holds no filesystem with a UUID", device.display()),
        )
        .hint("a blank drive is made into a magazine by `offsite prepare`"));
    };
    let mut inner = Inner { uuid, fs_type, volumes: Vec::new(), unclean: false, unread: false };
    match volumes(root, &opened.path, &inner.fs_type) {
        Ok(volumes) => inner.volumes = volumes,
        Err(_) if dry_run => (inner.unclean, inner.unread) = (true, true),
        Err(_) => {
            opened.close()?;
            let opened = open(false)?;
            inner.volumes = volumes(root, &opened.path, &inner.fs_type)?;
            inner.unclean = true;
            opened.close()?;
            return Ok((header, inner));
        }
    }
    opened.close()?;
    Ok((header, inner))
}

/// A drive that the tutorial's commands made has a key of its own.
fn no_key_opens(root: &Root, site: &Site, device: &Path, failure: &Failure) -> Failure {
    Failure::new(failure.exit(), failure.message()).hint(format!(
        "if it has a key of its own, add the site's with it, then adopt it: offsite luks add {} --key-file ITS-KEY \
         --new-key-file {}",
        shell::path(device),
        shell::path(&root.join(&site.key_file))
    ))
}

/// The volumes on a filesystem, by the names of its files.
fn volumes(root: &Root, device: &Path, fs_type: &str) -> Result<Vec<String>, Failure> {
    let mounted = Mounted::mount(root, device, fs_type, true)?;
    let entries = std::fs::read_dir(mounted.at()).or_fail("cannot list its files")?;
    let files =
        entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut names: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.retain(|name| magazine_of(name).is_some());
    names.sort();
    mounted.unmount()?;
    Ok(names)
}

/// The magazine in a volume's name: `A` in `c0_A_0003`, where `c0` is the changer.
fn magazine_of(volume: &str) -> Option<&str> {
    let (rest, number) = volume.rsplit_once('_')?;
    let (_changer, magazine) = rest.split_once('_')?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(magazine)
}

/// What all volumes are called after.
fn sticker(volumes: &[String]) -> Option<&str> {
    let first = magazine_of(volumes.first()?)?;
    volumes.iter().all(|volume| magazine_of(volume) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_agree_tell_the_sticker() {
        let of = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            sticker(&names).map(str::to_owned)
        };
        assert_eq!(of(&["c0_A_0001", "c0_A_0003"]).as_deref(), Some("A"));
        assert_eq!(of(&["c0_0001_0001"]).as_deref(), Some("0001"));
        assert_eq!(of(&["c0_Offsite_2_0001"]).as_deref(), Some("Offsite_2"));
        assert_eq!(of(&["c0_A_0001", "c0_B_0001"]), None);
        assert_eq!(of(&[]), None);
        for name in ["lost+found", "c0_A_", "c0_0001", "c0_A_1x", "_"] {
            assert_eq!(magazine_of(name), None, "{name}");
        }
    }
}
