//! Which drives were ejected, for the next daemon.

use super::drive::{Drive, Plugged};
use crate::base::atomic_file::{self, Owner};
use crate::base::paths::Root;

/// Whether this drive was ejected and has been plugged ever since, by the word of an earlier daemon too.
pub(super) fn is_remembered(root: &Root, drive: &Drive, plugged: &Plugged) -> bool {
    let noted = std::fs::read_to_string(root.ejected_mark(&drive.magazine().fs_uuid)).ok();
    let here = noted.is_some() && noted == appearance(plugged);
    if noted.is_some() && !here {
        forget(root, drive);
    }
    here
}

pub(crate) fn remember(root: &Root, drive: &Drive, plugged: &Plugged) {
    let Some(appearance) = appearance(plugged) else { return };
    let mark = root.ejected_mark(&drive.magazine().fs_uuid);
    let made = mark.parent().map_or(Ok(()), |marks| atomic_file::directory_of(marks, Owner::own(), 0o755));
    if let Err(failure) = made.and_then(|()| atomic_file::replace(&mark, 0o644, appearance.as_bytes())) {
        let why = failure.message();
        drive.warn(&format!("{} stays ejected only until offsited is restarted: {why}", drive.magazine()));
    }
}

pub(crate) fn forget(root: &Root, drive: &Drive) {
    let mark = root.ejected_mark(&drive.magazine().fs_uuid);
    match std::fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            drive.warn(&format!("cannot remove {}: {error}", mark.display()));
        }
        _ => {}
    }
}

/// The kernel's number of this plug, which no other has until the next boot (Linux 5.15).
pub(crate) fn appearance(plugged: &Plugged) -> Option<String> {
    plugged.diskseq.map(|number| number.to_string())
}
