//! Marker files: how whoever unlocks drives says which are plugged, so that asking never touches one.
//!
//! `<root>/run/offsite/magazines/<fs-uuid>` holds one line: the directory the file system is, or on access will
//! be, mounted at. Its absence says that the drive is away.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "run/offsite/magazines";

/// The marker file of a file system's UUID; the UUID's case does not count.
pub fn marker_path(root: &Path, fs_uuid: &str) -> PathBuf {
    root.join(DIRECTORY).join(fs_uuid.to_ascii_lowercase())
}

/// Says that the drive with this file system is plugged, and where it is or will be mounted.
///
/// # Errors
/// When the UUID could not be a file's name, or the system refuses.
pub fn write_marker(root: &Path, fs_uuid: &str, mount_directory: &Path) -> io::Result<()> {
    let path = checked(root, fs_uuid)?;
    let directory = root.join(DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o755).create(&directory)?;
    let fresh = directory.join(format!(".{}.new", fs_uuid.to_ascii_lowercase()));
    let mut line = mount_directory.as_os_str().as_encoded_bytes().to_vec();
    line.push(b'\n');
    // What lies there was left by a writer that ended half-way, or planted: nothing is written through it.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(&line)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(&fresh, path)
}

/// Says that the drive with this file system is away; it is no error when that was known.
///
/// # Errors
/// When the UUID could not be a file's name, or the system refuses.
pub fn remove_marker(root: &Path, fs_uuid: &str) -> io::Result<()> {
    match fs::remove_file(checked(root, fs_uuid)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where a plugged drive's file system is or will be mounted; none when it is away.
pub(crate) fn read_marker(root: &Path, fs_uuid: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(checked(root, fs_uuid).ok()?).ok()?;
    let line = text.lines().next().filter(|line| line.starts_with('/'))?;
    Some(PathBuf::from(line))
}

fn checked(root: &Path, fs_uuid: &str) -> io::Result<PathBuf> {
    let legal = !fs_uuid.is_empty() && fs_uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if legal {
        Ok(marker_path(root, fs_uuid))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{fs_uuid:?} is no file system's UUID")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_through_a_planted_link() {
        let root = tempfile::tempdir().expect("temporary directory");
        let victim = root.path().join("victim");
        fs::write(&victim, "as before").expect("writes");
        write_marker(root.path(), "ab-1", Path::new("/mnt/x/ab-1")).expect("writes");
        let fresh = root.path().join(DIRECTORY).join(".ab-1.new");
        std::os::unix::fs::symlink(&victim, fresh).expect("links");
        write_marker(root.path(), "ab-1", Path::new("/mnt/y/ab-1")).expect("writes");
        assert_eq!(fs::read_to_string(&victim).expect("reads"), "as before");
        assert_eq!(read_marker(root.path(), "ab-1").as_deref(), Some(Path::new("/mnt/y/ab-1")));
    }

    #[test]
    fn markers_come_and_go() {
        let root = tempfile::tempdir().expect("temporary directory");
        assert_eq!(read_marker(root.path(), "ab-1"), None);
        write_marker(root.path(), "AB-1", Path::new("/mnt/x/ab-1")).expect("writes");
        assert_eq!(read_marker(root.path(), "ab-1").as_deref(), Some(Path::new("/mnt/x/ab-1")));
        remove_marker(root.path(), "ab-1").expect("removes");
        remove_marker(root.path(), "ab-1").expect("removes what is not there");
        assert_eq!(read_marker(root.path(), "ab-1"), None);
        assert!(write_marker(root.path(), "../x", Path::new("/")).is_err());
    }
}
