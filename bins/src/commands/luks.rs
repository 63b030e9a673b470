//! `offsite luks`: the operations of `luks-core` on block devices and header files alike.

mod accept;
mod add;
mod restore;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use luks_core::{
    Container, FormatOptions, Header, KeySlot, LoadError, LuksVersion, PartitionError, RepairError, Secret,
    SecretKind, TestKeyError,
};
use media_wipe::Identity;

use super::arguments::{AuthKey, Luks, LuksCommand};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::{confirm, interrupt, report, secret_input, shell};
use crate::drives::enrolled;
use crate::records::enrolment::Enrolled;
use crate::records::keyring::Keyring;
use crate::records::{header_backups, header_changes};
use crate::site::description::Site;
use crate::site::key_file;

/// Runs `offsite luks`.
pub fn run(root: &Root, options: &Luks) -> Result<(), Failure> {
    match &options.command {
        LuksCommand::Format { device, key_file, luks1, authenticated, gpt, slot, yes_destroy, dry_run } => {
            let slot = key_slot(*slot)?;
            let secret = key_file::load(key_file)?;
            let identity = enrolled::identify_to_overwrite(root, device)?;
            if *dry_run {
                println!("would make a LUKS container on {}", confirm::describe(&identity));
                confirm::list_refusals(&identity);
                return Ok(());
            }
            if *gpt {
                refuse_partition_in_file(&identity)?;
            }
            confirm::destroy(&identity, yes_destroy.as_deref())?;
            let version = if *luks1 { LuksVersion::Luks1 } else { LuksVersion::Luks2 };
            let options =
                FormatOptions { version, authenticated: *authenticated, ..FormatOptions::default() };
            let place = if *gpt { make_partition(root, &identity, "LUKS")? } else { device.clone() };
            let container = format(root, &place, &options, &secret, slot)?;
            println!("{}: {} container {}, key in slot {slot}", place.display(), version, container.uuid());
        }
        LuksCommand::Slots { device, json } => {
            let slots = load(device)?
                .slots()
                .or_fail(format!("cannot list the key slots of {}", device.display()))?;
            if *json {
                return report::json(&slots);
            }
            for slot in &slots {
                println!("{slot}");
            }
        }
        LuksCommand::Add { device, auth, new_key_file, new_recovery_key, picture, slot, .. } => {
            let slot = slot.map(key_slot).transpose()?;
            let container = load(device)?;
            let auth = auth_key(auth)?;
            let new = match (new_key_file, new_recovery_key) {
                (Some(path), _) => add::NewKey::File(key_file::load(path)?),
                (None, true) => add::NewKey::recovery(picture.as_deref())?,
                (None, false) => add::NewKey::Passphrase(secret_input::passphrase("New passphrase", true)?),
            };
            add::run(root, &container, &auth, &new, slot)?;
        }
        LuksCommand::Change { device, key_file, new_key_file } => {
            let (old, new) = (key_file::load(key_file)?, key_file::load(new_key_file)?);
            change(root, &load(device)?, &old, &new)?;
        }
        LuksCommand::Kill { device, slot, auth, dry_run } => {
            let slot = key_slot(*slot)?;
            let container = load(device)?;
            let secret = auth_key(auth)?;
            if *dry_run {
                let opens = container.test_key(&secret).or_fail("the key opens nothing here")?;
                println!("would empty slot {slot} of {}; the key opens slot {opens}", device.display());
                return Ok(());
            }
            let ((), backed_up) = header_changes::guarded(
                root,
                &container,
                &secret,
                &secret,
                |()| vec![slot],
                || {
                    container
                        .kill_slot(slot, &secret)
                        .or_exit(Exit::Refused, format!("slot {slot} was not emptied"))
                },
            )?;
            println!("{}: slot {slot} is empty", device.display());
            backed_up?;
        }
        LuksCommand::Test { device, auth } => {
            let header = read(root, device)?;
            let opened = header
                .test_keys(&[&auth_key(auth)?])
                .or_fail(format!("{} stays closed", device.display()))?;
            println!("{}: the key opens slot {}", device.display(), opened.slot);
        }
        LuksCommand::Repair { device } => repair(root, device)?,
        LuksCommand::Accept { magazine, unproven, dry_run } => {
            accept::run(root, magazine, *unproven, *dry_run)?;
        }
        LuksCommand::Restore { device, name, yes_overwrite, unproven, dry_run } => {
            let wish = restore::Wish {
                name: name.as_deref(),
                confirmed: yes_overwrite.as_deref(),
                unproven: *unproven,
                dry_run: *dry_run,
            };
            restore::run(root, device, &wish)?;
        }
    }
    Ok(())
}

/// Makes the container and, where each sector is authenticated, writes all tags.
pub fn format(
    root: &Root,
    place: &Path,
    options: &FormatOptions,
    key: &Secret,
    slot: KeySlot,
) -> Result<Container, Failure> {
    let container = Container::format(place, options, key, SecretKind::KeyFile, slot)
        .or_fail(format!("cannot make a LUKS container on {}", place.display()))?;
    if options.authenticated {
        let stop = interrupt::flag()?;
        let mut shown = 0;
        let mut progress = |done: u64, total: u64| {
            let tenth = u128::from(done) * 10 / u128::from(total.max(1));
            if tenth > shown {
                shown = tenth;
                eprintln!("{}: {}% of the tags are written", place.display(), tenth * 10);
            }
            !stop.load(Ordering::Relaxed)
        };
        container.write_tags(root.path(), key, &mut progress).or_fail("the container can't be used yet")?;
    }
    Ok(container)
}

