//! From a plugged drive to its mounted filesystem, and back to a locked drive.
//!
//! Everything here runs with the drive's work lock held.

use std::path::{Path, PathBuf};

use luks_core::{CloseError, CloseMode, Closed, LuksUuid, MappingStatus, OpenOptions};
use mount_by_uuid::{
    BlockDevice, FindError, MountError, MountOptions, Refusal, Refused, System, Tag, UnmountMode,
};

use super::drive::{Doing, Drive, Open, Plugged};
use super::journal::{say, warn};
use super::{check, ejected_mark, key_maintenance, stopped_writing};
use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::base::filesystems::mount_options;
use crate::base::paths::Root;
use crate::protocol::site_status::Problem;
use crate::records::enrolment::Known;
use crate::records::fsck_due::{self, Torn};
use crate::records::keyring::Keyring;
use crate::site::description::{Magazine, Site, mapping_name};

/// Finds the drive, unlocks it, checks it, mounts it at `at`.
pub(super) fn open(
    root: &Root,
    system: &System,
    site: &Site,
    drive: &Drive,
    at: &Path,
) -> Result<(), Failure> {
    let device = find(system, drive)?;
    let plugged = Plugged::from(&device);
    let ejected = ejected_mark::is_remembered(root, drive, &plugged);
    drive.note(|seen| {
        seen.plugged = Some(plugged.clone()); // the access may come before the event
        seen.ejected |= ejected;
    });
    if ejected {
        return Err(Failure::new(Exit::NotThere, format!("{} is ejected", drive.magazine())));
    }
    if system.is_read_only(plugged.devnum) {
        let message =
            format!("{} is write-protected: {} takes no writes", drive.magazine(), device.path.display());
        return Err(Failure::new(Exit::Refused, message).hint(
            "set the switch on the drive, its enclosure or its adapter to write, and plug it again; \
             a drive without a switch may have failed: smartctl -a DEVICE",
        ));
    }
    let mut open = None;
    let result = unlock_if_encrypted(root, system, site, drive, &device).and_then(|(path, mapping)| {
        open = Some(Open { mapping, lingers: false });
        mount_inner(root, system, site, drive, &path, at)
    });
    let kept = drive.note(|seen| {
        let kept = result.is_ok() && seen.plugged.as_ref() == Some(&plugged);
        if kept {
            seen.open.clone_from(&open);
            seen.problem = None;
        }
        kept
    });
    if kept {
        return Ok(());
    }
    if result.is_ok()
        && let Err(error) = system.unmount(at, UnmountMode::Lazy)
    {
        drive.warn(&format!("{}: its mount could not be cleared away: {error}", drive.magazine()));
    }
    let pulled = drive.seen().plugged.as_ref() != Some(&plugged) || !plugged.is_in(system);
    match open {
        Some(open) if pulled => clear(root, drive, &open),
        // Its mapping may be in use by others, as before this was tried, or by udev, which looks at what is new.
        Some(open) if !drive.seen().lingers() && !lock(drive, &open, Some(&plugged)) => {
            drive.note(|seen| seen.open = Some(Open { lingers: true, ..open }));
        }
        _ => {}
    }
    if pulled {
        let message = format!("{} was pulled while it was being opened", drive.magazine());
        drive.warn(&message);
        return Err(Failure::new(Exit::NotThere, message));
    }
    result
}

/// The block device that shows the plain filesystem, and the mapping behind it.
fn unlock_if_encrypted(
    root: &Root,
    system: &System,
    site: &Site,
    drive: &Drive,
    device: &BlockDevice,
) -> Result<(PathBuf, Option<String>), Failure> {
    let magazine = drive.magazine();
    let Some(luks) = magazine.luks_uuid else { return Ok((device.path.clone(), None)) };
    let name = unlock(root, site, &magazine, luks, device)?;
    // One that goes when its last user does has no name in /dev/mapper any more, but can be used.
    let named = root.join("/dev/mapper").join(&name);
    let path = if named.exists() { Some(named) } else { system.mapping(&name).map(|device| device.path) };
    let gone = || Failure::new(Exit::Failed, format!("the mapping {name} has gone")).hint("try again");
    Ok((path.ok_or_else(gone)?, Some(name)))
}

/// How far a drive was put to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing of it is in place any more.
    Locked,
    /// It is unmounted, but something still uses its filesystem or its mapping.
    Lingers,
    /// It was pulled before; what it left has been cleared away.
    Pulled,
}

