//! Key files on disk.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::bytes::{MAX_LEN, Secret, SecretError};
use super::fingerprint::Fingerprint;
use super::new_file::Draft;

/// Size of a key file in bytes when nobody asks for another.
pub const DEFAULT_KEY_FILE_LEN: usize = 4096;

/// Fewer random bytes than this (256 bits) are no key file.
const MIN_LEN: usize = 32;

/// Why a key file was not made or not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The path is taken; a key file is never overwritten.
    #[error(
        "{} exists and is not overwritten, it may open drives; choose another path or move it away",
        path.display()
    )]
    Exists {
        /// The taken path.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("key file {} is missing; restore it from the safe's copy, or generate one for new drives", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The last component is a symbolic link.
    #[error("key file {} is a symbolic link; name the file itself", path.display())]
    SymbolicLink {
        /// The path.
        path: PathBuf,
    },
    /// Neither a regular file nor a link.
    #[error("key file {} is not a regular file; name a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else owns it and could exchange it.
    #[error("key file {} belongs to user {owner}; run: chown root {}", path.display(), path.display())]
    Owner {
        /// The path.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// Group or others may read or write it.
    #[error("key file {} has mode {mode:04o}, others could copy it; run: chmod 0400 {}", path.display(), path.display())]
    Permissions {
        /// The path.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// The size is not 32 bytes to 8 MiB.
    #[error(
        "key file {} has {len} bytes, expected {MIN_LEN} to {MAX_LEN}; is it the right file, and whole?{}",
        path.display(),
        way_on(path, *len)
    )]
    Size {
        /// The path.
        path: PathBuf,
        /// The size in bytes.
        len: u64,
    },
    /// The asked size is not 32 bytes to 8 MiB.
    #[error("a key file of {len} bytes is not possible, choose {MIN_LEN} to {MAX_LEN} bytes")]
    AskedSize {
        /// The asked size in bytes.
        len: usize,
    },
    /// The file changed while it was read.
    #[error("key file {} changed while it was read; try again when nobody writes to it", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The random bytes could not be made.
    #[error("cannot generate key file {}", path.display())]
    Random {
        /// The path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: SecretError,
    },
    /// The system refused.
    #[error("cannot {action} key file {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A drive that takes a short key can take a longer one beside it.
fn way_on(path: &Path, len: u64) -> String {
    if len == 0 || len >= MIN_LEN as u64 {
        return String::new();
    }
    format!(
        " To a drive that takes this key add a longer one: cryptsetup luksAddKey --key-file {} DEVICE NEW-KEY",
        path.display()
    )
}

/// Makes a key file of `len` random bytes (32 to 8 MiB, [`DEFAULT_KEY_FILE_LEN`] is usual), mode 0400, owned by the
/// caller.
///
/// It appears whole and synced or not at all, and never replaces a file.
///
/// # Errors
/// [`KeyFileError::Exists`] when the path is taken; see the other variants for what the system may refuse.
pub fn generate_key_file(path: &Path, len: usize) -> Result<Fingerprint, KeyFileError> {
    if !(MIN_LEN..=MAX_LEN).contains(&len) {
        return Err(KeyFileError::AskedSize { len });
    }
    let secret =
        Secret::random(len).map_err(|source| KeyFileError::Random { path: path.to_owned(), source })?;
    write_key_file(path, &secret)?;
    Ok(secret.fingerprint())
}

/// Writes a secret that is there already (imported, say) as a key file; otherwise as [`generate_key_file`].
///
/// # Errors
/// [`KeyFileError::AskedSize`] when the secret is no key file's size, and as [`generate_key_file`].
pub fn save_key_file(path: &Path, secret: &Secret) -> Result<(), KeyFileError> {
    if !(MIN_LEN..=MAX_LEN).contains(&secret.len()) {
        return Err(KeyFileError::AskedSize { len: secret.len() });
    }
    write_key_file(path, secret)
}

fn write_key_file(path: &Path, secret: &Secret) -> Result<(), KeyFileError> {
    let taken = || KeyFileError::Exists { path: path.to_owned() };
    if path.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { action, path: path.to_owned(), source },
        }
    };
    let draft = Draft::beside(path).map_err(failed("create"))?;
    draft.create().and_then(|mut file| file.write_all(secret.expose())).map_err(failed("write"))?;
    draft.publish().map_err(failed("save"))
}

