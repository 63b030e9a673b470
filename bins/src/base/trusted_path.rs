//! Finding a file without being led elsewhere.
//!
//! A path may pass through directories that other users may change, such as those of Bacula or a user's home. There a
//! symbolic link could lead root to any file of the system, so it is followed only where nobody but root (and the
//! user who runs this) could have made it. The way is walked by descriptors, a name at a time: what was looked at is
//! what is used.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::libc::{S_IFLNK, S_IFMT, S_IFREG, S_ISVTX, mode_t};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::geteuid;

/// Maximum number of symbolic links on one way, as in the kernel.
const MOST_LINKS: u32 = 40;

/// Permission bits of the group and of all others to write.
const WRITABLE_BY_OTHERS: mode_t = 0o022;

/// A name in a directory that is held open.
#[derive(Debug)]
pub struct Entry {
    /// The directory, open for looking names up (`O_PATH`).
    pub directory: OwnedFd,
    /// The name in it.
    pub name: OsString,
}

impl Entry {
    /// Finds where `path` is or would be. A symbolic link that is its last name stays one.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::walk(path, false)
    }

    /// Finds the same, behind a symbolic link that is its last name.
    pub fn behind(path: &Path) -> io::Result<Self> {
        Self::walk(path, true)
    }

    fn walk(path: &Path, follow: bool) -> io::Result<Self> {
        const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
        let mut left = names(&std::path::absolute(path)?);
        let mut directory = open("/", DIRECTORY, Mode::empty())?;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let last = left.is_empty();
            let found = fstatat(&directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let is_link = found.as_ref().is_ok_and(|stat| stat.st_mode & S_IFMT == S_IFLNK);
            if last && (!is_link || !follow) && !matches!(found, Err(error) if error != Errno::ENOENT) {
                return Ok(Self { directory, name });
            }
            let stat = found?;
            if !is_link {
                directory = openat(&directory, &*name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if !is_ours(&fstat(&directory)?, &stat) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{} is a symbolic link where others may make one", Path::new(&name).display()),
                ));
            }
            let target = readlinkat(&directory, &*name)?;
            if Path::new(&target).is_absolute() {
                directory = open("/", DIRECTORY, Mode::empty())?;
            }
            let mut through = names(Path::new(&target));
            through.append(&mut left);
            left = through;
        }
        Ok(Self { directory, name: OsString::from(".") })
    }

    /// Opens it; never a symbolic link, nor does it wait for the other end of a FIFO.
    pub fn open(&self, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        Ok(openat(&self.directory, &*self.name, flags, mode)?)
    }
}

/// The names of a path from the root directory on, or of a link's target.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.map(OsStr::to_owned).collect()
}

/// Whether only root or the user who runs this could have made a link: nobody else may write to its directory; in one
/// like /tmp its own owner counts.
fn is_ours(directory: &FileStat, link: &FileStat) -> bool {
    let own = |stat: &FileStat| stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let closed = directory.st_mode & WRITABLE_BY_OTHERS == 0;
    own(directory) && (closed || (directory.st_mode & S_ISVTX != 0 && own(link)))
}

/// Why nobody but root should act on what a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// It belongs to this user.
    Owner(u32),
    /// Its group or all others may write it; its permission bits.
    Mode(u32),
}

/// Whether others than root and the user who runs this may change a file.
pub fn distrust(stat: &FileStat) -> Option<Distrust> {
    if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
        return Some(Distrust::Owner(stat.st_uid));
    }
    (stat.st_mode & WRITABLE_BY_OTHERS != 0).then_some(Distrust::Mode(stat.st_mode & 0o7777))
}

/// Opens a regular file of at most `most` bytes for reading, with what the kernel says of it. Nothing else is opened
/// even for a moment: that alone has effects on some devices, and a FIFO would wait.
pub fn open_regular(path: &Path, most: u64) -> io::Result<(File, FileStat)> {
    let found = Entry::behind(path)?.open(OFlag::O_PATH, Mode::empty())?;
    let stat = fstat(&found)?;
    if stat.st_mode & S_IFMT != S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    // The same file, whatever its name leads to by now (proc_pid_fd(5)).
    Ok((File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?, stat))
}

/// Reads a regular file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<(Vec<u8>, FileStat)> {
    let (file, stat) = open_regular(path, most)?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, stat))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A directory, and below it one that others may write.
    fn world() -> tempfile::TempDir {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir(world.path().join("open")).unwrap();
        fs::set_permissions(world.path().join("open"), Permissions::from_mode(0o777)).unwrap();
        fs::write(world.path().join("secret"), "secret").unwrap();
        world
    }

    fn text(path: &Path) -> Result<String, io::ErrorKind> {
        let (bytes, _) = read(path, 100).map_err(|error| error.kind())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_link_is_followed_where_only_root_could_have_made_it() {
        let world = world();
        let at = |name: &str| world.path().join(name);
        symlink("secret", at("link")).unwrap();
        symlink(at("link"), at("absolute")).unwrap();
        symlink("open/..", at("around")).unwrap();
        for path in ["secret", "link", "absolute", "open/../secret", "around/secret"] {
            assert_eq!(text(&at(path)).as_deref(), Ok("secret"), "{path}");
        }
        assert_eq!(text(&at("missing")), Err(io::ErrorKind::NotFound));
        assert_eq!(text(&at("missing/file")), Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_link_that_others_could_have_made_is_not_followed() {
        let world = world();
        let at = |name: &str| world.path().join(name);
        symlink("../secret", at("open/link")).unwrap();
        symlink("..", at("open/up")).unwrap();
        for path in ["open/link", "open/up/secret"] {
            assert_eq!(text(&at(path)), Err(io::ErrorKind::PermissionDenied), "{path}");
        }
        // Its name can be replaced all the same.
        assert_eq!(Entry::of(&at("open/link")).unwrap().name, "link");
    }

    #[test]
    fn in_a_sticky_directory_the_links_owner_counts() {
        let world = world();
        let at = |name: &str| world.path().join(name);
        fs::set_permissions(at("open"), Permissions::from_mode(0o1777)).unwrap();
        symlink("../secret", at("open/link")).unwrap();
        assert_eq!(text(&at("open/link")).as_deref(), Ok("secret"));
        if geteuid().is_root() {
            std::os::unix::fs::lchown(at("open/link"), Some(65_534), Some(65_534)).unwrap();
            assert_eq!(text(&at("open/link")), Err(io::ErrorKind::PermissionDenied));
            chown(at("open"), Some(65_534), None).unwrap();
            assert_eq!(text(&at("open/link")), Err(io::ErrorKind::PermissionDenied));
        }
    }

    #[test]
    fn links_in_a_circle_have_an_end() {
        let world = world();
        symlink("b", world.path().join("a")).unwrap();
        symlink("a", world.path().join("b")).unwrap();
        assert!(text(&world.path().join("a")).is_err());
    }

    #[test]
    fn only_short_regular_files_are_read() {
        let world = world();
        let fifo = world.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert_eq!(text(&fifo), Err(io::ErrorKind::InvalidInput));
        assert_eq!(text(Path::new("/dev/zero")), Err(io::ErrorKind::InvalidInput));
        let secret = world.path().join("secret");
        assert!(read(&secret, 5).unwrap_err().to_string().contains("more than 5 bytes"));
        assert_eq!(text(&secret).unwrap(), "secret");
    }
}
