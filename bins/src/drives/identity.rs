//! Which drive it is.

use std::path::Path;

use media_wipe::{Identity, System, identify};

use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// The system as `media-wipe` looks at it; keys of wipes under way stay below this root, whose kernel ever is asked.
pub fn system(root: &Root) -> System {
    System::new(root.kernel()).keep_keys_in(root.join("/run/media-wipe"))
}

/// Identifies one drive, loop device or file.
pub fn one(root: &Root, device: &Path) -> Result<Identity, Failure> {
    let exit = if device.exists() { Exit::Failed } else { Exit::NotThere };
    identify(&system(root), device).or_exit(exit, format!("cannot identify {}", device.display()))
}
