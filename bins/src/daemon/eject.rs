//! What a person asks of one drive: to lock it, to eject it, to unlock it again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use luks_core::MappingStatus;
use mount_by_uuid::{DevNum, MotorError, MountTable, NameError, Refusal, start_motor, stop_motor};

use super::drive::{Drive, Plugged};
use super::ejected_mark::{forget, remember};
use super::fleet::Fleet;
use super::open;
use super::users::Users;
use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::protocol::site_status::Problem;
use crate::records::fsck_due::Torn;

/// How long a drive that is unmounted may still be open: udev looks at a mapping that is going.
const REST_LIMIT: Duration = Duration::from_secs(10);

/// After this time it isn't udev that keeps a drive open.
const LINGER_GRACE: Duration = Duration::from_secs(2);

/// How often the users of a drive that lingers are looked for again.
const LOOK_FOR_USERS: Duration = Duration::from_secs(10);

impl Fleet {
    /// Unmounts and locks a drive now.
    pub(super) fn lock(self: &Arc<Self>, word: &str) -> Result<String, Failure> {
        let drive = self.drive(word)?;
        let Some(plugged) = drive.seen().plugged else { return Err(not_plugged(&drive)) };
        self.put_to_rest(&drive, &plugged)?;
        Ok(format!("{} is locked", drive.magazine()))
    }

