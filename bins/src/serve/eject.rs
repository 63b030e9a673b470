//! What a person asks of one drive: to lock it, to eject it, to unlock it again.

use std::time::{Duration, Instant};

use luks_core::MappingStatus;
use mount_by_uuid::{MotorError, NameError, Refusal, mount_users, start_motor, stop_motor};

use super::drive::{Drive, Plugged};
use super::fleet::Fleet;
use crate::failure::{Exit, Failure, chain};
use crate::paths::Root;

/// How long udev may look at a mapping that is going.
const MAPPING_LIMIT: Duration = Duration::from_secs(10);

/// So many of those who use a drive are named.
const USERS_NAMED: usize = 3;

impl Fleet {
    /// Unmounts and locks a drive now.
    pub(super) fn lock(&self, word: &str) -> Result<String, Failure> {
        let drive = self.drive(word)?;
        self.put_to_rest(&drive)?;
        Ok(format!("{} is locked", drive.magazine()))
    }

    /// Unmounts and locks a drive, leaves it so until it is plugged again, and stops its motor.
    pub(super) fn eject(&self, word: &str) -> Result<String, Failure> {
        let drive = self.drive(word)?;
        let Some(plugged) = drive.seen().plugged else { return Err(not_plugged(&drive)) };
        let before = drive.note(|seen| std::mem::replace(&mut seen.ejected, true));
        if let Err(failure) = self.put_to_rest(&drive) {
            drive.note(|seen| seen.ejected = before);
            return Err(failure);
        }
        remember(self.root(), &drive, &plugged);
        self.publish(&drive, false);
        self.bell.ring();
        let stopped = self.stop(&plugged);
        drive.say(&format!("{} is ejected", drive.magazine()));
        let name = drive.magazine();
        Ok(match stopped {
            Ok(true) => format!("{name} is locked and stands still; safe to remove"),
            Ok(false) => format!("{name} is locked; safe to remove"),
            Err(error) => format!("{name} is locked; safe to remove once it is still ({})", chain(&error)),
        })
    }

    /// Unlocks and mounts a drive now.
    pub(super) fn unlock(&self, word: &str) -> Result<String, Failure> {
        let drive = self.drive(word)?;
        let Some(plugged) = drive.seen().plugged else { return Err(not_plugged(&drive)) };
        if drive.note(|seen| std::mem::take(&mut seen.ejected)) {
            forget(self.root(), &drive);
            if let Err(error) = start_motor(&plugged.path)
                && !matches!(error, MotorError::Unsupported { .. })
            {
                drive.warn(&format!("{}: its motor was not started: {}", drive.magazine(), chain(&error)));
            }
            self.publish(&drive, drive.seen().usable());
            self.bell.ring();
        }
        self.automount.touch_mount(drive.magazine().fs_uuid.to_string()).map_err(|error| {
            match drive.seen().problem {
                _ if drive.seen().plugged.is_none() => not_plugged(&drive),
                Some(problem) => Failure::new(Exit::Failed, problem.message).hint(problem.remedy),
                None => {
                    Failure::because(Exit::Failed, format!("{} was not mounted", drive.magazine()), &error)
                }
            }
        })?;
        Ok(format!(
            "{} is mounted at {}",
            drive.magazine(),
            self.site().mount_point(&drive.magazine()).display()
        ))
    }

    /// Flushes, unmounts and locks, whoever is just opening it included, and makes sure that it is locked.
    fn put_to_rest(&self, drive: &Drive) -> Result<(), Failure> {
        drop(drive.work()); // who is opening it now comes to an end first
        let Some(open) = drive.seen().open else { return Ok(()) };
        self.automount.unmount_now(drive.magazine().fs_uuid.to_string()).map_err(|error| match &error {
            NameError::Refused { source: Refusal::Busy, .. } => self.in_use(drive),
            _ => Failure::new(
                Exit::Failed,
                format!("{} can't be put to rest: {}", drive.magazine(), chain(&error)),
            ),
        })?;
        let Some(mapping) = open.mapping else { return Ok(()) };
        let end = Instant::now() + MAPPING_LIMIT;
        while !matches!(luks_core::mapping_status(&mapping), Ok(MappingStatus::Absent)) {
            if Instant::now() > end {
                let message =
                    format!("{} is unmounted but not locked: {mapping} is in use", drive.magazine());
                return Err(Failure::new(Exit::Refused, message)
                    .hint(format!("end what reads it directly: fuser -v /dev/mapper/{mapping}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn in_use(&self, drive: &Drive) -> Failure {
        let at = self.automount.dir().join(drive.magazine().fs_uuid.to_string());
        let users = mount_users(&self.system, &at);
        let mut named: Vec<_> = users.iter().take(USERS_NAMED).map(ToString::to_string).collect();
        if users.len() > USERS_NAMED {
            named.push(format!("{} more", users.len() - USERS_NAMED));
        }
        let by = if named.is_empty() { String::new() } else { format!(": {}", named.join("; ")) };
        Failure::new(Exit::Refused, format!("{} is in use{by}", drive.magazine()))
            .hint("end what uses it, or wait for it: offsite eject --wait")
    }

    /// Stops the motor of a whole drive; whether there was one to stop.
    fn stop(&self, plugged: &Plugged) -> Result<bool, MotorError> {
        // What else is on a partitioned drive may be in use.
        if self.root().join(format!("/sys/dev/block/{}/partition", plugged.devnum)).exists() {
            return Ok(false);
        }
        match stop_motor(&plugged.path) {
            Ok(()) => Ok(true),
            Err(MotorError::Unsupported { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn not_plugged(drive: &Drive) -> Failure {
    Failure::new(Exit::NotThere, format!("{} is not plugged", drive.magazine()))
        .hint("plug it in; `offsite status` shows which drives are there")
}

/// Whether this drive was ejected and has been plugged ever since, by the word of an earlier daemon too.
pub(super) fn is_remembered(root: &Root, drive: &Drive, plugged: &Plugged) -> bool {
    let noted = std::fs::read_to_string(root.ejected_mark(&drive.magazine().fs_uuid)).ok();
    let here = noted.is_some() && noted == appearance(plugged);
    if noted.is_some() && !here {
        forget(root, drive);
    }
    here
}

fn remember(root: &Root, drive: &Drive, plugged: &Plugged) {
    let Some(appearance) = appearance(plugged) else { return };
    let mark = root.ejected_mark(&drive.magazine().fs_uuid);
    let made = mark.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(error) = made.and_then(|()| std::fs::write(&mark, appearance)) {
        drive.warn(&format!("{} stays ejected only until offsited is restarted: {error}", drive.magazine()));
    }
}

fn forget(root: &Root, drive: &Drive) {
    let mark = root.ejected_mark(&drive.magazine().fs_uuid);
    match std::fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            drive.warn(&format!("cannot remove {}: {error}", mark.display()));
        }
        _ => {}
    }
}

/// The kernel's number of this plug, which no other has until the next boot (Linux 5.15).
fn appearance(plugged: &Plugged) -> Option<String> {
    plugged.diskseq.map(|number| number.to_string())
}