/// Reads a key file into locked memory.
///
/// Accepted is a regular file (no symbolic link) that belongs to root or to the effective user, grants nothing to group
/// and others, and has 32 bytes to 8 MiB.
///
/// # Errors
/// One variant for each rule, whose text names the remedy.
pub fn load_key_file(path: &Path) -> Result<Secret, KeyFileError> {
    read(path, check)
}

/// Reads a copy of a key file from where nothing can be said about owner and mode, such as a memory stick; otherwise as
/// [`load_key_file`]. Meant for proving the copy, not for opening drives with it every day.
///
/// # Errors
/// As [`load_key_file`], but never [`KeyFileError::Owner`] or [`KeyFileError::Permissions`].
pub fn load_key_copy(path: &Path) -> Result<Secret, KeyFileError> {
    read(path, check_kind_and_size)
}

fn read(
    path: &Path,
    check: fn(&std::fs::Metadata, &Path) -> Result<usize, KeyFileError>,
) -> Result<Secret, KeyFileError> {
    let io_error = |action| move |source| KeyFileError::Io { action, path: path.to_owned(), source };
    // O_NONBLOCK: a pipe in place of the file must not block the caller before the type is known.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT) => KeyFileError::Missing { path: path.to_owned() },
            Some(libc::ELOOP) => KeyFileError::SymbolicLink { path: path.to_owned() },
            Some(libc::ENXIO) => KeyFileError::NotRegular { path: path.to_owned() },
            _ => KeyFileError::Io { action: "open", path: path.to_owned(), source },
        })?;
    let len = check(&file.metadata().map_err(io_error("examine"))?, path)?;
    let secret = Secret::fill(len, |bytes| file.read_exact(bytes)).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => KeyFileError::Changed { path: path.to_owned() },
        _ => KeyFileError::Io { action: "read", path: path.to_owned(), source },
    })?;
    match file.read(&mut [0]).map_err(io_error("read"))? {
        0 => Ok(secret),
        _ => Err(KeyFileError::Changed { path: path.to_owned() }),
    }
}

/// Checks the opened file against the rules and returns its size.
fn check(metadata: &std::fs::Metadata, path: &Path) -> Result<usize, KeyFileError> {
    let path = || path.to_owned();
    let len = check_kind_and_size(metadata, &path());
    if matches!(len, Err(KeyFileError::NotRegular { .. })) {
        return len;
    }
    let owner = metadata.uid();
    if !is_trusted(owner, Uid::effective().as_raw()) {
        return Err(KeyFileError::Owner { path: path(), owner });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path(), mode });
    }
    len
}

fn check_kind_and_size(metadata: &std::fs::Metadata, path: &Path) -> Result<usize, KeyFileError> {
    if !metadata.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    usize::try_from(metadata.len())
        .ok()
        .filter(|len| (MIN_LEN..=MAX_LEN).contains(len))
        .ok_or_else(|| KeyFileError::Size { path: path.to_owned(), len: metadata.len() })
}

