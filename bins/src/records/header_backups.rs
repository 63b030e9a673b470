//! The register of header backups: one file for each enrolled container, renewed whenever its header changed.
//!
//! A backup and any key that it had open the drive, so the directory is root's alone.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};
use luks_core::{Container, Enrolment, Header, HeaderRepair, KeySlot, LoadError, LuksUuid, Secret};

use super::header_place;
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// What the register has of a container.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// A sound backup.
    Good,
    /// None.
    Missing,
    /// A file that is no sound header, or that others may read; with what is wrong.
    Bad(String),
    /// The header of another container.
    Foreign(LuksUuid),
    /// A backup of an earlier state of the header, which the drive that is plugged has no more.
    Stale,
}

/// Where a container's backup lies.
pub fn path(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.img"))
}

/// What became of a backup that was to be kept.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// It says the same as the header.
    AsItWas,
    /// It was missing, had rotten, or was behind a change that offsite made itself.
    Renewed,
    /// The drive's key slots were changed outside offsite; the backup stays as it is.
    Changed(Vec<KeySlot>),
}

/// Makes the register's backup of a container that is enrolled now, whatever it was before: the header that was read, if
/// one of the keys opens it.
pub fn enrol(root: &Root, header: &Header, keys: &[&Secret]) -> Result<(), Failure> {
    let _lock = lock(root)?;
    renew(root, header, keys)?;
    header_place::keep(root, header.uuid(), header.device())?;
    remove_remains(root, header.uuid())?;
    atomic_file::remove(&changed_mark(root, header.uuid()))
}

pub(crate) fn is_kept(root: &Root, header: &Header, keys: &[&Secret]) -> bool {
    let backup = path(root, header.uuid());
    is_private(&backup)
        && Header::read(&backup).is_ok_and(|copy| copy.says_the_same(header) && copy.test_keys(keys).is_ok())
}

/// What the register's backup says that a container is.
pub fn enrolled(root: &Root, luks: LuksUuid) -> Result<Enrolment, Failure> {
    registered(root, luks).map(|header| header.enrolment().clone())
}

/// The register's backup of a container's header.
pub fn registered(root: &Root, luks: LuksUuid) -> Result<Header, Failure> {
    let backup = path(root, luks);
    let header = Header::read(&backup).map_err(|error| match error {
        LoadError::Missing { .. } => Failure::new(Exit::NotThere, "its backup is missing"),
        error => Failure::because(Exit::Failed, "its backup can't be used", &error),
    })?;
    match header.uuid() {
        found if found == luks => Ok(header),
        found => Err(Failure::new(Exit::Failed, format!("{} is the header of {found}", backup.display()))),
    }
}

/// Whether a change of a container's key slots was begun here and not seen to its end.
pub fn is_changing(root: &Root, luks: LuksUuid) -> bool {
    before(root, luks).exists()
}

fn is_private(backup: &Path) -> bool {
    backup
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && matches!(metadata.mode() & 0o777, 0o400 | 0o600))
}

/// Removes the copies and unfinished backups of a container that killed runs have left; old keys open them.
pub(crate) fn remove_remains(root: &Root, luks: LuksUuid) -> Result<(), Failure> {
    atomic_file::remove(&before(root, luks))?;
    let directory = root.headers_dir();
    let entries = std::fs::read_dir(&directory).or_fail(format!("cannot list {}", directory.display()))?;
    let unfinished = format!(".{luks}.");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut remains = paths.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&unfinished) && name.ends_with(".new")
    });
    remains.try_for_each(|path| atomic_file::remove(&path))
}

/// Makes the register's backup anew, whatever it says.
pub(crate) fn renew(root: &Root, header: &Header, keys: &[&Secret]) -> Result<(), Failure> {
    header
        .renew_backup(&path(root, header.uuid()), keys)
        .or_fail(format!("the header of {} could not be backed up", header.device().display()))
        .map_err(|failure| failure.hint(format!("is there room in {}?", root.headers_dir().display())))
}

/// Keeps every other change of the register away, until the returned file is dropped.
pub(crate) fn lock(root: &Root) -> Result<File, Failure> {
    make_directory(root)?;
    let directory = root.headers_dir();
    let failed = || format!("cannot lock {}", directory.display());
    let file = File::open(&directory).or_fail(failed())?;
    file.lock().or_fail(failed())?;
    Ok(file)
}

fn make_directory(root: &Root) -> Result<(), Failure> {
    atomic_file::directory_of(&root.headers_dir(), Owner::own(), 0o700)
}

