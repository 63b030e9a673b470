//! What can be chosen for a wipe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fill::BadRegions;
use crate::report::verify::Verify;
use crate::stream::keystream::Generator;

/// Asks a drive about its health, by its path.
pub(crate) type HealthProbe<'a> = dyn FnMut(&Path) -> Option<serde_json::Value> + Send + 'a;

/// What can be chosen.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) verify: Verify,
    pub(crate) journal: Option<PathBuf>,
    pub(crate) keep_journal: bool,
    pub(crate) resume: bool,
    pub(crate) threads: usize,
    pub(crate) chunk: usize,
    pub(crate) bad_regions: BadRegions,
    pub(crate) checkpoint: Duration,
    pub(crate) stall_after: Duration,
    pub(crate) generator: Generator,
}

/// The size of a request, in bytes, unless the drive prefers another multiple.
///
/// What was just generated is still in the processor's cache when the kernel takes it: with four requests in
/// flight this was the fastest of 1 and 4 MiB by 1, 2 and 4 threads on a loop device over tmpfs.
pub(crate) const CHUNK: usize = 1 << 20;

/// The largest size of a request; eight threads then stay within 64 MiB.
pub(crate) const MAX_CHUNK: usize = 8 << 20;

/// The smallest size of a request.
pub(crate) const MIN_CHUNK: usize = 64 << 10;

impl Default for Settings {
    fn default() -> Self {
        Self {
            verify: Verify::Full,
            journal: None,
            keep_journal: false,
            resume: false,
            threads: 4,
            chunk: CHUNK,
            bad_regions: BadRegions::Stop,
            checkpoint: Duration::from_secs(5),
            stall_after: Duration::from_secs(10),
            generator: Generator::fastest(),
        }
    }
}
