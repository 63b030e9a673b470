//! What is wrong with one of LUKS2's two header copies.

use crate::header::luks2_copy::HeaderCopy;

/// What was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderRepair {
    /// The copy that was written anew.
    pub copy: HeaderCopy,
    /// What was wrong with it, in a form that fits after "the copy".
    pub reason: String,
}
