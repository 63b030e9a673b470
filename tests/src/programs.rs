//! The programs under test: those that `make build` left.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The release build of a program.
///
/// # Errors
/// When it isn't built.
pub fn release(name: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let path = target.join("release").join(name);
    ensure!(path.is_file(), "{} isn't built: make build", path.display());
    Ok(path.canonicalize()?)
}
