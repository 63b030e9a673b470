//! What the system tells: mounts, markers, magazines, labels, drive links, privileges.

pub(crate) mod drives;
pub(crate) mod identity;
pub(crate) mod isolation;
pub(crate) mod label;
pub(crate) mod magazine;
pub(crate) mod marker;
pub(crate) mod mounts;
pub(crate) mod presence;
