//! The volumes by what the Director has to know of them.

use std::collections::{BTreeMap, BTreeSet};

use super::identifiers::{Slot, VolumeName};

/// The volumes by what the Director has to know of them.
#[derive(Default)]
pub(crate) struct VolumesNow {
    /// It must find them in the changer's list, in these slots; in more than one where two files have one label.
    pub(crate) shown: BTreeMap<VolumeName, BTreeSet<Slot>>,
    /// They are to be closed.
    pub(crate) away: BTreeSet<VolumeName>,
    /// Their magazines left the configuration: they are none of our business, and not to be left closed.
    pub(crate) released: BTreeSet<VolumeName>,
}

impl VolumesNow {
    pub(crate) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.away.is_empty()
    }
}
