//! State files have a version.

use serde::de::DeserializeOwned;

/// What is in a state file.
pub(crate) trait Versioned: DeserializeOwned {
    fn version(&self) -> u32;
}
