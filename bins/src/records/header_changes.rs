//! Changing the header of an enrolled container: a copy before, a renewed backup after.

use std::fs::File;
use std::path::PathBuf;

use luks_core::{Container, Header, KeySlot, Secret};

use super::enrolment::{Enrolled, Known};
use super::header_backups::{
    Kept, before, before_beside, changed_mark, is_kept, lock, remove_remains, renew,
};
use super::header_place;
use crate::base::atomic_file;
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;

/// Keeps the register's backup of an enrolled container, whose header was found to be the enrolled one.
///
/// A backup that says the same as the header stays, unless it has rotten (no key opens it) or others may read it. Key slots
/// that something else than offsite changed are never taken over. What a change that was killed has left goes: the drive
/// and its backup are the truth now.
pub fn keep(root: &Root, known: &Known, header: &Header, keys: &[&Secret]) -> Result<Kept, Failure> {
    let _lock = lock(root)?;
    let luks = header.uuid();
    let foreign = known.foreign_slots(root, header);
    if !foreign.is_empty() {
        return Ok(Kept::Changed(foreign));
    }
    let kept = is_kept(root, header, keys);
    if !kept {
        renew(root, header, keys)?;
    }
    header_place::keep(root, luks, header.device())?;
    remove_remains(root, luks)?;
    atomic_file::remove(&changed_mark(root, luks))?;
    Ok(if kept { Kept::AsItWas } else { Kept::Renewed })
}

/// Changes key slots with a copy of the header made before; `auth` is the key that authorises it, `then` one that opens the
/// container afterwards.
///
/// The header of an enrolled container must be the enrolled one, before and after, and no other key slots may have changed
/// than `slots` names. A change that failed and changed nothing leaves all as it was. One that broke off leaves the copy,
/// and the failure names it. After one that was made, and for which luks-core has seen a key open the changed header, an
/// enrolled container's backup is renewed; whether it could be is told beside what the change gave, which must not be lost.
pub fn guarded<T>(
    root: &Root,
    container: &Container,
    auth: &Secret,
    then: &Secret,
    slots: impl FnOnce(&T) -> Vec<KeySlot>,
    change: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Result<(), Failure>), Failure> {
    let enrolled = match Enrolled::of(root, container.uuid())? {
        Some(enrolled) => {
            let header = enrolled.read_unchanged(root, container.device())?;
            // What the change goes by: it reads the header again.
            if header.enrolment().digest() != container.digest() {
                return Err(enrolled.inconstant(container.device()));
            }
            Some((enrolled, header))
        }
        None => None,
    };
    let before = Before::make(root, container, auth)?;
    match change() {
        Ok(made) => {
            let slots = slots(&made);
            Ok((made, before.finish(root, container, enrolled, &slots, then)))
        }
        Err(failure) if before.is_new && container.is_backed_up_by(&before.path).unwrap_or(false) => {
            atomic_file::remove(&before.path)?;
            Err(failure)
        }
        Err(failure) => {
            let hint = format!("the header as it was before is kept in {}", before.path.display());
            Err(failure.hint(hint))
        }
    }
}

/// The header as it was before the change that is being made.
pub(crate) struct Before {
    pub(crate) path: PathBuf,
    /// Whether it is of this run, and not left by one that broke off.
    is_new: bool,
    /// Of the register; none where that can't be used, and the container is a file.
    pub(crate) lock: Option<File>,
}

impl Before {
    /// In the register, or beside a file when the register is somebody else's.
    pub(crate) fn make(root: &Root, container: &Container, auth: &Secret) -> Result<Self, Failure> {
        let device = container.device();
        let refused = format!("the header of {} can't be backed up before it is changed", device.display());
        let lock = lock(root);
        let path = match &lock {
            Ok(_) => before(root, container.uuid()),
            Err(_) if device.is_file() => before_beside(container),
            Err(failure) => {
                return Err(Failure::new(Exit::Refused, format!("{refused}: {}", failure.message())));
            }
        };
        // What a run that broke off has left may be all that a key still opens.
        let opens = |container: &Container| container.test_key(auth).is_ok();
        let is_new = !Container::load(&path).is_ok_and(|left| opens(&left) && !opens(container));
        if is_new {
            container.renew_backup(&path).map_err(|error| {
                Failure::because(Exit::Refused, refused, &error)
                    .hint(format!("make room in {}, or run as root", root.headers_dir().display()))
            })?;
        }
        Ok(Self { path, is_new, lock: lock.ok() })
    }

    pub(crate) fn finish(
        self,
        root: &Root,
        container: &Container,
        enrolled: Option<(Enrolled, Header)>,
        slots: &[KeySlot],
        then: &Secret,
    ) -> Result<(), Failure> {
        // Not only when it is behind: a removal that was killed before leaves a header that says the same as its
        // backup, which still has the key material.
        let renewed = match enrolled.filter(|_| self.lock.is_some()) {
            Some((enrolled, was)) => enrolled.read(root, container.device()).and_then(|header| {
                let mut others = was.enrolment().changed_slots(header.enrolment());
                others.retain(|slot| !slots.contains(slot));
                if others.is_empty() {
                    return renew(root, &header, &[then]);
                }
                // Without this copy the next look doesn't take the other slots for a part of this change.
                atomic_file::remove(&self.path)?;
                Err(enrolled.changed_slots(&others, container.device()))
            }),
            None => Ok(()),
        };
        renewed.and_then(|()| atomic_file::remove(&self.path)).map_err(|failure| {
            let hint = failure.remedy().unwrap_or("offsite doctor tells what is wrong").to_owned();
            Failure::new(failure.exit(), format!("the change was made; {}", failure.message())).hint(hint)
        })
    }
}

impl Enrolled {
    /// Keeps the register's backup of the header that was read, see [`keep`].
    pub fn keep(&self, root: &Root, header: &Header, keys: &[&Secret]) -> Result<Kept, Failure> {
        keep(root, &self.known, header, keys)
    }
}
