//! The register of header backups: one file for each enrolled container, renewed whenever its header changed.
//!
//! A backup and any key that it had open the drive, so the directory is root's alone.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use luks_core::{Container, HeaderRepair, KeySlot, LuksUuid, Secret};

use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;

/// What the register has of a container.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// A sound backup.
    Good,
    /// None.
    Missing,
    /// A file that is no sound header of this container, or that others may read; with what is wrong.
    Bad(String),
    /// A backup of an earlier state of the header, which the drive that is plugged has no more.
    Stale,
}

/// Where a container's backup lies.
pub fn path(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.img"))
}

/// Makes the register's backup of a container, or renews it when the header has changed; tells whether it did.
///
/// What a change that was killed has left goes as well: the drive and its backup are the truth now.
pub fn keep(root: &Root, container: &Container) -> Result<bool, Failure> {
    let _lock = lock(root)?;
    let renewed = renew_if_behind(root, container)?;
    remove_remains(root, container.uuid())?;
    Ok(renewed)
}

/// Removes the copies and unfinished backups of a container that killed runs have left; old keys open them.
fn remove_remains(root: &Root, luks: LuksUuid) -> Result<(), Failure> {
    durable::remove(&before(root, luks))?;
    let directory = root.headers_dir();
    let entries = std::fs::read_dir(&directory).or_fail(format!("cannot list {}", directory.display()))?;
    let unfinished = format!(".{luks}.");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut remains = paths.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&unfinished) && name.ends_with(".new")
    });
    remains.try_for_each(|path| durable::remove(&path))
}

fn renew_if_behind(root: &Root, container: &Container) -> Result<bool, Failure> {
    let backup = path(root, container.uuid());
    if container.is_backed_up_by(&backup).unwrap_or(false) {
        return Ok(false);
    }
    renew(root, container).map(|()| true)
}

/// Makes the register's backup anew, whatever it says.
fn renew(root: &Root, container: &Container) -> Result<(), Failure> {
    container
        .renew_backup(&path(root, container.uuid()))
        .or_fail(format!("the header of {} could not be backed up", container.device().display()))
        .map_err(|failure| failure.hint(format!("is there room in {}?", root.headers_dir().display())))
}

/// Keeps every other change of the register away, until the returned file is dropped.
fn lock(root: &Root) -> Result<File, Failure> {
    make_directory(root)?;
    let directory = root.headers_dir();
    let failed = || format!("cannot lock {}", directory.display());
    let file = File::open(&directory).or_fail(failed())?;
    file.lock().or_fail(failed())?;
    Ok(file)
}

fn make_directory(root: &Root) -> Result<(), Failure> {
    let directory = root.headers_dir();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.or_fail(format!("cannot make {}", directory.display()))
}

/// Looks at the register; `plugged` is the container itself when it can be read now.
pub fn state(root: &Root, luks: LuksUuid, plugged: Option<&Container>) -> State {
    let backup = path(root, luks);
    let metadata = match backup.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return State::Missing,
        Err(error) => return State::Bad(format!("{} can't be looked at: {error}", backup.display())),
    };
    if metadata.mode() & 0o077 != 0 {
        return State::Bad(format!("others than root may read {}", backup.display()));
    }
    match Container::load(&backup) {
        Err(error) => State::Bad(error.to_string()),
        Ok(copy) if copy.uuid() != luks => {
            State::Bad(format!("{} is the header of {}", backup.display(), copy.uuid()))
        }
        Ok(_) => match plugged.map(|container| container.is_backed_up_by(&backup)) {
            Some(Ok(false)) => State::Stale,
            _ => State::Good,
        },
    }
}

/// Changes key slots with a copy of the header made before. The copy goes when the change came to its end or changed
/// nothing; otherwise it stays and the failure names it. An enrolled container's backup is renewed afterwards.
pub fn guarded<T>(
    root: &Root,
    container: &Container,
    change: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (before, _lock) = back_up_before(root, container)?;
    let changed = change();
    if changed.is_err() && !container.is_backed_up_by(&before).unwrap_or(false) {
        let hint = format!("the header as it was before is kept in {}", before.display());
        return changed.map_err(|failure| failure.hint(hint));
    }
    if path(root, container.uuid()).exists() {
        // Not only when it is behind: a removal that was killed before leaves a header that says the same as its
        // backup, which still has the key material.
        renew(root, container)?;
    }
    durable::remove(&before)?;
    changed
}

/// Where the header lies as it was before the change that is being made.
fn before(root: &Root, luks: LuksUuid) -> PathBuf {
    root.headers_dir().join(format!("{luks}.before.img"))
}

/// A copy of the header as it is now: in the register, or beside a file when the register is somebody else's.
fn back_up_before(root: &Root, container: &Container) -> Result<(PathBuf, Option<File>), Failure> {
    let device = container.device();
    let refused = format!("the header of {} can't be backed up before it is changed", device.display());
    let lock = lock(root);
    let place = match &lock {
        Ok(_) => before(root, container.uuid()),
        Err(_) if device.is_file() => device.with_file_name(format!(".{}.before.img", container.uuid())),
        Err(failure) => return Err(Failure::new(Exit::Refused, format!("{refused}: {}", failure.message()))),
    };
    match container.renew_backup(&place) {
        Ok(()) => Ok((place, lock.ok())),
        Err(error) => Err(Failure::because(Exit::Refused, refused, &error)
            .hint(format!("make room in {}, or run as root", root.headers_dir().display()))),
    }
}

/// Slots that a key opened when the header was backed up, while the header still says that it has them: their removal
/// was killed after the key material was gone.
pub fn half_removed(root: &Root, container: &Container, key: &Secret) -> Vec<KeySlot> {
    let backup = path(root, container.uuid());
    if !container.is_backed_up_by(&backup).unwrap_or(false) {
        return Vec::new();
    }
    Container::load(&backup).ok().and_then(|copy| copy.slots_opened_by(key).ok()).unwrap_or_default()
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
        Timestamp::now().strftime("%F %T UTC")
    );
    make_directory(root)?;
    durable::replace(&mended_mark(root, luks), 0o600, format!("{said}\n").as_bytes())?;
    Ok(said)
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