    /// Unmounts and locks a drive, leaves it so until it is plugged again, and stops its motor.
    pub(super) fn eject(self: &Arc<Self>, word: &str) -> Result<String, Failure> {
        let drive = self.drive(word)?;
        let Some(plugged) = drive.seen().plugged else { return Err(not_plugged(&drive)) };
        let before = drive.note(|seen| std::mem::replace(&mut seen.ejected, true));
        if let Err(failure) = self.put_to_rest(&drive, &plugged) {
            drive.note(|seen| seen.ejected = before && seen.plugged.as_ref() == Some(&plugged));
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
    pub(super) fn unlock(self: &Arc<Self>, word: &str) -> Result<String, Failure> {
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

    /// Flushes, unmounts and locks, and makes sure of it: that the drive is there to the end, that nothing has it open,
    /// and that all that was written is on it.
    fn put_to_rest(self: &Arc<Self>, drive: &Arc<Drive>, plugged: &Plugged) -> Result<(), Failure> {
        drop(drive.work()); // who is opening it now comes to an end first
        let unmounted = self.automount.unmount_now(drive.magazine().fs_uuid.to_string());
        let end = Instant::now() + REST_LIMIT;
        let rested = match &unmounted {
            Ok(()) => self.wait_for_rest(drive, plugged, end),
            Err(NameError::Refused { source: Refusal::Busy, .. }) => Err(self.in_use(drive)),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!("{} can't be put to rest: {}", drive.magazine(), chain(error)),
            )),
        };
        if drive.seen().plugged.as_ref() != Some(plugged) || !plugged.is_in(&self.system) {
            return Err(self.pulled(drive));
        }
        rested?;
        match Torn::of(self.root(), &drive.magazine().fs_uuid).and_then(|torn| torn.problem()) {
            Some(problem) => {
                let message = format!("{} is locked, but {}", drive.magazine(), problem.message);
                Err(Failure::new(Exit::Failed, message).hint(problem.remedy))
            }
            None => Ok(()),
        }
    }

    /// Waits until nothing has the drive open.
    fn wait_for_rest(
        self: &Arc<Self>,
        drive: &Arc<Drive>,
        plugged: &Plugged,
        end: Instant,
    ) -> Result<(), Failure> {
        loop {
            self.finish(drive);
            // With the lock held: to look claims the device for a moment, and nobody's mount may fail for that.
            let held = {
                let _work = drive.work();
                holder(drive, plugged)?
            };
            let Some(holder) = held else { return Ok(()) };
            if Instant::now() > end {
                let users = self.users_of(drive, plugged);
                let message = format!(
                    "{} is unmounted but not free: {} is in use{}",
                    drive.magazine(),
                    holder.display(),
                    users.named()
                );
                let at = self.site().mount_point(&drive.magazine());
                let remedy = users.problem(&drive.magazine().name, &at).remedy;
                return Err(Failure::new(Exit::Refused, message).hint(remedy));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes note when a drive that lingers is locked; whether it does no more.
    fn finish(self: &Arc<Self>, drive: &Arc<Drive>) -> bool {
        let _work = drive.work();
        if open::finish(drive) {
            self.rests(drive);
        }
        !drive.seen().lingers()
    }

    /// A drive has come to rest.
    pub(super) fn rests(&self, drive: &Arc<Drive>) {
        drive.note(|seen| seen.used = None);
        if drive.seen().doubled.is_some() && self.publish(drive, false) {
            self.bell.ring();
        }
        drive.say(&format!("{} is locked", drive.magazine()));
        self.director.ask();
        self.forget_if_left(drive);
    }

    /// Has it noted when a drive that lingers comes to rest, and meanwhile who uses it.
    pub(super) fn await_rest(self: &Arc<Self>, drive: &Arc<Drive>) {
        if drive.note(|seen| std::mem::replace(&mut seen.awaited, true)) {
            return;
        }
        let (fleet, drive) = (Arc::clone(self), Arc::clone(drive));
        std::thread::spawn(move || {
            let (mut look, mut pause, mut told) =
                (Instant::now() + LINGER_GRACE, Duration::from_millis(10), false);
            while !fleet.waited_enough(&drive) {
                if Instant::now() > look {
                    look = Instant::now() + LOOK_FOR_USERS;
                    let used = fleet.still_used(&drive);
                    if let Some(used) = used.filter(|_| !std::mem::replace(&mut told, true)) {
                        drive.warn(&format!(
                            "{}: {}; it is locked when that ends",
                            drive.magazine(),
                            used.message
                        ));
                    }
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        });
    }

    /// Locks a drive that lingers, if it is free; whether nobody need wait for it any more.
    fn waited_enough(self: &Arc<Self>, drive: &Arc<Drive>) -> bool {
        self.finish(drive);
        drive.note(|seen| {
            seen.awaited = seen.lingers();
            !seen.awaited
        })
    }

    /// Notes who uses a drive that lingers.
    fn still_used(&self, drive: &Drive) -> Option<Problem> {
        let plugged = drive.seen().plugged?;
        let at = self.site().mount_point(&drive.magazine());
        let used = self.users_of(drive, &plugged).problem(&drive.magazine().name, &at);
        drive.note(|seen| seen.used = Some(used.clone()));
        Some(used)
    }

    /// Who uses a drive that is unmounted: its filesystem, or its mapping.
    fn users_of(&self, drive: &Drive, plugged: &Plugged) -> Users {
        let mapping = drive.seen().open.and_then(|open| open.mapping);
        let mapping = mapping.and_then(|name| self.system.mapping(&name));
        Users::of(&self.system, mapping.map_or(plugged.devnum, |device| device.devnum), None)
    }

    fn pulled(&self, drive: &Drive) -> Failure {
        drop(drive.work()); // what it left is being cleared away
        // Its going may not have been told yet; then it still counts as open.
        let torn = drive.seen().open.is_some() || Torn::of(self.root(), &drive.magazine().fs_uuid).is_some();
        let message = if torn {
            "was pulled before it was flushed; it will be checked"
        } else {
            "was pulled before it was put to rest"
        };
        Failure::new(Exit::Failed, format!("{} {message}", drive.magazine()))
            .hint("wait for the word that it is safe to remove; plug it again to have it checked")
    }

    fn in_use(&self, drive: &Drive) -> Failure {
        let at = self.automount.dir().join(drive.magazine().fs_uuid.to_string());
        let table = MountTable::read(&self.system).unwrap_or_default();
        let device = table.at(&at).map(|mount| self.device_of(drive, mount.devnum));
        let named =
            device.map(|device| Users::of(&self.system, device, Some(&at)).named()).unwrap_or_default();
        Failure::new(Exit::Refused, format!("{} is in use{named}", drive.magazine()))
            .hint("end what uses it, or wait for it: offsite eject --wait")
    }

    /// The number of the block device whose filesystem is mounted; what the mount table shows of Btrfs is none.
    fn device_of(&self, drive: &Drive, shown: DevNum) -> DevNum {
        let seen = drive.seen();
        let mapping = seen.open.and_then(|open| self.system.mapping(&open.mapping?));
        match mapping {
            Some(device) => device.devnum,
            None if shown.major == 0 => seen.plugged.map_or(shown, |plugged| plugged.devnum),
            None => shown,
        }
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

/// What has the drive open: a live mapping, whoever made it, or a filesystem on the drive itself.
fn holder(drive: &Drive, plugged: &Plugged) -> Result<Option<PathBuf>, Failure> {
    let Some(luks) = drive.magazine().luks_uuid else {
        return Ok(mount_by_uuid::is_in_use(&plugged.path).then(|| plugged.path.clone()));
    };
    let unknown = || format!("cannot tell whether {} is locked", drive.magazine());
    for name in luks_core::mappings_of(luks).or_fail(unknown())? {
        // A mapping without a drive is what a pulled one has left.
        if let MappingStatus::Active { backing: Some(_), .. } =
            luks_core::mapping_status(&name).or_fail(unknown())?
        {
            return Ok(Some(Path::new("/dev/mapper").join(name)));
        }
    }
    Ok(None)
}

fn not_plugged(drive: &Drive) -> Failure {
    Failure::new(Exit::NotThere, format!("{} is not plugged", drive.magazine()))
        .hint("plug it in; `offsite status` shows which drives are there")
}
