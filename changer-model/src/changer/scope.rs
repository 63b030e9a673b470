//! Which magazines an update scans.

use crate::library::identifiers::MagazineId;

/// Which magazines an update scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan<'a> {
    /// Those that can be looked at without harm and look changed.
    Changed,
    /// Those that are mounted, newly plugged or never scanned.
    Mounted,
    /// All that are plugged, also those that must be mounted for it.
    All,
    /// These, and none else.
    Only(&'a [MagazineId]),
}
