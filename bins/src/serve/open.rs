//! From a plugged drive to its mounted filesystem, and back to a locked drive.
//!
//! Everything here runs with the drive's work lock held.

use std::path::{Path, PathBuf};
use std::time::Duration;

use luks_core::{CloseMode, Closed, LuksUuid, MappingStatus, OpenOptions};
use mount_by_uuid::{BlockDevice, FindError, MountError, MountOptions, Refusal, System, Tag, UnmountMode};

use super::drive::{Drive, Open, Plugged};
use super::{custody, say};
use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::keyring::Keyring;
use crate::paths::Root;
use crate::program::Program;
use crate::site::{Site, mapping_name};
use crate::status::{Problem, torn_mark};

/// How long a filesystem check may take.
const FSCK_LIMIT: Duration = Duration::from_hours(6);

/// Finds the drive, unlocks it, checks it, mounts it at `at`.
pub(super) fn open(
    root: &Root,
    system: &System,
    site: &Site,
    drive: &Drive,
    at: &Path,
) -> Result<(), Failure> {
    let device = find(system, drive)?;
    let plugged = Plugged { path: device.path.clone(), devnum: device.devnum };
    drive.note(|seen| seen.plugged = Some(plugged.clone())); // the access may come before the event
    let (path, mapping) = match drive.magazine.luks_uuid {
        None => (device.path.clone(), None),
        Some(luks) => {
            let name = unlock(root, site, luks, &device)?;
            (root.join("/dev/mapper").join(&name), Some(name))
        }
    };
    let result = mount_inner(root, system, site, drive, &path, at).and_then(|()| {
        let open = Open { mapping: mapping.clone() };
        let still_here = drive.note(|seen| {
            let here = seen.plugged.as_ref() == Some(&plugged);
            if here {
                seen.open = Some(open);
                seen.problem = None;
            }
            here
        });
        if still_here {
            return Ok(());
        }
        if let Err(error) = mount_by_uuid::unmount(at, UnmountMode::Lazy) {
            say(&format!("{}: its mount could not be cleared away: {error}", drive.magazine));
        }
        Err(Failure::new(Exit::NotThere, format!("{} was pulled while it was being opened", drive.magazine)))
    });
    if let (Err(_), Some(name)) = (&result, &mapping) {
        force_closed(name);
    }
    result
}

