//! The catalog's volumes.

use std::collections::BTreeMap;

use super::identifiers::VolumeName;

/// A volume as the catalog has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its `VolStatus`.
    pub(crate) status: String,
    /// Its slot, 0 for none, and whether it is in the changer; none when the answer doesn't say it.
    pub(crate) place: Option<(u32, bool)>,
    /// Its size; none when the answer doesn't say it.
    pub(crate) bytes: Option<u64>,
}

/// The catalog's volumes by their names.
pub(crate) type Catalog = BTreeMap<VolumeName, Listed>;
