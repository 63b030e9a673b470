//! What a daemon needs of a path.

use std::path::PathBuf;

use super::report::{Place, Severity};
use crate::schema::host::Want;
use crate::schema::resources::Resource;
use crate::schema::setting::size_of;
use crate::values::program::Program;
use crate::values::units::Size;

/// A path that a daemon, or the changer in its place, has to do something with.
pub(super) struct Need {
    pub(super) program: Program,
    pub(super) path: PathBuf,
    pub(super) want: Want,
    pub(super) place: Place,
    /// What happens if it can't.
    pub(super) why: &'static str,
    /// How bad that is.
    pub(super) severity: Severity,
}

pub(super) fn volume_size(pool: &Resource<'_>) -> Option<u64> {
    let directive = pool.directive("Maximum Volume Bytes").or_else(|| pool.directive("Max Volume Bytes"))?;
    size_of(directive.value()).map(Size::as_bytes).filter(|bytes| *bytes > 0)
}
