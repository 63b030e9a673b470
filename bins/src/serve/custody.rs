//! What becomes of a drive's header and keys when it comes home. Runs with the drive's work lock held.

use std::path::Path;

use luks_core::{Container, LoadError, LuksUuid, RepairError, Secret};

use super::say;
use crate::failure::{Exit, Failure};
use crate::headers;
use crate::keyring::Keyring;
use crate::paths::Root;

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

/// Renews the header's backup when it isn't that of the header which `key` has opened now; the drive is used all the same when that fails, and
/// `offsite doctor` tells.
pub(super) fn back_up(root: &Root, container: &Container, key: &Secret) {
    match headers::keep(root, container, key) {
        Ok(true) => say(&format!("the header of {} is backed up", container.device().display())),
        Ok(false) => {}
        Err(failure) => say(failure.message()),
    }
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
