//! Marker files: how whoever unlocks drives says which are plugged, so that asking never touches one.
//!
//! `<root>/run/offsite/magazines/<fs-uuid>` holds one line: the directory the file system is, or on access will
//! be, mounted at. Its absence says that the drive is away. `<root>/run/offsite/checked/<fs-uuid>` says when the file
//! system was checked last.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const DIRECTORY: &str = "run/offsite/magazines";
const CHECKED: &str = "run/offsite/checked";

/// Maximum of a mark's text, in bytes.
const LONGEST: u64 = 8192;

/// The marker file of a file system's UUID; the UUID's case does not count.
pub fn marker_path(root: &Path, fs_uuid: &str) -> PathBuf {
    root.join(DIRECTORY).join(fs_uuid.to_ascii_lowercase())
}

/// Says that the drive with this file system is plugged, and where it is or will be mounted.
///
/// # Errors
/// When the UUID could not be a file's name, or the system refuses.
pub fn write_marker(root: &Path, fs_uuid: &str, mount_directory: &Path) -> io::Result<()> {
    replace(&root.join(DIRECTORY), fs_uuid, mount_directory.as_os_str().as_encoded_bytes())
}

/// Says that the file system was checked just now and found sound, so that volumes of its that a write error made
/// unusable may be used again.
///
/// # Errors
/// When the UUID could not be a file's name, or the system refuses.
pub fn note_checked(root: &Path, fs_uuid: &str) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    replace(&root.join(CHECKED), fs_uuid, now.as_nanos().to_string().as_bytes())
}

/// When a file system was checked last, in words that compare only as equal; none if it never was since the start.
pub(crate) fn read_checked(root: &Path, fs_uuid: &str) -> Option<String> {
    first_line(&root.join(CHECKED), fs_uuid)
}

/// Replaces a mark, readable for all.
fn replace(directory: &Path, fs_uuid: &str, line: &[u8]) -> io::Result<()> {
    let name = legal(fs_uuid)?;
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let fresh = directory.join(format!(".{name}.new"));
    // What lies there was left by a writer that ended half-way, or planted: nothing is written through it.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(line)?;
    file.write_all(b"\n")?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(&fresh, directory.join(name))
}

/// Says that the drive with this file system is away; it is no error when that was known.
///
/// # Errors
/// When the UUID could not be a file's name, or the system refuses.
pub fn remove_marker(root: &Path, fs_uuid: &str) -> io::Result<()> {
    match fs::remove_file(root.join(DIRECTORY).join(legal(fs_uuid)?)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where a plugged drive's file system is or will be mounted; none when it is away.
///
/// What is no regular file is no marker, and isn't waited for.
pub fn read_marker(root: &Path, fs_uuid: &str) -> Option<PathBuf> {
    first_line(&root.join(DIRECTORY), fs_uuid).filter(|line| line.starts_with('/')).map(PathBuf::from)
}

fn first_line(directory: &Path, fs_uuid: &str) -> Option<String> {
    let mut text = String::new();
    let path = directory.join(legal(fs_uuid).ok()?);
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.lines().next().map(str::to_owned)
}

/// A file system's UUID as a file's name.
fn legal(fs_uuid: &str) -> io::Result<String> {
    let legal = !fs_uuid.is_empty() && fs_uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if legal {
        Ok(fs_uuid.to_ascii_lowercase())
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
    fn what_is_no_regular_file_is_no_marker() {
        let root = tempfile::tempdir().expect("temporary directory");
        write_marker(root.path(), "ab-1", Path::new("/mnt/x/ab-1")).expect("writes");
        let (good, planted) = (marker_path(root.path(), "ab-1"), marker_path(root.path(), "ab-2"));
        std::os::unix::fs::symlink(&good, &planted).expect("links");
        assert_eq!(read_marker(root.path(), "ab-2"), None, "a link");
        fs::remove_file(&planted).expect("removes");
        // Whoever opens it waits for a writer.
        nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).expect("makes a pipe");
        assert_eq!(read_marker(root.path(), "ab-2"), None, "a pipe");
        fs::remove_file(&planted).expect("removes");
        fs::write(&planted, vec![b'/'; 1 << 20]).expect("writes");
        assert!(
            read_marker(root.path(), "ab-2").is_none_or(|path| path.as_os_str().len() <= 8192),
            "a huge one"
        );
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