/// Root and the user who runs the program could not gain anything by exchanging the key.
fn is_trusted(owner: u32, effective: u32) -> bool {
    owner == 0 || owner == effective
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn file_with(directory: &tempfile::TempDir, mode: u32, contents: &[u8]) -> PathBuf {
        let path = directory.path().join("key");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn generated_file_is_0400_and_loads_with_the_same_fingerprint() {
        let directory = directory();
        let path = directory.path().join("key");
        let fingerprint = generate_key_file(&path, DEFAULT_KEY_FILE_LEN).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o400);
        assert_eq!(metadata.len(), 4096);
        assert_eq!(metadata.nlink(), 1);
        assert_eq!(load_key_file(&path).unwrap().fingerprint(), fingerprint);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn nothing_is_overwritten_not_even_a_dangling_link() {
        let directory = directory();
        let path = file_with(&directory, 0o400, &[7; 64]);
        assert!(matches!(generate_key_file(&path, 64), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), [7; 64]);
        let link = directory.path().join("link");
        symlink(directory.path().join("nowhere"), &link).unwrap();
        assert!(matches!(generate_key_file(&link, 64), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "a draft was left behind");
    }

    #[test]
    fn asked_sizes_out_of_range_are_refused() {
        let directory = directory();
        for len in [0, 31, MAX_LEN + 1] {
            let result = generate_key_file(&directory.path().join("key"), len);
            assert!(matches!(result, Err(KeyFileError::AskedSize { .. })), "{len}");
        }
    }

    #[test]
    fn permission_bits_of_others_are_refused_with_the_remedy() {
        let directory = directory();
        for mode in [0o440, 0o404, 0o420, 0o600 | 0o001, 0o644] {
            let path = file_with(&directory, mode, &[1; 64]);
            let Err(error) = load_key_file(&path) else { panic!("mode {mode:o} accepted") };
            assert!(matches!(error, KeyFileError::Permissions { .. }));
            assert!(error.to_string().ends_with(&format!("run: chmod 0400 {}", path.display())), "{error}");
            fs::remove_file(path).unwrap();
        }
        for mode in [0o400, 0o600, 0o700] {
            let path = file_with(&directory, mode, &[1; 64]);
            assert!(load_key_file(&path).is_ok(), "mode {mode:o} refused");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn only_root_and_the_running_user_may_own_a_key_file() {
        assert!(is_trusted(0, 0) && is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert!(!is_trusted(1000, 0) && !is_trusted(1000, 1001));
        let error = KeyFileError::Owner { path: "/k".into(), owner: 1000 };
        assert_eq!(error.to_string(), "key file /k belongs to user 1000; run: chown root /k");
    }

    #[test]
    fn links_directories_pipes_and_absent_files_are_refused_without_waiting() {
        let directory = directory();
        let path = file_with(&directory, 0o400, &[1; 64]);
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(load_key_file(&link), Err(KeyFileError::SymbolicLink { .. })));
        assert!(matches!(load_key_file(directory.path()), Err(KeyFileError::NotRegular { .. })));
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(load_key_file(&pipe), Err(KeyFileError::NotRegular { .. })));
        assert!(matches!(load_key_file(Path::new("/nonexistent/key")), Err(KeyFileError::Missing { .. })));
    }

    #[test]
    fn a_copy_may_have_any_mode_but_must_be_a_plain_file() {
        let directory = directory();
        let path = file_with(&directory, 0o755, &[1; 64]);
        assert!(load_key_copy(&path).is_ok());
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(load_key_copy(&link), Err(KeyFileError::SymbolicLink { .. })));
        assert!(matches!(load_key_copy(directory.path()), Err(KeyFileError::NotRegular { .. })));
    }

    #[test]
    fn a_file_that_shrinks_or_grows_while_it_is_read_is_refused() {
        let directory = directory();
        let path = file_with(&directory, 0o600, &[1; 64]);
        // What the size was when it was looked at: the file has another one when it is read.
        for look in [|_: &fs::Metadata, _: &Path| Ok(63), |_: &fs::Metadata, _: &Path| Ok(65)] {
            assert!(matches!(read(&path, look), Err(KeyFileError::Changed { .. })));
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let directory = directory();
        for len in [0, 31] {
            let path = file_with(&directory, 0o400, &vec![1; len]);
            assert!(matches!(load_key_file(&path), Err(KeyFileError::Size { .. })), "{len}");
            fs::remove_file(path).unwrap();
        }
        let path = file_with(&directory, 0o600, b"");
        File::options().write(true).open(&path).unwrap().set_len(MAX_LEN as u64 + 1).unwrap();
        assert!(matches!(load_key_file(&path), Err(KeyFileError::Size { .. })));
    }
}
