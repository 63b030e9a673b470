//! All enrolled drives, and what happens to them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use changer_model::{marker_path, read_marker, remove_marker, write_marker};
use jiff::Timestamp;
use mount_by_uuid::{Asker, Automount, FindError, Refusal, System, Tag};

use super::askers::{Askers, Refusals};
use super::director::Director;
use super::drive::{Doing, Drive, Open, Plugged, Seen};
use super::flush::Flusher;
use super::journal::warn;
use super::notifier::Bell;
use super::open::{self, Rest};
use super::users::Users;
use super::{ejected_mark, key_maintenance, since};
use crate::bacula::overview::View;
use crate::base::failure::Exit;
use crate::base::paths::Root;
use crate::drives::automounters;
use crate::protocol::site_status::{DriveState, MagazineStatus, Problem, SiteStatus};
use crate::site::description::Site;

/// The drives and everything that works on them.
pub(super) struct Fleet {
    root: Root,
    pub(super) system: System,
    site: RwLock<Arc<Site>>,
    askers: RwLock<Askers>,
    refusals: Mutex<Refusals>,
    drives: RwLock<Vec<Arc<Drive>>>,
    pub(super) automount: Arc<Automount>,
    pub(super) bell: Bell,
    /// Asked whenever a drive has come to rest.
    pub(super) director: Director,
    /// Rung when a drive was mounted.
    pub(super) opened: Bell,
    flusher: Flusher,
    catalog_error: Mutex<Option<String>>,
    /// Why site.toml as it is now is not in force.
    pub(super) outdated: Mutex<Option<Problem>>,
}

