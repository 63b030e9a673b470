//! What a wipe leaves behind to be resumed from: how far it is, never the key.
//!
//! Three files:
//! - the journal (JSON): identity, offset that is flushed, offset that is verified;
//! - beside it, `.sums`: a CRC-32 of each chunk, four bytes each, so that what was written stays verifiable when the
//!   key is lost;
//! - below `/run` (or where the caller says), in memory: the key itself, readable by its owner only. It survives the death of the process,
//!   not a power cut. It isn't kept where `/run` isn't a memory filesystem, or where the system swaps.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

use super::settings::{MAX_CHUNK, MIN_CHUNK};
use crate::identity::examine::Identity;
use crate::identity::safety;
use crate::io::device::ALIGNMENT;
use crate::io::region::Region;
use crate::stream::keystream::{Generator, Key};
use crate::system::root::System;

/// Why a journal could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file of the journal could not be read.
    #[error("can't read the journal {}; wipe again without resuming", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The journal isn't one.
    #[error("{} is not a journal of this program's version; wipe again without resuming", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The journal's numbers can't be.
    #[error("{} holds numbers that no wipe can have; wipe again without resuming", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
    },
    /// The journal tells of another drive.
    #[error("the journal {} is of the drive \"{journal}\", not of \"{found}\"; plug that one in, or wipe without resuming", path.display())]
    OtherDevice {
        /// The file.
        path: PathBuf,
        /// The id and size in the journal.
        journal: String,
        /// The id and size of the drive.
        found: String,
    },
    /// A file of the journal could not be written.
    #[error("can't write the journal {}; look for space and permissions, then resume", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The key could not be made.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// What is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: String,
    pub(crate) size_bytes: u64,
    pub(crate) generator: Generator,
    pub(crate) chunk_bytes: usize,
    /// Names the file with the key.
    token: String,
    /// What lies before was written with a key that is lost.
    pub(crate) key_start: u64,
    /// All before was written and flushed.
    pub(crate) written: u64,
    /// All before was read back and agreed.
    pub(crate) verified: u64,
    pub(crate) unwritable: Vec<Region>,
    pub(crate) started: Timestamp,
}

const VERSION: u32 = 1;

impl Record {
    /// Whether a wipe can have come to these numbers: a damaged journal must lead nobody astray.
    fn is_sound(&self) -> bool {
        let chunk = self.chunk_bytes as u64;
        let whole = |offset: u64| offset == self.size_bytes || offset.is_multiple_of(chunk);
        self.version == VERSION
            && (MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk_bytes)
            && self.chunk_bytes.is_multiple_of(ALIGNMENT)
            && self.written <= self.size_bytes
            && self.verified <= self.written
            && self.key_start <= self.written
            && [self.written, self.verified, self.key_start].into_iter().all(whole)
            && self.unwritable.iter().all(|region| {
                region.offset.checked_add(region.length).is_some_and(|end| end <= self.size_bytes)
            })
            && self.token.len() == 16
            && self.token.bytes().all(|digit| digit.is_ascii_hexdigit())
    }
}

/// The open files of a journal.
pub(crate) struct Journal {
    path: PathBuf,
    sums: File,
    sums_path: PathBuf,
    /// Where the key is kept, if it is.
    key_path: Option<PathBuf>,
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn key_path(system: &System, token: &str) -> PathBuf {
    system.keys().join(format!("{token}.key"))
}

fn remove_files<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), JournalError> {
    for path in paths {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JournalError::Write { path: path.clone(), source }),
        }
    }
    Ok(())
}

/// Removes the journal at `path`, if there is one, with its checksums and its key.
///
/// It is for who let [`Wipe::keep_journal`](crate::Wipe::keep_journal) keep it, once the report is where it belongs.
pub fn forget_journal(system: &System, path: &Path) -> Result<(), JournalError> {
    let old = read_record(path).ok().filter(Record::is_sound);
    let key = old.map(|old| key_path(system, &old.token));
    remove_files(key.iter().chain([&path.to_path_buf(), &with_suffix(path, ".sums")]))
}