/// Gives a drive one partition; returns its device.
pub fn make_partition(root: &Root, identity: &Identity, name: &str) -> Result<PathBuf, Failure> {
    luks_core::make_partition(root.kernel(), &identity.device, name)
        .map_err(|error| not_partitioned(&identity.device, &error))
}

/// Refuses before anything is written what can't have a partition.
pub fn refuse_partition_in_file(identity: &Identity) -> Result<(), Failure> {
    if !identity.device.is_file() {
        return Ok(());
    }
    Err(not_partitioned(
        &identity.device,
        &PartitionError::NotABlockDevice { device: identity.device.clone() },
    ))
}

fn not_partitioned(device: &Path, error: &PartitionError) -> Failure {
    let exit = match error {
        PartitionError::NotABlockDevice { .. } | PartitionError::InUse { .. } => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::because(exit, format!("{} was not partitioned", device.display()), error)
}

fn repair(root: &Root, device: &Path) -> Result<(), Failure> {
    let failed = || format!("the header of {} can't be mended", device.display());
    let header = Header::read(device).map_err(|error| Failure::because(exit_of(&error), failed(), &error))?;
    let enrolled = Enrolled::of(root, header.uuid())?;
    if let Some(enrolled) = &enrolled {
        enrolled.read(root, device)?;
    }
    let (_, mended) = Container::load_repairing(device).map_err(|error| match &error {
        RepairError::Load(load) => Failure::because(exit_of(load), failed(), load),
        _ => Failure::because(Exit::Failed, failed(), &error).hint(format!(
            "something else was written over it, see: wipefs {0}; if that may go, of an enrolled drive: offsite luks \
             restore {0}, of another one: cryptsetup repair {0}",
            shell::path(device)
        )),
    })?;
    match &mended {
        Some(repair) => {
            println!("{}: the {} header copy {}; written anew", device.display(), repair.copy, repair.reason);
        }
        None => println!("{}: nothing to mend", device.display()),
    }
    let Some(enrolled) = enrolled else { return Ok(()) };
    // LUKS1 has no checksum and LUKS2 none of its key material, so that a header in which nothing is to mend may be
    // ruined all the same; only a key tells.
    let keys = Site::load(root).and_then(|site| Keyring::load(root, &site))?;
    let header = enrolled.read(root, device)?;
    if let Err(error) = header.test_keys(&keys.secrets()) {
        let failure = match error {
            TestKeyError::WrongKey { .. } => {
                Failure::new(Exit::Failed, format!("no key of this site opens {}", device.display()))
            }
            error => Failure::because(Exit::Failed, format!("{} stays closed", device.display()), &error),
        };
        return Err(match keys.remedy(root, header.uuid(), device) {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        });
    }
    if mended.is_some() {
        enrolled.keep(root, &header, &keys.secrets())?;
    }
    Ok(())
}

/// Exchanges a key, and empties as well what an exchange that was killed has left of the old one's slots.
fn change(root: &Root, container: &Container, old: &Secret, new: &Secret) -> Result<(), Failure> {
    let device = container.device().display();
    let olds = header_backups::slots_of(root, container, old)?;
    let changed = |rotated: &luks_core::Rotated| {
        let added = rotated.added.then_some(rotated.slot);
        rotated.removed.iter().copied().chain(added).collect()
    };
    let (rotated, backed_up) = header_changes::guarded(root, container, old, new, changed, || {
        let failed = || format!("the key of {device} was not changed");
        let mut rotated = container.rotate_key(old, new, SecretKind::KeyFile).or_fail(failed())?;
        for slot in olds {
            if !rotated.removed.contains(&slot) {
                container.kill_slot(slot, new).or_fail(failed())?;
                rotated.removed.push(slot);
            }
        }
        Ok(rotated)
    })?;
    let gone: Vec<_> = rotated.removed.iter().map(ToString::to_string).collect();
    let gone = if gone.is_empty() { "none, the old key opens no slot".to_owned() } else { gone.join(", ") };
    println!("{device}: the new key opens slot {}; emptied: {gone}", rotated.slot);
    backed_up
}

fn auth_key(auth: &AuthKey) -> Result<Secret, Failure> {
    match (&auth.key_file, auth.recovery_key) {
        (Some(path), _) => key_file::load(path),
        (None, true) => Ok(secret_input::recovery_key()?.into_secret()),
        (None, false) => secret_input::passphrase("Passphrase", false),
    }
}

fn load(device: &Path) -> Result<Container, Failure> {
    Container::load(device).map_err(|error| {
        Failure::because(
            exit_of(&error),
            format!("cannot read the LUKS header of {}", device.display()),
            &error,
        )
    })
}

/// The header on a device; that of an enrolled container must be the enrolled one.
fn read(root: &Root, device: &Path) -> Result<Header, Failure> {
    let header = Header::read(device).map_err(|error| {
        Failure::because(
            exit_of(&error),
            format!("cannot read the LUKS header of {}", device.display()),
            &error,
        )
    })?;
    // A backup in the register, or beside another one, is what drives are compared with.
    if device.is_file() {
        return Ok(header);
    }
    match Enrolled::of(root, header.uuid())? {
        Some(enrolled) => enrolled.read(root, device),
        None => Ok(header),
    }
}

fn exit_of(error: &LoadError) -> Exit {
    match error {
        LoadError::Missing { .. } => Exit::NotThere,
        LoadError::Reencryption { .. } => Exit::Refused,
        _ => Exit::Failed,
    }
}

fn key_slot(number: u8) -> Result<KeySlot, Failure> {
    KeySlot::new(number).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no key slot {number}"))
            .hint("LUKS2 has slots 0 to 31, LUKS1 0 to 7")
    })
}