/// Looks at the register; `plugged` is the container itself when it can be read now.
pub fn state(root: &Root, luks: LuksUuid, plugged: Option<&Container>) -> State {
    let backup = path(root, luks);
    match backup.symlink_metadata() {
        Ok(_) if is_private(&backup) => {}
        Ok(metadata) if !metadata.is_file() => {
            return State::Bad(format!("{} is no regular file", backup.display()));
        }
        Ok(_) => return State::Bad(format!("others than root may read {}", backup.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return State::Missing,
        Err(error) => return State::Bad(format!("{} can't be looked at: {error}", backup.display())),
    }
    match Container::load(&backup) {
        Err(error) => State::Bad(error.to_string()),
        Ok(copy) if copy.uuid() != luks => State::Foreign(copy.uuid()),
        Ok(_) => match plugged.map(|container| container.is_backed_up_by(&backup)) {
            Some(Ok(false)) => State::Stale,
            _ => State::Good,
        },
    }
}

pub(crate) fn before(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.before.img"))
}

pub(crate) fn before_beside(container: &Container) -> PathBuf {
    container.device().with_file_name(format!(".{}.before.img", container.uuid()))
}

/// Every slot that a key opens, or opened when the header was backed up, while the header still describes the slot
/// alike: its removal was killed after the key material was gone.
pub fn slots_of(root: &Root, container: &Container, key: &Secret) -> Result<Vec<KeySlot>, Failure> {
    let mut slots = container
        .slots_opened_by(key)
        .or_fail(format!("cannot look for the key in {}", container.device().display()))?;
    let luks = container.uuid();
    for backup in [path(root, luks), before(root, luks), before_beside(container)] {
        let Ok(alike) = container.slots_alike(&backup) else { continue };
        let opened = Container::load(&backup).ok().and_then(|copy| copy.slots_opened_by(key).ok());
        for slot in opened.unwrap_or_default() {
            if alike.contains(&slot) && !slots.contains(&slot) {
                slots.push(slot);
            }
        }
    }
    Ok(slots)
}

/// Keeps what lies in a header's place, before another one is written there: whoever was wrong about the drive can put
/// it back. Tells where.
pub fn keep_overwritten(root: &Root, luks: LuksUuid, device: &Path, len: u64) -> Result<PathBuf, Failure> {
    let failed = || format!("cannot keep a copy of what is overwritten on {}", device.display());
    let file = File::open(device).or_fail(failed())?;
    let mut bytes = vec![0; usize::try_from(len).or_fail(failed())?];
    let mut offset = 0;
    for block in bytes.chunks_mut(4096) {
        // A header may be ruined because sectors of it can't be read; they are left out.
        let _read_or_zeros = file.read_at(block, offset);
        offset += block.len() as u64;
    }
    make_directory(root)?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let path = root.headers_dir().join(format!("{luks}.overwritten-{now}.img"));
    atomic_file::replace(&path, 0o400, &bytes)
        .map_err(|failure| failure.hint(format!("is there room in {}?", root.headers_dir().display())))?;
    Ok(path)
}

/// Where it is noted that a header copy was mended.
pub fn mended_mark(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.mended"))
}

/// Notes that a damaged header copy was written anew; the note stays until somebody removes it.
pub fn note_mended(root: &Root, luks: LuksUuid, repair: &HeaderRepair) -> Result<String, Failure> {
    let said = format!(
        "the {} copy of its LUKS header {}; it was written anew from the other one on {}",
        repair.copy,
        repair.reason,
        Zoned::now().strftime("%F %H:%M")
    );
    make_directory(root)?;
    atomic_file::replace(&mended_mark(root, luks), 0o600, format!("{said}\n").as_bytes())?;
    Ok(said)
}

/// Where it is noted that a header was changed outside offsite.
pub(crate) fn changed_mark(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.changed"))
}

/// Notes that a header was changed outside offsite; the note goes when the header is accepted, or as it was again.
pub fn note_changed(root: &Root, luks: LuksUuid, said: &str) -> Result<(), Failure> {
    make_directory(root)?;
    atomic_file::replace(&changed_mark(root, luks), 0o600, format!("{said}\n").as_bytes())
}

/// What a person should know of a header although its drive works: a copy of it was mended, or it was changed outside
/// offsite.
pub fn warning(root: &Root, luks: LuksUuid) -> Option<String> {
    let noted = |path: PathBuf| Some(std::fs::read_to_string(path).ok()?.trim().to_owned());
    noted(changed_mark(root, luks)).or_else(|| mended(root, luks))
}

/// What was noted of a mended header copy.
pub fn mended(root: &Root, luks: LuksUuid) -> Option<String> {
    let text = std::fs::read_to_string(mended_mark(root, luks)).ok()?;
    Some(text.trim().to_owned())
}

/// A registered backup as a container; one that is missing is not there.
pub fn load(root: &Root, luks: LuksUuid, name: &str) -> Result<Container, Failure> {
    let backup = path(root, luks);
    let exit = if Path::exists(&backup) { Exit::Failed } else { Exit::NotThere };
    let copy = Container::load(&backup).map_err(|error| match exit {
        Exit::NotThere => Failure::new(exit, format!("the header of {name} is not backed up"))
            .hint("plug the drive in: its header is backed up when it is unlocked"),
        _ => Failure::because(exit, format!("the header backup of {name} can't be used"), &error),
    })?;
    if copy.uuid() == luks {
        return Ok(copy);
    }
    Err(Failure::new(Exit::Failed, format!("{} is the header of {}", backup.display(), copy.uuid())))
}
