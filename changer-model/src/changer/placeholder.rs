//! What a drive shows when the storage daemon loads a volume whose magazine is away: a stand-in, a labelled volume
//! of another name.
//!
//! A failed `load` ends the job at once, without a question (`3992 Bad autochanger`). That hits a restore whose drive
//! is pulled between the moment it was queued, when the Director noted the slots, and its turn. Waiting in `load`
//! would ask nobody either, and keep the changer's lock from the other drives. But when a load succeeds and another
//! volume turns up, the storage daemon asks the operator for the right one, tells nobody that anything is broken, and
//! loads again after `mount`; for a backup it asks the Director for another volume. Seen with Bacula 9.6.7
//! (`tests/tests/root_absent_volume.rs`).

use std::path::PathBuf;

use crate::files::store::{StateError, Store, read_file};
use crate::system::label;

/// The label, which the storage daemon shows to the operator as what it has in place of what it wants.
pub(crate) const NAME: &str = "drive-is-away";

const FILE: &str = "stand-in";

/// Where the stand-in is.
pub(crate) fn path(store: &Store) -> PathBuf {
    store.dir().join(FILE)
}

/// Makes the stand-in in the work directory and returns its path.
pub(crate) fn file(store: &Store) -> Result<PathBuf, StateError> {
    let (path, label) = (path(store), label::block(NAME));
    // where it is already no room is needed, which a full disk does not have
    if !read_file(&path).is_ok_and(|there| there == label) {
        store.write(FILE, &label, false)?;
    }
    Ok(path)
}