/// Flushes, unmounts and locks. While a file is open, nothing is changed but the flush.
pub(super) fn close(root: &Root, drive: &Drive, at: &Path) -> Result<(), Refusal> {
    // Whoever sees the drive go from now on leaves the clearing away to this.
    let (open, plugged) = drive.note(|seen| {
        seen.closing = seen.open.is_some();
        (seen.open.clone(), seen.plugged.clone())
    });
    let Some(open) = open else { return Ok(()) }; // it was pulled, and has been cleared away
    let unmounted = mount_by_uuid::flush(at).and_then(|()| mount_by_uuid::unmount(at, UnmountMode::Now));
    let pulled = drive.note(|seen| {
        seen.closing = false;
        let pulled = seen.plugged != plugged;
        if pulled || matches!(unmounted, Ok(()) | Err(MountError::NotMounted { .. })) {
            seen.open = None;
        }
        pulled
    });
    match unmounted {
        Ok(()) | Err(MountError::NotMounted { .. }) => {
            let Some(name) = open.mapping else { return Ok(()) };
            // udev may be looking at the mapping just now; then it goes when udev is done.
            let closed = luks_core::close(&name, CloseMode::Now)
                .or_else(|_| luks_core::close(&name, CloseMode::Deferred));
            closed.map(drop).map_err(|error| Refusal::failed(&error))
        }
        Err(_) if pulled => {
            if let Err(error) = mount_by_uuid::unmount(at, UnmountMode::Lazy) {
                say(&format!("{}: its mount could not be cleared away: {error}", drive.magazine));
            }
            clear(root, drive, &open);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Clears away what a drive that was pulled while open has left, and notes that it was torn out.
pub(super) fn clear(root: &Root, drive: &Drive, left: &Open) {
    let mark = torn_mark(root, &drive.magazine.fs_uuid);
    if let Err(failure) = durable::replace(&mark, 0o600, b"pulled while mounted\n") {
        say(failure.message());
    }
    if let Some(name) = &left.mapping {
        force_closed(name);
    }
}

fn force_closed(name: &str) {
    match luks_core::close(name, CloseMode::Force) {
        Ok(Closed::WhenReleased) => say(&format!("{name} goes when its last user does")),
        Ok(_) => {}
        Err(error) => say(&error.to_string()),
    }
}

fn find(system: &System, drive: &Drive) -> Result<BlockDevice, Failure> {
    let name = &drive.magazine;
    system.find(&drive.magazine.tag()).map_err(|error| match error {
        FindError::NotFound { .. } => Failure::new(Exit::NotThere, format!("{name} is not plugged")),
        FindError::Ambiguous { .. } => {
            let problem = doubled(&error);
            Failure::new(Exit::Refused, problem.message).hint(problem.remedy)
        }
        other => Failure::because(Exit::Failed, format!("cannot look for {name}"), &other),
    })
}

/// What to say when a drive and its copy are plugged; `error` names both.
pub(super) fn doubled(error: &FindError) -> Problem {
    Problem {
        message: format!("it is not used: {error}"),
        remedy: "unplug the copy; a cloned drive can't be told from its original".into(),
    }
}

/// Unlocks the container and returns its mapping's name.
fn unlock(root: &Root, site: &Site, luks: LuksUuid, device: &BlockDevice) -> Result<String, Failure> {
    let container = custody::load(root, luks, &device.path)?;
    let keys = Keyring::load(root, site)?;
    custody::settle(root, &container, &keys);
    let first = mapping_name(luks);
    // A mapping that a pulled drive left behind may live as long as a program holds a file on it; the
    // drive must come back all the same, so the next free name is taken.
    for name in [first.clone(), format!("{first}-2"), format!("{first}-3")] {
        match luks_core::mapping_status(&name).or_fail(format!("cannot look at the mapping {name}"))? {
            MappingStatus::Absent => {}
            status if status.is_backed_by(device.devnum.major, device.devnum.minor) => return Ok(name),
            MappingStatus::Active { .. } => {
                say(&format!("{name} points at a drive that is gone: clearing it away"));
                force_closed(&name);
                if !matches!(luks_core::mapping_status(&name), Ok(MappingStatus::Absent)) {
                    continue;
                }
            }
        }
        let key = if keys.is_rotating() { &keys.opening(&container)?.secret } else { keys.current() };
        container
            .open(&name, key, &OpenOptions::default())
            .or_fail(format!("cannot unlock {}", device.path.display()))?;
        custody::back_up(root, &container);
        return Ok(name);
    }
    Err(Failure::new(Exit::Failed, format!("old mappings of {first} are still in use"))
        .hint("end the programs that hold files on the drive: fuser -vm /dev/mapper/NAME"))
}

/// Checks that the filesystem is the enrolled one and sound, and mounts it.
fn mount_inner(
    root: &Root,
    system: &System,
    site: &Site,
    drive: &Drive,
    path: &Path,
    at: &Path,
) -> Result<(), Failure> {
    let magazine = &drive.magazine;
    let found = system.probe(path).or_fail(format!("cannot look into {magazine}"))?;
    if found.tag != Some(Tag::Filesystem(magazine.fs_uuid.clone()))
        || found.fs_type.as_deref() != Some(&*magazine.fs_type)
    {
        let holds = found.fs_type.as_deref().unwrap_or("no filesystem");
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{magazine} holds {holds} in place of the {} filesystem {} enrolled",
                magazine.fs_type, magazine.fs_uuid
            ),
        )
        .hint("if that is right, take its [[magazine]] table out of site.toml and run `offsite adopt`"));
    }
    let mark = torn_mark(root, &magazine.fs_uuid);
    if mark.exists() {
        say(&format!("{magazine} was pulled while in use: checking it"));
        check(&magazine.fs_type, path)?;
    }
    let options = MountOptions { sync: site.sync, ..MountOptions::default() };
    mount_by_uuid::mount(path, at, &magazine.fs_type, &options)
        .or_fail(format!("cannot mount {magazine}"))?;
    durable::remove(&mark)
}

/// Repairs what can be repaired without a question. XFS, Btrfs and ReiserFS replay their logs at the mount.
fn check(fs_type: &str, path: &Path) -> Result<(), Failure> {
    if !matches!(fs_type, "ext2" | "ext3" | "ext4") {
        return Ok(());
    }
    let device: PathBuf = path.to_owned();
    let finished =
        Program::find("e2fsck", "e2fsprogs")?.args(["-p"]).args([&device]).limit(FSCK_LIMIT).run()?;
    // e2fsck(8): 0 clean, 1 repaired; everything above is for a person.
    match finished.code {
        Some(0 | 1) => Ok(()),
        _ => Err(Failure::new(
            Exit::Refused,
            format!("its filesystem can't be repaired safely: {}", finished.text.trim()),
        )
        .hint("make a copy of the drive, then run e2fsck on it by hand")),
    }
}