/// Flushes, unmounts and locks. While a file is open, nothing is changed but the flush.
pub(super) fn close(root: &Root, system: &System, drive: &Drive, at: &Path) -> Result<Rest, Refusal> {
    // Whoever sees the drive go from now on leaves the clearing away to this.
    let (open, plugged) = drive.note(|seen| {
        seen.doing = seen.open.is_some().then_some(Doing::Closing);
        (seen.open.clone(), seen.plugged.clone())
    });
    let Some(open) = open else { return Ok(Rest::Pulled) };
    // It may have stopped writing since the last look.
    if let Some(why) = stopped_writing::why_stopped(system, at) {
        stopped_writing::note(root, drive, why);
    }
    // Such a filesystem would stay for ever, if it had to be flushed: nothing flushes it any more.
    let flushed = system
        .flush(at)
        .or_else(|error| if not_flushed(root, system, drive, &error) { Ok(()) } else { Err(error) });
    let unmounted = match flushed.and_then(|()| system.unmount(at, UnmountMode::Now)) {
        Err(MountError::NotMounted { .. }) => Ok(()), // somebody was faster
        result => result,
    };
    let locked = unmounted.is_ok() && lock(drive, &open, plugged.as_ref());
    let pulled = drive.note(|seen| {
        seen.doing = None;
        let pulled = seen.plugged != plugged;
        let lingers = unmounted.is_ok();
        seen.open = seen.open.take().filter(|_| !locked && !pulled).map(|open| Open { lingers, ..open });
        pulled
    });
    match unmounted {
        Ok(()) if locked => Ok(Rest::Locked),
        Ok(()) if !pulled => Ok(Rest::Lingers),
        Err(error) if !pulled => Err(error.into()),
        _ => {
            match system.unmount(at, UnmountMode::Lazy) {
                Ok(()) | Err(MountError::NotMounted { .. }) => {}
                Err(error) => {
                    drive
                        .warn(&format!("{}: its mount could not be cleared away: {error}", drive.magazine()));
                }
            }
            clear(root, drive, &open);
            Ok(Rest::Pulled)
        }
    }
}

/// Locks what is unmounted; false while somebody still uses it: a filesystem lives on after a lazy unmount, and in other
/// mount namespaces. What is encrypted is locked when the last of them lets go.
fn lock(drive: &Drive, open: &Open, plugged: Option<&Plugged>) -> bool {
    let Some(name) = &open.mapping else {
        return plugged.is_none_or(|plugged| !mount_by_uuid::is_in_use(&plugged.path));
    };
    // Asked first, since a close that fails tries for seconds, and holds up all others meanwhile.
    if let Ok(MappingStatus::Active { in_use: true, .. }) = luks_core::mapping_status(name) {
        return false;
    }
    // Not deferred: that takes its name away at once, and whoever still needs the drive could not have it mounted again.
    match luks_core::close(name, CloseMode::Now) {
        Ok(Closed::Gone | Closed::WasAbsent) => true,
        Ok(_) | Err(CloseError::Busy { .. }) => false, // udev may be looking at it just now
        Err(error) => {
            drive.warn(&error.to_string());
            false
        }
    }
}

/// Has a drive that lingers locked when its last user goes, whether or not the daemon runs then.
pub(super) fn lock_at_last(drive: &Drive) {
    let lingers = drive.seen().open.filter(|open| open.lingers);
    if let Some(name) = lingers.and_then(|open| open.mapping)
        && let Err(error) = luks_core::close(&name, CloseMode::Deferred)
    {
        drive.warn(&error.to_string());
    }
}

/// Locks a drive that lingers, if nobody uses it any more; whether that was done now.
pub(super) fn finish(drive: &Drive) -> bool {
    let seen = drive.seen();
    let Some(open) = seen.open.filter(|open| open.lingers) else { return false };
    if !lock(drive, &open, seen.plugged.as_ref()) {
        return false;
    }
    // It may have been pulled meanwhile; then it isn't this that put it to rest.
    drive.note(|seen| seen.lingers() && seen.open.take().is_some())
}

/// Takes note that what was written did not all reach the drive. The kernel tells it once; the mark stays until the
/// filesystem was checked and mounted anew. True if the filesystem stopped writing, so that no flush will succeed.
pub(super) fn not_flushed(root: &Root, system: &System, drive: &Drive, error: &MountError) -> bool {
    let MountError::Flush { at, .. } = error else { return false };
    // Of a drive that was pulled it says nothing new.
    if drive.seen().open.is_none() {
        return false;
    }
    if let Some(why) = stopped_writing::why_stopped(system, at) {
        stopped_writing::note(root, drive, why);
        return true;
    }
    let why = chain(error);
    drive.warn(&format!("{}: {why}", drive.magazine()));
    if let Err(failure) = Torn::Unflushed(why).note(root, &drive.magazine().fs_uuid) {
        drive.warn(failure.message());
    }
    false
}

/// Clears away what a drive that was pulled while open has left, and notes that it was torn out.
pub(super) fn clear(root: &Root, drive: &Drive, left: &Open) {
    if let Err(failure) = Torn::Pulled.note(root, &drive.magazine().fs_uuid) {
        drive.warn(failure.message());
    }
    if let Some(name) = &left.mapping {
        force_closed(name);
    }
}

