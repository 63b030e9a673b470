//! Files that survive a power cut, made where no planted link can lead elsewhere: written beside under a name that
//! nobody has, flushed, renamed, and the directory flushed. Owners and modes are set, whatever the umask says.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, getegid, geteuid, unlinkat};

use super::failure::{Failure, OrFail as _};
use super::trusted_path::Entry;

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// The user and group that this process acts as.
    pub fn own() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }
}

/// Replaces `path` by `bytes` with the given permission bits; a reader sees the old or the new, never a part.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    replace_as(path, Owner::own(), mode, bytes)
}

/// Replaces it the same way, by a file that belongs to `owner`.
pub fn replace_as(path: &Path, owner: Owner, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let done = Entry::of(path).and_then(|entry| write(entry, bytes, |file| give(file, owner, mode)));
    done.or_fail(format!("cannot write {}", path.display()))
}

/// Replaces it on a filesystem that may keep no permission bits, as that of a memory stick; says whether it keeps them.
pub fn replace_on_stick(path: &Path, mode: u32, bytes: &[u8]) -> Result<bool, Failure> {
    let mut kept = true;
    let give = |file: &File| unless_refused(give(file, Owner::own(), mode), &mut kept);
    let done = Entry::of(path).and_then(|entry| write(entry, bytes, give));
    done.or_fail(format!("cannot write {}", path.display()))?;
    Ok(kept)
}

/// FAT has one owner and one mode for all its files, and the kernel refuses other ones.
fn unless_refused(done: io::Result<()>, kept: &mut bool) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            *kept = false;
            Ok(())
        }
        done => done,
    }
}

/// Replaces the text of a file that is there; its owner and permission bits stay, and a symbolic link to it.
pub fn rewrite(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let rewrite = || {
        let entry = Entry::behind(path)?;
        let stat = fstatat(&entry.directory, &*entry.name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        write(entry, bytes, |file| give(file, owner, stat.st_mode & 0o7777))
    };
    rewrite().or_fail(format!("cannot write {}", path.display()))
}

fn write(
    Entry { directory, name }: Entry,
    bytes: &[u8],
    give: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let beside = Entry { directory, name: format!(".offsite-{:016x}", u64::from_ne_bytes(random)).into() };
    let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
    let mut file = File::from(beside.open(new, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let done = file
        .write_all(bytes)
        .and_then(|()| give(&file))
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(renameat(&beside.directory, &*beside.name, &beside.directory, &*name)?));
    if done.is_err() {
        let _ = unlinkat(&beside.directory, &*beside.name, UnlinkatFlags::NoRemoveDir); // the error is told
    }
    done.and_then(|()| sync(beside))
}

/// Gives a file or directory its owner and its permission bits.
fn give(file: &File, owner: Owner, mode: u32) -> io::Result<()> {
    // The owner first: the kernel takes bits back at that change.
    fchown(file, Some(owner.uid), Some(owner.gid))?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Flushes the directory of an entry.
fn sync(entry: Entry) -> io::Result<()> {
    let directory = Entry { name: ".".into(), ..entry };
    File::from(directory.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?).sync_all()
}

/// Makes a directory with the given permission bits, and those above it with 0755; one that is there stays as it is.
pub fn directory(path: &Path, mode: u32) -> Result<(), Failure> {
    make(path, Owner::own(), mode, false).or_fail(format!("cannot make {}", path.display()))
}

/// Makes a directory that belongs to `owner` alone, and those above it with 0755; one that is there gets this owner and
/// these permission bits.
pub fn directory_of(path: &Path, owner: Owner, mode: u32) -> Result<(), Failure> {
    make(path, owner, mode, true).or_fail(format!("cannot make {}", path.display()))
}

fn make(path: &Path, owner: Owner, mode: u32, set: bool) -> io::Result<()> {
    let path = &std::path::absolute(path)?;
    let entry = match Entry::behind(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().ok_or(error)?;
            make(above, Owner::own(), 0o755, false)?;
            Entry::behind(path)?
        }
        entry => entry?,
    };
    let is_new = match mkdirat(&entry.directory, &*entry.name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let directory = File::from(entry.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?);
    if is_new || set { give(&directory, owner, mode) } else { Ok(()) }
}

/// Removes a file, for good, if it is there.
pub fn remove(path: &Path) -> Result<(), Failure> {
    let gone = Entry::of(path).and_then(|entry| {
        unlinkat(&entry.directory, &*entry.name, UnlinkatFlags::NoRemoveDir)?;
        sync(entry)
    });
    match gone {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        gone => gone.or_fail(format!("cannot remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn replaces_as_a_whole_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "old and longer").unwrap();
        replace(&path, 0o600, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_planted_link_is_replaced_and_never_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("open")).unwrap();
        std::fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(at("closed")).unwrap();
        std::fs::write(at("closed/file"), "as before").unwrap();
        symlink("../closed/file", at("open/file")).unwrap();
        replace(&at("open/file"), 0o644, b"new").unwrap();
        assert!(at("open/file").symlink_metadata().unwrap().is_file());
        symlink("../closed", at("open/way")).unwrap();
        let failure = replace(&at("open/way/file"), 0o644, b"new").unwrap_err();
        assert!(failure.message().contains("symbolic link"), "{failure}");
        assert!(super::directory(&at("open/way/sub"), 0o755).is_err());
        assert!(remove(&at("open/way/file")).is_err());
        assert_eq!(std::fs::read(at("closed/file")).unwrap(), b"as before");
        assert_eq!(at("closed").read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_rewritten_file_keeps_owner_mode_and_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        replace(&at("file"), 0o640, b"old").unwrap();
        symlink("file", at("link")).unwrap();
        rewrite(&at("link"), b"new").unwrap();
        assert!(at("link").symlink_metadata().unwrap().is_symlink());
        assert_eq!((std::fs::read(at("file")).unwrap(), mode(&at("file"))), (b"new".to_vec(), 0o640));
        assert!(rewrite(&at("missing"), b"").is_err());
    }

    #[test]
    fn only_the_last_directory_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("var/lib/own");
        super::directory(&path, 0o700).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o755, 0o700));
        // One that is there is set right only where that is asked for.
        super::directory(&path, 0o755).unwrap();
        assert_eq!(mode(&path), 0o700);
        directory_of(&path, Owner::own(), 0o750).unwrap();
        assert_eq!(mode(&path), 0o750);
    }

    #[test]
    fn a_file_is_given_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let root = geteuid().is_root();
        let owner = if root { Owner { uid: 65_534, gid: 65_533 } } else { Owner::own() };
        replace_as(&path, owner, 0o640, b"text").unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), mode(&path)), (owner.uid, owner.gid, 0o640));
    }

    #[test]
    fn a_filesystem_without_permissions_takes_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        // What chmod(2) says on FAT.
        let refuses = |_: &File| Err(io::Error::from_raw_os_error(libc::EPERM));
        assert!(write(Entry::of(&path).unwrap(), b"new", refuses).is_err() && !path.exists());
        let mut kept = true;
        let given = |file: &File| unless_refused(refuses(file), &mut kept);
        write(Entry::of(&path).unwrap(), b"new", given).unwrap();
        assert!(!kept && std::fs::read(&path).unwrap() == b"new");
        assert!(replace_on_stick(&path, 0o400, b"again").unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o400);
    }
}
