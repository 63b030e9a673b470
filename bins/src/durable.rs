//! Files that survive a power cut: written beside, flushed, renamed, and the directory flushed.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::failure::{Failure, OrFail as _};

/// Replaces `path` by `bytes` with the given permission bits; a reader sees the old or the new, never a part.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    write(path, mode, bytes).or_fail(format!("cannot write {}", path.display()))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
    let mut file = tempfile::Builder::new().prefix(".offsite-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

/// The directory of a file; that of a bare name is where the program runs.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a directory, and those above it, with the given permission bits whatever the umask says.
pub fn directory(path: &Path, mode: u32) -> Result<(), Failure> {
    let done = DirBuilder::new().recursive(true).mode(mode).create(path);
    done.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .or_fail(format!("cannot make {}", path.display()))
}

/// Removes a file, for good, if it is there.
pub fn remove(path: &Path) -> Result<(), Failure> {
    let gone = match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(directory_of(path)).and_then(|directory| directory.sync_all()),
    };
    gone.or_fail(format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_as_a_whole_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "old and longer").unwrap();
        replace(&path, 0o600, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
