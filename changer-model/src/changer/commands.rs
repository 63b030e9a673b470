//! The commands that bacula-sd calls.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::opened::{Changer, ChangerError, consistently};
use super::placeholder;
use super::scan::must_be_mounted;
use super::scope::Scan;
use super::view::View;
use crate::files::legacy::Legacy;
use crate::files::lock::Lock;
use crate::library::identifiers::{DriveIndex, MagazineId, Slot, VolumeName};
use crate::library::model::{self, LoadRefusal};
use crate::library::state::{Loaded, State};
use crate::system::drives;
use crate::system::magazine::{Magazine, MagazineError};
use crate::system::presence::{Access, Presence};

/// Why a command of the storage daemon's cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The changer's own files are in the way.
    #[error(transparent)]
    Changer(#[from] ChangerError),
    /// The load is refused.
    #[error(transparent)]
    Refused(#[from] LoadRefusal),
    /// The magazine cannot be used.
    #[error(transparent)]
    Magazine(#[from] MagazineError),
    /// What was written could not be brought to the medium.
    #[error("volume {volume} could not be flushed to its magazine, so its drive stays loaded")]
    Flush {
        /// The volume.
        volume: VolumeName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The job that loads was interrupted by a pull, and must not end as if it had saved everything.
    #[error(
        "volume {volume} was taken away while job {job} wrote to it, and what it wrote may be lost: the job ends here and has to be run again"
    )]
    Interrupted {
        /// The volume.
        volume: VolumeName,
        /// The job's number in the catalog.
        job: u32,
    },
    /// A configuration of the 0.8 generation has no such drive.
    #[error("there is no drive {drive}; virtual_drives is {drives}")]
    NoSuchDrive {
        /// The drive asked for.
        drive: DriveIndex,
        /// How many there are.
        drives: u32,
    },
}

/// How long a question waits to tidy up; the storage daemon waits for its answer.
const TIDY_LIMIT: Duration = Duration::from_secs(2);

impl Changer {
    /// `slots`: how many slots there are. What the storage daemon is told (`to_daemon`) bounds its next `list`.
    pub(crate) fn slots(&self, to_daemon: bool) -> Result<String, CommandError> {
        let view = self.current()?;
        let mut slots = model::total_slots(&view.state);
        if to_daemon && view.state.slots_answered != Some(slots) {
            let _lock = self.lock()?;
            let before = self.store.state().map_err(ChangerError::from)?;
            if let Some(mut state) = before.clone() {
                slots = model::total_slots(&state).max(slots);
                state.slots_answered = Some(slots);
                // on a full disk the next `list` shows no more than what was answered before
                let _ = self.store.commit(before.as_ref(), &mut state, &BTreeMap::new());
            }
        }
        Ok(format!("{slots}\n"))
    }

    /// `list`: every slot with its volume.
    pub(crate) fn list(&self, to_daemon: bool) -> Result<String, CommandError> {
        let shown = self.shown()?;
        let mut last = model::total_slots(&shown.view.state);
        if let Some(answered) = shown.view.state.slots_answered.filter(|_| to_daemon) {
            // the daemon made its table of slots by that answer
            last = last.min(answered);
        }
        let mut text = String::new();
        let mut volumes = shown.volumes.iter().peekable();
        for slot in 1..=last {
            let _ = match volumes.next_if(|(at, _)| at.number() == slot) {
                Some((_, name)) => writeln!(text, "{slot}:{name}"),
                None => writeln!(text, "{slot}:"),
            };
        }
        Ok(text)
    }

    /// `listall`: every drive, then every slot; a volume in a drive is shown there.
    pub(crate) fn list_all(&self) -> Result<String, CommandError> {
        let shown = self.shown()?;
        let drives = self.store.drives().map_err(ChangerError::from)?;
        let held = |loaded: &Loaded| shown.view.present.contains(&loaded.magazine);
        let mut text = String::new();
        for number in 0..=drives.highest.number() {
            let loaded = DriveIndex::new(number).and_then(|d| drives.loaded.get(&d)).filter(|l| held(l));
            let _ = match loaded {
                Some(loaded) => writeln!(text, "D:{number}:F:{}:{}", loaded.slot, loaded.volume),
                None => writeln!(text, "D:{number}:E"),
            };
        }
        let mut volumes = shown.volumes.iter().peekable();
        for number in 1..=model::total_slots(&shown.view.state) {
            let here = volumes.next_if(|(at, _)| at.number() == number);
            let _ = match here.filter(|(slot, _)| drives.holding(*slot).is_none()) {
                Some((_, name)) => writeln!(text, "S:{number}:F:{name}"),
                None => writeln!(text, "S:{number}:E"),
            };
        }
        Ok(text)
    }

    fn shown(&self) -> Result<Shown, ChangerError> {
        let shown = self.shown_by(self.current()?)?;
        let damaged: Vec<MagazineId> =
            shown.damaged.iter().filter(|id| shown.view.is_open(id)).cloned().collect();
        if damaged.is_empty() {
            return Ok(shown);
        }
        self.shown_by(self.see(Scan::Only(&damaged))?)
    }

    /// The volumes that a view shows.
    fn shown_by(&self, view: View) -> Result<Shown, ChangerError> {
        let first = std::cell::Cell::new(Some(view));
        consistently(|| {
            let view = match first.take() {
                Some(view) => view,
                None => self.look()?,
            };
            let mut volumes: Vec<(Slot, VolumeName)> = Vec::new();
            let mut damaged = Vec::new();
            for id in &view.present {
                let Some(record) = view.state.magazines.get(id) else { continue };
                let list = self.volume_list(&view, id)?;
                if list.damaged {
                    damaged.push(id.clone());
                }
                for (place, volume) in list.volumes {
                    if let Some(slot) = model::slot_of(view.state.manner, record, place) {
                        volumes.push((slot, volume.name));
                    }
                }
            }
            volumes.sort_unstable_by_key(|(slot, _)| *slot);
            Ok(Shown { view, volumes, damaged })
        })
    }

    /// `listmags`: the configuration's magazines with their number of volumes, first slot and directory; of the 0.8
    /// generation the bays with their magazine's changer, number and directory.
    pub(crate) fn list_magazines(&self) -> Result<String, CommandError> {
        let view = self.current()?;
        Ok(match self.config.layout() {
            Some(layout) => self.list_bays(&view, layout.bays)?,
            None => list_by_index(&view),
        })
    }

    fn list_bays(&self, view: &View, bays: u32) -> Result<String, ChangerError> {
        let mut text = String::new();
        for bay in 1..=bays {
            let stands = |id: &MagazineId| view.state.magazines.get(id).is_some_and(|r| r.bay == Some(bay));
            let magazine = view.presences.iter().find(|(id, _)| stands(id) && view.present.contains(id));
            let Some((id, presence)) = magazine else {
                let _ = writeln!(text, "{bay}::0:");
                continue;
            };
            let record = view.state.magazines.get(id).cloned().unwrap_or_default();
            let volumes = self.volume_list(view, id)?.volumes;
            let numbers = volumes.into_values().find_map(|v| v.name.numbers());
            let changer = if record.places.is_empty() { "" } else { self.config.storage() };
            let number = numbers.map_or(0, |(magazine, _)| magazine);
            let directory = presence.directory().unwrap_or(Path::new(""));
            let _ = writeln!(text, "{bay}:{changer}:{number}:{}", directory.display());
        }
        Ok(text)
    }

    /// `loaded`: the slot in a drive, or 0. It costs the same however many volumes and absent magazines there are.
    pub(crate) fn loaded(&self, drive: DriveIndex) -> Result<String, CommandError> {
        self.check_drive(drive)?;
        self.look_first()?;
        let drives = self.store.drives().map_err(ChangerError::from)?;
        let Some(loaded) = drives.loaded.get(&drive) else {
            self.tidy(drive)?;
            return Ok("0\n".to_owned());
        };
        let scan = match self.behind(drive, loaded)? {
            Behind::Volume => return Ok(format!("{}\n", loaded.slot)),
            // a link that leads nowhere would let the daemon create a file where the magazine should be
            Behind::Elsewhere => Scan::Only(&[]),
            Behind::Nothing(Access::Plain) => Scan::Changed,
            Behind::Nothing(_) => Scan::Only(std::slice::from_ref(&loaded.magazine)),
        };
        if let Ok(lock) = self.lock_within(TIDY_LIMIT) {
            self.see_locked(scan, &lock)?;
        }
        let drives = self.store.drives().map_err(ChangerError::from)?;
        Ok(match drives.loaded.get(&drive) {
            Some(loaded) if self.behind(drive, loaded)? == Behind::Volume => format!("{}\n", loaded.slot),
            _ => "0\n".to_owned(),
        })
    }

    /// Takes away the links of an empty drive, which a load or an unload that was killed left.
    fn tidy(&self, drive: DriveIndex) -> Result<(), ChangerError> {
        let (dir, generation) = (self.store.dir(), self.generation());
        let linked = || {
            let link = drives::target(dir, generation, drive);
            link.is_some_and(|path| path != placeholder::path(&self.store))
        };
        if !linked() && !drives::is_unfinished(dir, generation, drive) {
            return Ok(());
        }
        if let Ok(_lock) = self.lock_within(TIDY_LIMIT)
            && !self.store.drives()?.loaded.contains_key(&drive)
        {
            if linked() {
                drives::unlink(dir, generation, drive)?;
            } else {
                drives::remove_unfinished(dir, generation, drive)?;
            }
        }
        Ok(())
    }

    /// What is behind a drive that holds a volume, without asking for any other magazine and without waking this one.
    fn behind(&self, drive: DriveIndex, loaded: &Loaded) -> Result<Behind, ChangerError> {
        let Some(setting) = self.settings.iter().find(|setting| setting.id == loaded.magazine) else {
            return Ok(Behind::Elsewhere);
        };
        let state = self.store.state()?;
        let record = state.as_ref().and_then(|state| state.magazines.get(&loaded.magazine));
        let presence = crate::system::presence::Finder::new(&self.env).find(setting, record);
        let linked = drives::target(self.store.dir(), self.generation(), drive);
        let path = Path::new(&loaded.path);
        Ok(match presence {
            Presence::Absent => Behind::Elsewhere,
            Presence::Unknown { .. } if !record.is_some_and(|r| r.seen) => Behind::Elsewhere,
            _ if linked.as_deref() != Some(path) => Behind::Elsewhere,
            Presence::Present { access: access @ (Access::Plain | Access::Automounted), .. }
                if !fs::symlink_metadata(path).is_ok_and(|data| data.is_file()) =>
            {
                Behind::Nothing(access)
            }
            Presence::Unknown { .. } | Presence::Present { .. } => Behind::Volume,
        })
    }

    /// What vchanger has loaded is known after the first look only.
    fn look_first(&self) -> Result<(), ChangerError> {
        if self.store.is_new() && !Legacy::read(self.store.dir()).drives.is_empty() {
            self.see(Scan::Changed)?;
        }
        Ok(())
    }

    fn check_drive(&self, drive: DriveIndex) -> Result<(), CommandError> {
        match self.config.layout() {
            Some(layout) if !self.has_drive(drive) => {
                Err(CommandError::NoSuchDrive { drive, drives: layout.virtual_drives })
            }
            _ => Ok(()),
        }
    }

    /// `load`: makes a drive lead to a slot's volume, once its file opens and holds this volume. A volume that is away
    /// gets a stand-in, so that the storage daemon asks for it, where this changer tells Bacula of what comes and so
    /// ends the waiting.
    pub(crate) fn load(&self, slot: Slot, drive: DriveIndex) -> Result<(), CommandError> {
        self.check_drive(drive)?;
        let lock = self.lock()?;
        self.end_interrupted(drive)?;
        match self.load_locked(slot, drive, &lock) {
            Err(CommandError::Refused(LoadRefusal::EmptySlot { away: Some(_), .. }))
                if self.console().is_some() =>
            {
                let file = placeholder::file(&self.store).map_err(ChangerError::from)?;
                // not noted as loaded, so that the daemon loads again once it was told that the volume is there
                Ok(drives::link(self.store.dir(), self.generation(), drive, &file)
                    .map_err(ChangerError::from)?)
            }
            other => other,
        }
    }

    fn load_locked(&self, slot: Slot, drive: DriveIndex, lock: &Lock) -> Result<(), CommandError> {
        let mut view = self.see_locked(Scan::Changed, lock)?;
        // below an automounter that tells nothing, trying is the only way to know
        for (id, presence) in &view.presences {
            if matches!(presence, Presence::Unknown { .. }) {
                view.present.insert(id.clone());
            }
        }
        let mut drives = self.store.drives().map_err(ChangerError::from)?;
        // also where the volume is in the drive already: what became of it since must be known before it is used
        let (id, place) = model::check_load(&view.state, &drives, &view.present, slot, drive)?;
        let id = &id.clone();
        let mut list = self.volume_list(&view, id)?;
        if list.damaged {
            view = self.see_locked(Scan::Only(std::slice::from_ref(id)), lock)?;
            drives = self.store.drives().map_err(ChangerError::from)?;
            list = self.volume_list(&view, id)?;
        }
        let empty = || LoadRefusal::EmptySlot { slot, away: Some(id.clone()) };
        let (Presence::Present { directory, .. } | Presence::Unknown { directory }) = view.presence(id)
        else {
            return Err(empty().into());
        };
        let volume = list.volumes.get(&place).ok_or(LoadRefusal::EmptySlot { slot, away: None })?;
        let was_mount_point = view.state.magazines.get(id).is_some_and(|record| record.mount_point);
        let must_be_mounted = must_be_mounted(id, view.presence(id), was_mount_point);
        let magazine = Magazine::open(&self.env, directory, must_be_mounted)?;
        if let Err(error) = magazine.verify(volume) {
            // the state was wrong about it: the next `list` must tell the truth
            self.see_locked(Scan::Only(std::slice::from_ref(id)), lock)?;
            return Err(error.into());
        }
        let path = magazine.directory().join(&volume.file);
        drives::link(self.store.dir(), self.generation(), drive, &path).map_err(ChangerError::from)?;
        let loaded = Loaded {
            slot,
            magazine: id.clone(),
            volume: volume.name.clone(),
            path: path.to_string_lossy().into_owned(),
            unflushed: false,
        };
        if drives.loaded.get(&drive) != Some(&loaded) {
            drives.loaded.insert(drive, loaded);
            drives.highest = drives.highest.max(drive);
            self.write_drives(&drives)?;
        }
        Ok(())
    }

    /// `unload`: empties a drive; an empty one stays empty. That what was written could not all be brought to the medium
    /// is said once, by a failure; a drive that stayed loaded for it would keep the storage daemon from all others.
    pub(crate) fn unload(&self, drive: DriveIndex) -> Result<(), CommandError> {
        self.check_drive(drive)?;
        self.look_first()?;
        let before = self.store.drives().map_err(ChangerError::from)?;
        let flushed = before.loaded.get(&drive).map_or(Ok(()), |loaded| self.flush(loaded));
        let _lock = self.lock()?;
        let mut drives = self.store.drives().map_err(ChangerError::from)?;
        if flushed.is_err()
            && let Some(loaded) = drives.loaded.get_mut(&drive)
            && before.loaded.get(&drive) == Some(loaded)
            && !std::mem::replace(&mut loaded.unflushed, true)
        {
            self.write_drives(&drives)?;
            return flushed;
        }
        // first the memory, then the link: a drive said to be full whose link is gone makes Bacula mark a good
        // volume as bad
        if drives.loaded.remove(&drive).is_some() {
            self.write_drives(&drives)?;
        }
        drives::unlink(self.store.dir(), self.generation(), drive).map_err(ChangerError::from)?;
        Ok(())
    }
}

impl Changer {
    /// Waits until a volume is on its medium: the storage daemon does so only for the last volume of a job, and the
    /// magazine may be pulled as soon as the job is done. A magazine that isn't mounted has been flushed, or is gone.
    fn flush(&self, loaded: &Loaded) -> Result<(), CommandError> {
        let Some(setting) = self.settings.iter().find(|setting| setting.id == loaded.magazine) else {
            return Ok(());
        };
        let presence = crate::system::presence::Finder::new(&self.env).find(setting, None);
        if !matches!(presence, Presence::Present { access: Access::Plain | Access::Automounted, .. }) {
            return Ok(());
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        match OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&loaded.path)
            .and_then(|file| file.sync_all())
        {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CommandError::Flush { volume: loaded.volume.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

/// What is behind a drive that should hold a volume.
#[derive(PartialEq, Eq)]
enum Behind {
    /// The volume, as far as can be told.
    Volume,
    /// The magazine is away, or the drive's link isn't the changer's.
    Elsewhere,
    /// The link leads into the magazine, to no file.
    Nothing(Access),
}

struct Shown {
    view: View,
    volumes: Vec<(Slot, VolumeName)>,
    /// Magazines of whose volumes some may be missing here, for their list is damaged.
    damaged: Vec<MagazineId>,
}

fn list_by_index(view: &View) -> String {
    let mut text = String::new();
    for (index, (id, presence)) in view.presences.iter().enumerate() {
        let _ = match presence.directory().filter(|_| view.present.contains(id)) {
            Some(directory) => {
                let (count, first) = count_and_first(&view.state, id);
                writeln!(text, "{index}:{count}:{first}:{}", directory.display())
            }
            None => writeln!(text, "{index}:::"),
        };
    }
    text
}

fn count_and_first(state: &State, id: &MagazineId) -> (u32, u32) {
    let Some(record) = state.magazines.get(id) else { return (0, 0) };
    let first = record.places.lowest().and_then(|place| model::slot_of(state.manner, record, place));
    (record.places.len(), first.map_or(0, Slot::number))
}
