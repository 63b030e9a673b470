//! Bays with a fixed number of slots.

/// The fixed library of the 0.8 generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BayLayout {
    /// Magazines usable at once, 1 to 32.
    pub bays: u32,
    /// Slots in each bay, 1 to 9999.
    pub slots_per_magazine: u32,
    /// Drives, 1 to 9999 and no more than slots; vchanger 0.8 had 16 at most.
    pub virtual_drives: u32,
}

impl BayLayout {
    pub(crate) const MOST_BAYS: u32 = 32;
    pub(crate) const MOST_SLOTS: u32 = 9_999;
}