impl Journal {
    /// Begins a journal, in place of one that may be there.
    pub(crate) fn start(
        path: &Path,
        system: &System,
        identity: &Identity,
        generator: Generator,
        chunk: usize,
        key: &Key,
    ) -> Result<(Self, Record), JournalError> {
        if let Ok(old) = read_record(path)
            && old.is_sound()
        {
            let _ = fs::remove_file(key_path(system, &old.token));
        }
        let token = new_token()?;
        let record = Record {
            version: VERSION,
            id: identity.id.clone(),
            size_bytes: identity.size_bytes,
            generator,
            chunk_bytes: chunk,
            token,
            key_start: 0,
            written: 0,
            verified: 0,
            unwritable: Vec::new(),
            started: Timestamp::now(),
        };
        let sums_path = with_suffix(path, ".sums");
        let sums = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&sums_path)
            .and_then(|sums| reserve(&sums, identity.size_bytes.div_ceil(chunk as u64) * 4).map(|()| sums))
            .map_err(|source| JournalError::Write { path: sums_path.clone(), source })?;
        let key_path = Some(key_path(system, &record.token));
        let mut journal = Self { path: path.to_path_buf(), sums, sums_path, key_path };
        journal.save(&record)?;
        journal.keep_key(system, key);
        Ok((journal, record))
    }

    /// Takes an earlier run's journal up, with its key where that is still there; `None` if there is no journal.
    ///
    /// Without the key a fresh one is made, and what was written stays verifiable by its checksums.
    pub(crate) fn resume(
        path: &Path,
        system: &System,
        identity: &Identity,
    ) -> Result<Option<(Self, Record, Key)>, JournalError> {
        let mut record = match read_record(path) {
            Err(JournalError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        if !record.is_sound() {
            return Err(JournalError::Unsound { path: path.to_path_buf() });
        }
        if record.id != identity.id || record.size_bytes != identity.size_bytes {
            return Err(JournalError::OtherDevice {
                path: path.to_path_buf(),
                journal: format!("{} of {} bytes", record.id, record.size_bytes),
                found: format!("{} of {} bytes", identity.id, identity.size_bytes),
            });
        }
        let sums_path = with_suffix(path, ".sums");
        let sums = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&sums_path)
            .map_err(|source| JournalError::Read { path: sums_path.clone(), source })?;
        let found = read_key(&key_path(system, &record.token));
        let lost = found.is_none();
        let key = match found {
            Some(key) => key,
            None => Key::random().map_err(JournalError::Random)?,
        };
        if lost {
            record.token = new_token()?;
            record.key_start = record.written;
        }
        let key_path = Some(key_path(system, &record.token));
        let mut journal = Self { path: path.to_path_buf(), sums, sums_path, key_path };
        if lost {
            journal.save(&record)?;
            journal.keep_key(system, &key);
        }
        Ok(Some((journal, record, key)))
    }

    /// Notes the checksum of a chunk; it counts once it is saved.
    pub(crate) fn note_sum(&self, chunk: u64, sum: u32) -> Result<(), JournalError> {
        self.sums
            .write_all_at(&sum.to_le_bytes(), chunk * 4)
            .map_err(|source| JournalError::Write { path: self.sums_path.clone(), source })
    }

    pub(crate) fn sum(&self, chunk: u64) -> Result<u32, JournalError> {
        let mut bytes = [0; 4];
        self.sums
            .read_exact_at(&mut bytes, chunk * 4)
            .map_err(|source| JournalError::Read { path: self.sums_path.clone(), source })?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Puts the record on disk whole or not at all, after the checksums that it vouches for.
    pub(crate) fn save(&self, record: &Record) -> Result<(), JournalError> {
        self.sums
            .sync_data()
            .map_err(|source| JournalError::Write { path: self.sums_path.clone(), source })?;
        self.replace(record).map_err(|source| JournalError::Write { path: self.path.clone(), source })
    }

    fn replace(&self, record: &Record) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(serde_json::to_string_pretty(record)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Keeps the key in memory below `/run`; where that can't be done, it is lost with the process.
    fn keep_key(&mut self, system: &System, key: &Key) {
        self.key_path = self.key_path.take().filter(|path| {
            let stored = store_key(system, path, key).is_ok();
            if !stored {
                let _ = fs::remove_file(path);
            }
            stored
        });
    }

    /// Removes all three files: the wipe is over.
    pub(crate) fn remove(self) -> Result<(), JournalError> {
        remove_files(self.key_path.iter().chain([&self.path, &self.sums_path]))
    }
}

/// Takes the room now that the file will need: a full disk shall not end a wipe days later.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    match posix_fallocate(file, 0, bytes) {
        // Not every filesystem can.
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_record(path: &Path) -> Result<Record, JournalError> {
    let text =
        fs::read_to_string(path).map_err(|source| JournalError::Read { path: path.to_path_buf(), source })?;
    serde_json::from_str(&text).map_err(|source| JournalError::Parse { path: path.to_path_buf(), source })
}

fn new_token() -> Result<String, JournalError> {
    let number = getrandom::u64().map_err(JournalError::Random)?;
    Ok(format!("{number:016x}"))
}

/// Linux's number for ramfs (linux/magic.h), which nix doesn't name.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

fn store_key(system: &System, path: &Path, key: &Key) -> io::Result<()> {
    if safety::swaps_at_all(system)? {
        return Err(io::Error::other("the system swaps"));
    }
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let kind = fstatfs(File::open(parent)?)?.filesystem_type();
    if kind != TMPFS_MAGIC && kind != RAMFS_MAGIC {
        return Err(io::Error::other("not a memory filesystem"));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.bytes())
}

fn read_key(path: &Path) -> Option<Key> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    Key::fill(|bytes| file.read_exact(bytes)).ok()
}
