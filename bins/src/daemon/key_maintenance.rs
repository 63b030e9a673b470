//! What becomes of a drive's header and keys when it comes home. All of it holds the drive's work lock.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use luks_core::{Container, Header, LoadError, LuksUuid, OpenError};

use super::drive::Drive;
use super::journal::say;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::records::enrolment::{self, Known};
use crate::records::header_backups::{self, Kept};
use crate::records::header_changes;
use crate::records::keyring::Keyring;
use crate::site::description::{Magazine, Site};

/// Reads the header of the enrolled drive, once; a damaged copy of it is written anew from the other one.
pub(super) fn read(
    root: &Root,
    magazine: &Magazine,
    luks: LuksUuid,
    known: &Known,
    device: &Path,
) -> Result<Header, Failure> {
    let header = known.read(root, &magazine.name, luks, device)?;
    if header.damage().is_some() {
        mend(root, luks, device);
    }
    Ok(header)
}

/// The header that was read opens the drive, whatever becomes of its copies.
fn mend(root: &Root, luks: LuksUuid, device: &Path) {
    let said = match Container::load_repairing(device) {
        Ok((_, Some(repair))) => header_backups::note_mended(root, luks, &repair),
        Ok((_, None)) => return,
        Err(error) => Err(Failure::because(Exit::Failed, "a header copy stays damaged", &error)),
    };
    match said {
        Ok(said) => say(&format!("{}: {said}", device.display())),
        Err(failure) => say(failure.message()),
    }
}

/// Gives the drive the keys that it should have, while one takes the place of another; one that can't be settled is used
/// as it is. Tells whether its header may have changed.
pub(super) fn settle(root: &Root, device: &Path, keys: &Keyring) -> bool {
    keys.problems.iter().for_each(|problem| say(problem));
    if !keys.is_rotating() {
        return false;
    }
    let settled = Container::load(device)
        .or_fail(format!("cannot exchange the key of {}", device.display()))
        .and_then(|container| keys.settle(root, &container));
    match settled {
        Ok(done) => done.iter().for_each(|line| say(&format!("{} {line}", device.display()))),
        Err(failure) => say(failure.message()),
    }
    true
}

/// Drives that came together are opened first: libcryptsetup serves one at a time.
const BACK_UP_AFTER: Duration = Duration::from_secs(1);

/// Renews the backup of an open drive's header when it isn't that of the header now, beside all other work: nobody who
/// waits for the drive waits for this. The drive is used all the same when it fails, and `offsite doctor` tells.
pub(super) fn back_up(root: &Root, site: &Arc<Site>, drive: &Arc<Drive>) {
    let Some(luks) = drive.magazine().luks_uuid else { return };
    let (root, site, of) = (root.clone(), Arc::clone(site), Arc::clone(drive));
    let run = move || {
        thread::sleep(BACK_UP_AFTER);
        let _work = of.work();
        match back_up_now(&root, &site, &of, luks) {
            Ok(Some(said)) => of.say(&said),
            Ok(None) => {}
            Err(failure) => of.say(failure.message()),
        }
    };
    if let Err(error) = thread::Builder::new().name("back-up".into()).spawn(run) {
        drive.warn(&format!("the header of {} was not backed up: {error}", drive.magazine()));
    }
}

fn back_up_now(root: &Root, site: &Site, drive: &Drive, luks: LuksUuid) -> Result<Option<String>, Failure> {
    let seen = drive.seen();
    let (Some(plugged), Some(_)) = (seen.plugged, seen.open) else {
        return Ok(None); // it has gone meanwhile
    };
    let magazine = drive.magazine();
    let known = Known::of(root, &magazine, luks)?;
    let header = read(root, &magazine, luks, &known, &plugged.path)?;
    Ok(match header_changes::keep(root, &known, &header, &Keyring::load(root, site)?.secrets())? {
        Kept::AsItWas => None,
        Kept::Renewed => Some(format!("the header of {magazine} is backed up")),
        Kept::Changed(slots) => {
            let said = enrolment::slots_changed(&magazine.name, &slots);
            header_backups::note_changed(root, luks, &said)?;
            Some(said)
        }
    })
}

/// A drive that stays closed because its key material is gone can have it back from its backup.
pub(super) fn with_remedy(
    root: &Root,
    luks: LuksUuid,
    device: &Path,
    keys: &Keyring,
    error: &OpenError,
) -> Failure {
    let failure = Failure::because(Exit::Failed, format!("cannot unlock {}", device.display()), error);
    let by_key = matches!(error, OpenError::WrongKey { .. } | OpenError::Load(LoadError::TooCostly { .. }));
    match keys.remedy(root, luks, device).filter(|_| by_key) {
        Some(remedy) => failure.hint(remedy),
        None if matches!(error, OpenError::OtherMapping { .. }) => {
            failure.hint("the drive's header or this system's libcryptsetup is not to be trusted; offsite doctor tells more")
        }
        None => failure,
    }
}