/// Makes every access to a mapping fail whose drive is gone. One whose drive is there is only closed, if nobody uses it:
/// what its users have written would be lost.
pub(super) fn force_closed(name: &str) {
    let gone = matches!(luks_core::mapping_status(name), Ok(MappingStatus::Active { backing: None, .. }));
    let mode = if gone { CloseMode::Force } else { CloseMode::Now };
    match luks_core::close(name, mode) {
        Ok(Closed::WhenReleased) => say(&format!("{name} goes when its last user does")),
        Ok(_) => {}
        Err(error) => warn(&error.to_string()),
    }
}

fn find(system: &System, drive: &Drive) -> Result<BlockDevice, Failure> {
    let name = drive.magazine();
    system.find(&drive.magazine().tag()).map_err(|error| match error {
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
        message: format!("a copy of it is plugged as well, so that neither is opened: {error}"),
        remedy: "unplug the copy; a cloned drive can't be told from its original".into(),
    }
}

/// Unlocks the container, as it was enrolled, and returns its mapping's name.
fn unlock(
    root: &Root,
    site: &Site,
    magazine: &Magazine,
    luks: LuksUuid,
    device: &BlockDevice,
) -> Result<String, Failure> {
    let known = Known::of(root, magazine, luks)?;
    let read = || key_maintenance::read(root, magazine, luks, &known, &device.path);
    let mut header = read()?;
    let keys = Keyring::load(root, site)?;
    if key_maintenance::settle(root, &device.path, &keys) {
        header = read()?;
    }
    let first = mapping_name(luks);
    // A mapping that a pulled drive left behind may live as long as a program holds a file on it; the
    // drive must come back all the same, so the next free name is taken.
    for name in [first.clone(), format!("{first}-2"), format!("{first}-3")] {
        match luks_core::mapping_status(&name).or_fail(format!("cannot look at the mapping {name}"))? {
            MappingStatus::Absent => {}
            status if status.is_backed_by(device.devnum.major, device.devnum.minor) => {
                header
                    .confirm_mapping(&name)
                    .or_fail(format!("cannot use the mapping {name} of {magazine}"))?;
                return Ok(name);
            }
            MappingStatus::Active { .. } => {
                say(&format!("{name} points at a drive that is gone: clearing it away"));
                force_closed(&name);
                if !matches!(luks_core::mapping_status(&name), Ok(MappingStatus::Absent)) {
                    continue;
                }
            }
        }
        header
            .open(&name, &keys.secrets(), &OpenOptions::default())
            .map_err(|error| key_maintenance::with_remedy(root, luks, &device.path, &keys, &error))?;
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
    let magazine = drive.magazine();
    let found = system.probe(path).or_fail(format!("cannot look into {magazine}"))?;
    if found.tag != Some(Tag::Filesystem(magazine.fs_uuid.clone()))
        || found.fs_type.as_deref() != Some(&*magazine.fs_type)
    {
        let holds = match (&found.fs_type, &found.tag) {
            (Some(fs_type), Some(Tag::Filesystem(uuid))) => format!("the {fs_type} filesystem {uuid}"),
            (Some(fs_type), _) => fs_type.clone(),
            (None, _) => "no filesystem".into(),
        };
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{magazine} holds {holds} in place of the {} filesystem {} that was enrolled",
                magazine.fs_type, magazine.fs_uuid
            ),
        )
        .hint("if that is right, take its [[magazine]] table out of site.toml and run `offsite adopt`"));
    }
    let options = MountOptions { sync: site.sync, ..mount_options(&magazine.fs_type)? };
    let torn = Torn::of(root, &magazine.fs_uuid);
    // A filesystem that lives on (after a lazy unmount, say) comes back as it is: the kernel has it already.
    let lives = mount_by_uuid::is_in_use(path);
    let was_due = if lives {
        drive.warn(&format!("{magazine} is still in use from before, and is not checked"));
        false
    } else {
        check::check_if_due(root, drive, torn.as_ref(), path)?
    };
    system.mount(path, at, &magazine.fs_type, &options).map_err(|error| {
        let damaged = matches!(&error, MountError::Mount { meaning: Refused::Damaged, .. });
        let why = Failure::because(Exit::Failed, format!("cannot mount {magazine}"), &error);
        check::not_mountable(&magazine.fs_type, damaged, torn.is_some(), &why).unwrap_or(why)
    })?;
    if was_due && let Err(error) = changer_model::note_checked(root.path(), magazine.fs_uuid.as_str()) {
        drive.warn(&format!("{magazine}: the changer could not be told that it was checked: {error}"));
    }
    if lives { Ok(()) } else { fsck_due::forget(root, &magazine.fs_uuid) }
}
