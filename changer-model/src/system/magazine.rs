//! Looking into a magazine: opening its directory for certain, finding its volumes, making new ones.
//!
//! A magazine is untrusted. Nothing in it is followed or waited for: entries are opened relative to the open
//! directory, without following links and without blocking, and only regular files with Bacula's label inside, or
//! empty ones with a name Bacula allows, become volumes.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mknodat};
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, fchownat, getegid, geteuid};

use super::label::{self, Beginning};
use super::mounts::{Mount, Mounts};
use crate::config::environment::Environment;
use crate::library::identifiers::VolumeName;
use crate::library::model::{self, Found};
use crate::library::state::{DirectoryStamp, FileStamp, Volume, Volumes};
use crate::library::unused::{Unused, UnusedFiles};

/// Entries looked at in one scan; a million of junk must not hold the changer up.
const MOST_ENTRIES: usize = 200_000;
/// Files opened in one scan that turned out to be no volumes.
const MOST_FOREIGN: usize = 10_000;
/// How long a scan opens files that it does not know; what is left waits for the next one.
const LONGEST_SCAN: Duration = Duration::from_secs(20);

/// Why a magazine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MagazineError {
    /// It cannot be opened.
    #[error("cannot open the magazine at {}", directory.display())]
    Unopenable {
        /// Where it should be.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its directory is there without a file system on it.
    #[error("nothing is mounted at {}; plug the magazine in", directory.display())]
    NotMounted {
        /// The directory.
        directory: PathBuf,
    },
    /// Its directory cannot be listed.
    #[error("cannot list the magazine at {}", directory.display())]
    Unlistable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("cannot open volume file {file:?} of the magazine at {}", directory.display())]
    VolumeUnopenable {
        /// The directory.
        directory: PathBuf,
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was.
    #[error("file {file:?} of the magazine at {} no longer holds volume {expected}; run refresh", directory.display())]
    OtherVolume {
        /// The directory.
        directory: PathBuf,
        /// The file.
        file: String,
        /// The volume it held.
        expected: VolumeName,
    },
    /// A new volume's file cannot be made.
    #[error("cannot create volume {name} on the magazine at {}", directory.display())]
    Uncreatable {
        /// The directory.
        directory: PathBuf,
        /// The volume.
        name: VolumeName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An open magazine directory.
#[derive(Debug)]
pub(crate) struct Magazine {
    /// As it is configured or announced; drives' links lead below it.
    directory: PathBuf,
    handle: OwnedFd,
    /// A file system of its own sits on the directory.
    pub(crate) mount_point: bool,
    /// Who gets the files that root makes here.
    owner: Option<(Uid, Gid)>,
}

/// What a scan brought.
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    pub(crate) stamp: Option<DirectoryStamp>,
    /// How many entries were not looked at, up to as many as one scan looks at.
    pub(crate) left: usize,
    /// The entry at which the scan began, and the one at which the next has to go on.
    pub(crate) from: usize,
    pub(crate) next: usize,
    /// What is there and is no volume.
    pub(crate) unused: UnusedFiles,
}

/// What a file turned out to be.
enum Inspected {
    Volume(Found),
    Unused(Unused),
    /// Nothing that anybody means as a volume.
    Other,
}

impl Magazine {
    /// Opens a magazine, which makes an automounter mount it; `must_be_mounted` refuses a bare mount point.
    pub(crate) fn open(
        env: &Environment,
        directory: &Path,
        must_be_mounted: bool,
    ) -> Result<Self, MagazineError> {
        let unopenable =
            |source: io::Error| MagazineError::Unopenable { directory: directory.to_owned(), source };
        let actual = env.path(directory);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let handle = open(&actual, flags, Mode::empty()).map_err(|errno| unopenable(errno.into()))?;
        let mount_point = is_mount_point(env, &actual, &handle);
        if must_be_mounted && !mount_point {
            return Err(MagazineError::NotMounted { directory: directory.to_owned() });
        }
        let owner = other_owner(&handle).map_err(|errno| unopenable(errno.into()))?;
        Ok(Self { directory: actual, handle, mount_point, owner })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Lists the volumes. A known volume whose file did not change since is not opened again. What is not known is
    /// looked at from the entry on at which the scan before ended (`from`, or 0).
    pub(crate) fn scan(&self, known: &Volumes, from: usize) -> Result<Listing, MagazineError> {
        let unlistable = |errno| self.unlistable(errno);
        let stamp = self.stamp();
        let by_file: BTreeMap<&str, &Volume> = known.values().map(|v| (v.file.as_str(), v)).collect();
        let mut found: Vec<Found> = Vec::new();
        let mut unused = UnusedFiles::default();
        // what is known is looked at by name, so that junk can never crowd it out
        for volume in known.values() {
            match self.inspect(&volume.file, Some(volume)) {
                Ok(Inspected::Volume(one)) => found.push(one),
                Ok(Inspected::Unused(_)) => unused.add(&volume.file, Unused::Damaged),
                Ok(Inspected::Other) | Err(_) => {}
            }
        }
        let mut dir = self.entries()?;
        let mut entries = dir.iter();
        let (mut passed, mut foreign) = (0, 0);
        let mut left = 0;
        let begun = Instant::now();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(unlistable)?;
            passed += 1;
            if passed <= from {
                continue;
            }
            let plausible = matches!(entry.file_type(), None | Some(Type::File));
            let name = entry.file_name().to_string_lossy();
            let is_new = plausible && !by_file.contains_key(&*name);
            match is_new.then(|| self.judge(entry.file_name())) {
                Some(Inspected::Volume(one)) => found.push(one),
                Some(Inspected::Unused(why)) => {
                    foreign += 1;
                    if !is_of_others(&name) {
                        unused.add(&name, why);
                    }
                }
                Some(Inspected::Other) => foreign += 1,
                None => {}
            }
            if foreign >= MOST_FOREIGN || passed - from >= MOST_ENTRIES || begun.elapsed() > LONGEST_SCAN {
                left = entries.by_ref().take(MOST_ENTRIES).count();
                break;
            }
        }
        if from > 0 && passed <= from {
            return self.scan(known, 0);
        }
        for other in model::by_name(&found).1 {
            unused.add(&other.file, Unused::Twice);
        }
        Ok(Listing { found, stamp, left, from, next: if left > 0 { passed } else { 0 }, unused })
    }

    /// Judges an entry that isn't known.
    fn judge(&self, name: &CStr) -> Inspected {
        let inspected = match name.to_str() {
            Ok(file) if !file.chars().any(char::is_control) => self.inspect(file, None),
            _ => self.is_file(name),
        };
        inspected.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Inspected::Other,
            _ => Inspected::Unused(Unused::Unreadable),
        })
    }

    /// Judges a file whose name can't be a volume's.
    fn is_file(&self, name: &CStr) -> io::Result<Inspected> {
        let stat = fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        Ok(if regular { Inspected::Unused(Unused::Name) } else { Inspected::Other })
    }

    /// The names of all regular files that may be written, in vchanger's order: these it took for volumes.
    pub(crate) fn writable_files(&self) -> Result<Vec<CString>, MagazineError> {
        let unlistable = |errno| self.unlistable(errno);
        let mut names = Vec::new();
        for entry in self.entries()?.iter().take(MOST_ENTRIES) {
            let name = entry.map_err(unlistable)?.file_name().to_owned();
            let regular = fstatat(&self.handle, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
            let writable =
                || faccessat(&self.handle, name.as_c_str(), AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
            if regular && writable() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn entries(&self) -> Result<Dir, MagazineError> {
        // a fresh description, for reading moves the shared offset
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let again = openat(&self.handle, ".", flags, Mode::empty());
        again.and_then(Dir::from_fd).map_err(|errno| self.unlistable(errno))
    }

    fn unlistable(&self, errno: nix::Error) -> MagazineError {
        MagazineError::Unlistable { directory: self.directory.clone(), source: errno.into() }
    }

    /// Judges one file.
    fn inspect(&self, file: &str, known: Option<&Volume>) -> io::Result<Inspected> {
        let stat = fstatat(&self.handle, file, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(Inspected::Other);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let stamp = Some(FileStamp(stat.st_ino, size, stat.st_mtime, stat.st_mtime_nsec));
        let volume = |name: VolumeName, blank: bool| {
            Inspected::Volume(Found { file: file.to_owned(), name, blank, stamp })
        };
        let blank = |name: Option<VolumeName>| match name {
            Some(name) => volume(name, true),
            None => Inspected::Unused(Unused::Name),
        };
        if size == 0 {
            return Ok(blank(self.loaded_by_old_program(file).or_else(|| blank_name(file))));
        }
        if let Some(same) = known.filter(|v| v.stamp == stamp) {
            return Ok(volume(same.name.clone(), same.blank));
        }
        match self.open_file(file).and_then(|file| label::read(&file)) {
            Ok(Beginning::Labelled(name)) => Ok(volume(name, false)),
            Ok(Beginning::Blank) => Ok(blank(blank_name(file))),
            Ok(Beginning::Damaged) => Ok(Inspected::Unused(Unused::Damaged)),
            Ok(Beginning::Foreign) => Ok(Inspected::Unused(Unused::Foreign)),
            // a known volume that cannot be read now is still there; loading it will say what is wrong
            Err(error) => match known {
                Some(same) => Ok(volume(same.name.clone(), same.blank)),
                None => Err(error),
            },
        }
    }

    fn open_file(&self, file: &str) -> io::Result<File> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = File::from(openat(&self.handle, file, flags, Mode::empty())?);
        if opened.metadata()?.is_file() {
            Ok(opened)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
        }
    }

    /// vchanger 0.8 calls a volume's file `driveN` while it is loaded, and keeps its name in `loadedN`.
    fn loaded_by_old_program(&self, file: &str) -> Option<VolumeName> {
        let drive = numbered(file, "drive")?;
        let mut text = vec![0; VolumeName::LONGEST + 2];
        let read =
            self.open_file(&format!("loaded{drive}")).and_then(|file| file.read_at(&mut text, 0)).ok()?;
        let line = std::str::from_utf8(text.get(..read)?).ok()?.lines().next()?;
        VolumeName::new(line.trim()).ok()
    }

    /// Opens a volume's file and makes sure that it holds this volume; returns whether it is blank.
    pub(crate) fn verify(&self, volume: &Volume) -> Result<bool, MagazineError> {
        let beginning =
            self.open_file(&volume.file).and_then(|file| label::read(&file)).map_err(|source| {
                MagazineError::VolumeUnopenable {
                    directory: self.directory.clone(),
                    file: volume.file.clone(),
                    source,
                }
            })?;
        let blank = beginning == Beginning::Blank;
        let same = match beginning {
            Beginning::Labelled(name) => name == volume.name,
            // a volume that has lost its label would be written from the start again
            Beginning::Blank => volume.blank || volume.file == volume.name.as_str(),
            Beginning::Damaged | Beginning::Foreign => false,
        };
        if same {
            Ok(blank)
        } else {
            Err(MagazineError::OtherVolume {
                directory: self.directory.clone(),
                file: volume.file.clone(),
                expected: volume.name.clone(),
            })
        }
    }

    /// Makes a blank volume; false when a file of that name is there. It is on the drive after [`Magazine::sync`].
    pub(crate) fn create(&self, name: &VolumeName) -> Result<bool, MagazineError> {
        let failed = |errno: nix::Error| MagazineError::Uncreatable {
            directory: self.directory.clone(),
            name: name.clone(),
            source: errno.into(),
        };
        let mode = Mode::from_bits_truncate(0o666);
        match mknodat(&self.handle, name.as_str(), SFlag::S_IFREG, mode, 0) {
            Ok(()) => {}
            Err(nix::Error::EEXIST) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        }
        if let Some((user, group)) = self.owner {
            fchownat(&self.handle, name.as_str(), Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(failed)?;
        }
        Ok(true)
    }

    /// Forces the directory's new entries to the drive.
    pub(crate) fn sync(&self) -> Result<(), MagazineError> {
        nix::unistd::fsync(&self.handle).map_err(|errno| self.unlistable(errno))
    }

    /// What the directory looks like now; none while its last change is so young that another one could bear the
    /// same time.
    pub(crate) fn stamp(&self) -> Option<DirectoryStamp> {
        self.stamp_now().and_then(settled)
    }

    /// What the directory looks like after the changer's own changes, for which no margin is needed.
    pub(crate) fn stamp_now(&self) -> Option<DirectoryStamp> {
        directory_stamp(&self.directory)
    }
}

/// What root makes in another user's directory belongs to that user, or the user could not write it.
fn other_owner(directory: &OwnedFd) -> nix::Result<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let stat = fstat(directory)?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok((owner != (geteuid(), getegid())).then_some(owner))
}

/// The number behind a prefix, where nothing else is.
fn numbered<'f>(file: &'f str, prefix: &str) -> Option<&'f str> {
    file.strip_prefix(prefix)
        .filter(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn blank_name(file: &str) -> Option<VolumeName> {
    if is_of_others(file) { None } else { VolumeName::new(file).ok() }
}

/// Whether a file without a label is vchanger 0.8's own, or hidden.
fn is_of_others(file: &str) -> bool {
    file == "index"
        || numbered(file, "loaded").is_some()
        || numbered(file, "drive").is_some()
        || file.starts_with('.')
}

/// What a directory looks like, by its path; none when that cannot be told.
pub(crate) fn directory_stamp(directory: &Path) -> Option<DirectoryStamp> {
    fs::metadata(directory).ok().as_ref().map(stamp_of)
}

fn stamp_of(data: &fs::Metadata) -> DirectoryStamp {
    DirectoryStamp { device: data.dev(), inode: data.ino(), changed: (data.ctime(), data.ctime_nsec()) }
}

/// The stamp, unless it is so young that a later change could bear the same time.
fn settled(stamp: DirectoryStamp) -> Option<DirectoryStamp> {
    let changed = stamp.changed;
    // clocks of file systems tick every few milliseconds, or every two seconds where they keep no fractions
    let margin = if changed.1 == 0 { Duration::from_secs(2) } else { Duration::from_millis(50) };
    let since = UNIX_EPOCH + Duration::new(u64::try_from(changed.0).ok()?, u32::try_from(changed.1).ok()?);
    let old_enough = SystemTime::now().duration_since(since).is_ok_and(|age| age > margin);
    old_enough.then_some(stamp)
}

/// Whether an open directory is the root of a mounted file system, or lies in one that an automounter mounted.
fn is_mount_point(env: &Environment, actual: &Path, handle: &OwnedFd) -> bool {
    let mounts = Mounts::read(env);
    let serves = |mount: &Mount, real: &Path| {
        let automounted = mounts.autofs_above(&mount.directory).is_some();
        !mount.is_autofs() && (mount.directory == real || automounted)
    };
    if env.root == Path::new("/") {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_fd().as_raw_fd()));
        let id = info
            .ok()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()));
        if let Some(mount) = id.and_then(|id| mounts.by_id(id)) {
            let real = fs::canonicalize(actual).unwrap_or_else(|_| actual.to_owned());
            return serves(mount, &real);
        }
    }
    let outside = actual.strip_prefix(&env.root).map(|below| Path::new("/").join(below));
    [Some(actual.to_owned()), outside.ok()]
        .into_iter()
        .flatten()
        .any(|path| mounts.holding(&path).is_some_and(|mount| serves(mount, &path)))
}