impl Fleet {
    pub(super) fn new(
        root: Root,
        system: System,
        site: Site,
        askers: Askers,
        automount: Arc<Automount>,
        flusher: Flusher,
    ) -> Self {
        let drives = site.magazines.iter().cloned().map(|m| Arc::new(Drive::new(m))).collect();
        Self {
            root,
            system,
            site: RwLock::new(Arc::new(site)),
            askers: RwLock::new(askers),
            refusals: Mutex::default(),
            drives: RwLock::new(drives),
            automount,
            bell: Bell::default(),
            director: Director::default(),
            opened: Bell::default(),
            flusher,
            catalog_error: Mutex::new(None),
            outdated: Mutex::new(None),
        }
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn watch(&self, at: &Path, drive: &Arc<Drive>) {
        self.flusher.watch(at, drive);
        self.opened.ring();
    }

    pub(super) fn drives(&self) -> Vec<Arc<Drive>> {
        self.drives.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change_drives<T>(&self, change: impl FnOnce(&mut Vec<Arc<Drive>>) -> T) -> T {
        change(&mut self.drives.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace_site(&self, site: Site) {
        let askers = Askers::of(&site);
        if let Err(error) = self.automount.set_access(&askers.access()) {
            warn(&crate::base::failure::chain(&error));
        }
        *self.askers.write().unwrap_or_else(PoisonError::into_inner) = askers;
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
    }

    pub(super) fn by_fs_uuid(&self, name: &OsStr) -> Option<Arc<Drive>> {
        // To the letter: another spelling would be another directory, and the drive mounted twice. One that leaves stands
        // last and comes first: it has to be put to rest before another with its name is opened.
        self.drives().into_iter().rfind(|d| name == d.magazine().fs_uuid.as_str())
    }

    /// Whether a process may have a drive unlocked; a refusal is told, though not each.
    fn admit(&self, name: &OsStr, asker: &Asker) -> bool {
        if self.askers.read().unwrap_or_else(PoisonError::into_inner).admit(asker) {
            return true;
        }
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(silent) = refusals.note(asker.uid, Instant::now()) {
            let known = self.by_fs_uuid(name).map(|drive| drive.magazine().to_string());
            let what = known.unwrap_or_else(|| "what isn't enrolled".to_owned());
            let before = if silent > 0 { format!(", and {silent} times before") } else { String::new() };
            warn(&format!(
                "user {} (process {}) was refused {what}{before}: only root, Bacula's user and its groups have drives unlocked",
                asker.uid, asker.pid
            ));
        }
        false
    }

    /// Looks at every block device: what is here is plugged, what isn't is away.
    pub(super) fn rescan(self: &Arc<Self>) {
        let scanned = self.system.recorded().and_then(|devices| Ok((devices, self.system.unrecorded()?)));
        let (devices, unrecorded) = match scanned {
            Ok((devices, unrecorded)) => (devices, unrecorded.iter().map(Plugged::from).collect::<Vec<_>>()),
            Err(error) => {
                return warn(&format!("cannot look for drives: {}", crate::base::failure::chain(&error)));
            }
        };
        let present: HashSet<&Tag> = devices.iter().filter_map(|d| d.tag.as_ref()).collect();
        for drive in self.drives() {
            if !present.contains(&drive.magazine().tag()) && !self.stays(&drive, &unrecorded) {
                self.gone(&drive);
            }
        }
        for device in devices {
            let plugged = Plugged::from(&device);
            device.tag.into_iter().for_each(|tag| self.arrived(&tag, &plugged));
        }
        self.bell.ring();
        if !unrecorded.is_empty() {
            // Beside all other work: udevd may be at work on a drive that doesn't answer.
            let fleet = Arc::clone(self);
            std::thread::spawn(move || unrecorded.iter().for_each(|device| fleet.arrived_unknown(device)));
        }
    }

    /// Whether a drive that udevd doesn't tell of is here all the same: the kernel has it, and it is open, or udevd has
    /// no record of it (any more).
    fn stays(&self, drive: &Drive, unrecorded: &[Plugged]) -> bool {
        let seen = drive.seen();
        seen.plugged.is_some_and(|known| {
            let lost = unrecorded.iter().any(|device| device.is(&known));
            known.is_in(&self.system) && (seen.open.is_some() || lost)
        })
    }

    /// A block device that carries `tag` has come, or carries it from now on.
    fn arrived(self: &Arc<Self>, tag: &Tag, plugged: &Plugged) {
        let Some(drive) = self.drives().into_iter().find(|d| d.magazine().tag() == *tag) else { return };
        // An event that comes late may be about a drive that has gone again.
        if !plugged.is_in(&self.system) || self.is_doubled(&drive, plugged) {
            return;
        }
        let ejected = ejected_mark::is_remembered(&self.root, &drive, plugged);
        let since = self.since(&drive, Some(plugged));
        let (before, open) = drive.note(|seen| {
            let before = seen.plugged.replace(plugged.clone());
            seen.since = since;
            if before.as_ref() == Some(plugged) {
                return (before, None);
            }
            seen.ejected = ejected;
            seen.problem = None;
            // Open under another device: the drive that went before its going was seen.
            let open = if before.is_some() { seen.left_open() } else { None };
            (before, open)
        });
        if before.as_ref() != Some(plugged) {
            drive.say(&format!("{} is plugged as {}", drive.magazine(), plugged.path.display()));
            self.clear_away(&drive, open);
        }
        // An access may have found the drive before its event came, so the mark is always made sure of.
        if self.publish(&drive, drive.seen().usable()) || before.as_ref() != Some(plugged) {
            self.bell.ring();
        }
    }

    /// Whether a copy of the drive is plugged as well. The drive that was there first is left alone: what is mounted
    /// from it stays in use, but nothing more is opened until one of the two has gone.
    fn is_doubled(&self, drive: &Drive, plugged: &Plugged) -> bool {
        let seen = drive.seen();
        let another = seen.plugged.is_some_and(|first| !first.is(plugged));
        if !another && seen.doubled.is_none() {
            return false;
        }
        // By udev's word alone: a drive that doesn't answer must not hold up the events of the others.
        let tag = drive.magazine().tag();
        let devices = self.system.carriers(&tag).unwrap_or_default();
        let problem = (devices.len() > 1).then(|| open::doubled(&FindError::Ambiguous { tag, devices }));
        let changed = drive.note(|seen| {
            let changed = seen.doubled != problem;
            if changed {
                seen.doubled.clone_from(&problem);
                seen.problem = None;
            }
            changed
        });
        if changed {
            if let Some(problem) = &problem {
                drive.warn(&format!("{}: {}", drive.magazine(), problem.message));
            }
            self.publish(drive, drive.seen().usable());
            self.bell.ring();
        }
        problem.is_some()
    }

    /// A block device has come or changed, and carries `tag` now.
    pub(super) fn carries(self: &Arc<Self>, plugged: &Plugged, tag: Option<&Tag>) {
        for drive in self.drives() {
            let seen = drive.seen();
            // While it is open only its going counts.
            let was_here = seen.open.is_none() && seen.plugged.is_some_and(|known| known.is(plugged));
            if was_here && tag != Some(&drive.magazine().tag()) {
                self.gone(&drive);
            }
        }
        if let Some(tag) = tag {
            self.arrived(tag, plugged);
        }
    }

    /// A block device has come or changed without anybody telling what it carries (no udevd): it is looked at.
    pub(super) fn arrived_unknown(self: &Arc<Self>, plugged: &Plugged) {
        let carried = self.system.probe(&plugged.path).ok().and_then(|device| device.tag);
        self.carries(plugged, carried.as_ref());
        self.left(plugged); // a loop device that is detached only changes
    }

    /// A block device has gone, or so an event says.
    pub(super) fn left(self: &Arc<Self>, device: &Plugged) {
        for drive in self.drives() {
            let seen = drive.seen();
            if seen.plugged.is_some_and(|known| known.is(device)) {
                self.gone_unless_here(&drive);
            }
            // The one that stays is used from now on.
            if seen.doubled.is_some()
                && let Ok(devices) = self.system.carriers(&drive.magazine().tag())
                && let [device] = devices.as_slice()
            {
                self.arrived(&drive.magazine().tag(), &Plugged::from(device));
            }
        }
    }

    /// Takes note that a drive has gone, if the kernel has it no more.
    fn gone_unless_here(self: &Arc<Self>, drive: &Arc<Drive>) {
        if drive.seen().plugged.is_some_and(|known| !known.is_in(&self.system)) {
            self.gone(drive);
        }
    }

    fn since(&self, drive: &Drive, plugged: Option<&Plugged>) -> Timestamp {
        since::or_now(since::of(&self.root, &drive.magazine().fs_uuid, plugged), |why| drive.warn(why))
    }

    fn gone(self: &Arc<Self>, drive: &Arc<Drive>) {
        let since = self.since(drive, None);
        let (was, open) = drive.note(|seen| {
            seen.ejected = false;
            seen.problem = None;
            seen.doubled = None;
            seen.since = since;
            (seen.plugged.take(), seen.left_open())
        });
        self.publish(drive, false);
        self.clear_away(drive, open);
        if was.is_some() {
            drive.say(&format!("{} is away", drive.magazine()));
            self.bell.ring();
        }
    }

    /// Clears a pulled drive's remains away. The mount goes at once, so that those who use it get errors; the
    /// mapping in a thread, since whoever works on the drive now must meet its end first.
    pub(super) fn clear_away(self: &Arc<Self>, drive: &Arc<Drive>, open: Option<Open>) {
        let Some(open) = open else { return };
        if let Err(error) = self.automount.detach(drive.magazine().fs_uuid.to_string()) {
            drive.warn(&format!("{}: its mount could not be cleared away: {error}", drive.magazine()));
        }
        let (fleet, drive) = (Arc::clone(self), Arc::clone(drive));
        std::thread::spawn(move || {
            let _work = drive.work();
            open::clear(&fleet.root, &drive, &open);
            fleet.forget_if_left(&drive);
        });
    }

    /// Tells the changer whether the drive is plugged, by a mark that costs a question nothing; says whether that changed.
    pub(super) fn publish(&self, drive: &Drive, present: bool) -> bool {
        let uuid = drive.magazine().fs_uuid.to_string();
        let at = self.site().mount_point(&drive.magazine());
        let root = self.root.path();
        let is_so = if present {
            read_marker(root, &uuid).as_ref() == Some(&at)
        } else {
            marker_path(root, &uuid).symlink_metadata().is_err()
        };
        let done = match present {
            _ if is_so => Ok(()),
            true => write_marker(root, &uuid, &at),
            false => remove_marker(root, &uuid),
        };
        let unmarked = done.err().map(|error| error.to_string());
        let before = drive.note(|seen| std::mem::replace(&mut seen.unmarked, unmarked.clone()));
        if let Some(error) = unmarked.filter(|error| before.as_ref() != Some(error)) {
            drive
                .warn(&format!("{}: the changer could not be told: {error}; trying again", drive.magazine()));
            self.opened.ring();
        }
        !is_so
    }

    /// Whether the changer could not be told of a drive, and has still to be.
    pub(super) fn is_any_unmarked(&self) -> bool {
        self.drives().iter().any(|drive| drive.seen().unmarked.is_some())
    }

    /// Tells the changer of the drives of which it could not be told before.
    pub(super) fn publish_again(&self) {
        for drive in self.drives().into_iter().filter(|drive| drive.seen().unmarked.is_some()) {
            if self.publish(&drive, drive.seen().usable()) && drive.seen().unmarked.is_none() {
                self.bell.ring();
            }
        }
    }

    /// How everything is.
    pub(super) fn status(&self) -> SiteStatus {
        let site = self.site();
        let bacula = self.director.known();
        let view = View::new(&self.root, &self.system, &site, bacula);
        let magazines = self
            .drives()
            .iter()
            .map(|drive| {
                let (magazine, mut seen) = (drive.magazine(), drive.seen());
                let at = self.root.join(site.mount_point(&magazine));
                let mut state = seen.state();
                if let Some(used) = self.used_by_others(&seen, magazine.fs_uuid.as_str()) {
                    state = DriveState::Mounted;
                    seen.problem.get_or_insert(used);
                }
                let known = view.magazine(&magazine, &at, state);
                MagazineStatus {
                    since: Some(seen.since),
                    device: seen.plugged.clone().map(|p| p.path),
                    problem: seen.problem().or(known.problem),
                    ..known
                }
            })
            .collect();
        let error = self.catalog_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outdated = self.outdated.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SiteStatus { outdated, ..view.site(&site, Some(std::process::id()), magazines, error) }
    }

    /// What uses a plugged drive that nobody opened here: it must not be called safe to pull.
    fn used_by_others(&self, seen: &Seen, fs_uuid: &str) -> Option<Problem> {
        let plugged = seen.plugged.as_ref().filter(|_| !seen.is_at_work())?;
        if !mount_by_uuid::is_held(&self.system, plugged.devnum) {
            return None;
        }
        let users = Users::of(&self.system, plugged.devnum, None);
        let mut remedy = users.remedy().unwrap_or_else(|| "wait until it is free".to_owned());
        let mounter = users.mounted_at().and_then(|at| automounters::of_mount(&self.root, at, fs_uuid));
        if let Some(mounter) = mounter {
            remedy.push_str(&format!("; {mounter}"));
        }
        let message = format!("it is in use, but not by offsited{}", users.named());
        Some(Problem { message, remedy })
    }

    /// Notes how telling Bacula went.
    pub(super) fn told(&self, result: Result<(), String>) {
        *self.catalog_error.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
    }

    /// Ends the thread that tells Bacula.
    pub(super) fn stop_telling(&self) {
        self.bell.stop();
        self.director.stop();
        self.opened.stop();
    }

    /// Waits until nobody works on any drive, and lets nobody begin: at the end of a process its cryptographic library is
    /// taken down, and a thread that is in the midst of it would hang, and the process with it.
    pub(super) fn end_work(&self) {
        self.drives().iter().for_each(|drive| std::mem::forget(drive.work()));
    }

    /// The names of the drives that are not locked.
    pub(super) fn mounted(&self) -> Vec<String> {
        let open = self.drives().into_iter().filter(|drive| drive.seen().open.is_some());
        open.map(|drive| drive.magazine().to_string()).collect()
    }

    /// Takes back the marks of all drives but those that stay mounted: without the daemon no other is there.
    pub(super) fn retire(&self) {
        for drive in self.drives() {
            let _work = drive.work();
            open::lock_at_last(&drive);
        }
        for drive in self.drives().into_iter().filter(|drive| drive.seen().open.is_none()) {
            self.publish(&drive, false);
        }
    }
}

/// Answers the automount point.
pub(super) struct Keeper(Arc<Fleet>);

impl Keeper {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self(fleet)
    }
}

impl mount_by_uuid::Keeper for Keeper {
    fn admit(&self, name: &OsStr, asker: &Asker) -> Result<(), Refusal> {
        if self.0.admit(name, asker) {
            return Ok(());
        }
        Err(Refusal::Forbidden { reason: "the user may not have drives unlocked".to_owned() })
    }

    fn mount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        let drive = self.0.by_fs_uuid(name).ok_or(Refusal::Absent)?;
        if !drive.seen().may_open() {
            return Err(Refusal::Absent);
        }
        let _work = drive.work();
        let site = self.0.site();
        let may_open = drive.note(|seen| {
            seen.doing = seen.may_open().then_some(Doing::Opening); // meanwhile it may have changed
            seen.doing.is_some()
        });
        if !may_open {
            return Err(Refusal::Absent);
        }
        let opened = open::open(&self.0.root, &self.0.system, &site, &drive, at);
        let lingers = drive.note(|seen| {
            seen.doing = None;
            seen.lingers()
        });
        if lingers {
            self.0.await_rest(&drive);
        }
        self.0.forget_if_left(&drive);
        match opened {
            Ok(()) => {
                self.0.watch(at, &drive);
                key_maintenance::back_up(&self.0.root, &site, &drive);
                drive.say(&format!("{} is mounted", drive.magazine()));
                Ok(())
            }
            Err(failure) if failure.exit() == Exit::NotThere => {
                // Its event may have come before it was noted as plugged.
                self.0.gone_unless_here(&drive);
                Err(Refusal::Absent)
            }
            Err(failure) => {
                drive.warn(&failure.to_string());
                let message = failure.message().to_owned();
                let remedy =
                    failure.remedy().unwrap_or("look into the journal: journalctl -u offsited").to_owned();
                drive.note(|seen| seen.problem = Some(Problem { message: message.clone(), remedy }));
                Err(if failure.exit() == Exit::Refused {
                    Refusal::Forbidden { reason: message }
                } else {
                    Refusal::Failed { reason: message }
                })
            }
        }
    }

    fn unmount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        let Some(drive) = self.0.by_fs_uuid(name) else { return self.0.put_away(at) };
        let _work = drive.work();
        match open::close(&self.0.root, &self.0.system, &drive, at)? {
            Rest::Locked => self.0.rests(&drive),
            Rest::Lingers => self.0.await_rest(&drive),
            Rest::Pulled => self.0.forget_if_left(&drive),
        }
        Ok(())
    }
}
