//! What becomes of a drive's header and keys when it comes home. All of it holds the drive's work lock.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use luks_core::{Container, LoadError, LuksUuid, RepairError};

use super::drive::Drive;
use super::say;
use crate::failure::{Exit, Failure};
use crate::headers;
use crate::keyring::Keyring;
use crate::paths::Root;
use crate::site::Site;

/// Loads the enrolled container; a damaged copy of its header is written anew from the other one.
pub(super) fn load(root: &Root, luks: LuksUuid, device: &Path) -> Result<Container, Failure> {
    let (container, mended) =
        Container::load_repairing(device).map_err(|error| unreadable(device, &error))?;
    if container.uuid() != luks {
        return Err(Failure::new(Exit::Refused, format!("{} holds another container now", device.display()))
            .hint("plug the drive again"));
    }
    if let Some(repair) = mended {
        match headers::note_mended(root, luks, &repair) {
            Ok(said) => say(&format!("{}: {said}", device.display())),
            Err(failure) => say(failure.message()),
        }
    }
    Ok(container)
}

fn unreadable(device: &Path, error: &RepairError) -> Failure {
    let failure =
        Failure::because(Exit::Failed, format!("cannot read the LUKS header of {}", device.display()), error);
    match error {
        RepairError::Load(
            LoadError::HeaderRuined { .. } | LoadError::Suspicious { .. } | LoadError::TooCostly { .. },
        ) => {
            failure.hint(format!("bring it back from its backup: offsite luks restore {}", device.display()))
        }
        _ => failure,
    }
}

/// Gives the container the keys that it should have; a drive that can't be settled is used as it is.
pub(super) fn settle(root: &Root, container: &Container, keys: &Keyring) {
    for problem in &keys.problems {
        say(problem);
    }
    match keys.settle(root, container) {
        Ok(done) => done.iter().for_each(|line| say(&format!("{} {line}", container.device().display()))),
        Err(failure) => say(failure.message()),
    }
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
            Ok(true) => of.say(&format!("the header of {} is backed up", of.magazine())),
            Ok(false) => {}
            Err(failure) => of.say(failure.message()),
        }
    };
    if let Err(error) = thread::Builder::new().name("back-up".into()).spawn(run) {
        drive.warn(&format!("the header of {} was not backed up: {error}", drive.magazine()));
    }
}

fn back_up_now(root: &Root, site: &Site, drive: &Drive, luks: LuksUuid) -> Result<bool, Failure> {
    let seen = drive.seen();
    let (Some(plugged), Some(_)) = (seen.plugged, seen.open) else {
        return Ok(false); // it has gone meanwhile
    };
    let container = load(root, luks, &plugged.path)?;
    let keys = Keyring::load(root, site)?;
    headers::keep(root, &container, keys.to_open(&container)?)
}

/// A drive that stays closed because its key material is gone can have it back from its backup.
pub(super) fn with_remedy(root: &Root, container: &Container, keys: &Keyring, failure: Failure) -> Failure {
    if keys.opening(container).is_ok() {
        return failure; // it is something else than the key
    }
    match keys.remedy(root, container) {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}
