//! Bringing the state up to date with what is plugged.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::Path;

use super::opened::{Changer, ChangerError};
use super::scope::Scan;
use super::view::View;
use crate::files::legacy::Legacy;
use crate::files::lock::Lock;
use crate::files::store::VolumeList;
use crate::library::identifiers::{MagazineId, Slot, VolumeName};
use crate::library::model::{self, Scanned};
use crate::library::state::{Drives, Interrupted, Loaded, Manner, State, Volume, Volumes};
use crate::system::drives;
use crate::system::magazine::{Listing, Magazine, MagazineError};
use crate::system::presence::{Access, Presence};

/// What an update found.
pub(crate) struct Updated {
    pub(crate) view: View,
    /// Magazines that are plugged but could not be looked at.
    pub(crate) unusable: Vec<(MagazineId, MagazineError)>,
    /// Magazines with so many entries that some are left for the next look.
    pub(crate) unfinished: Vec<(MagazineId, usize)>,
}

/// What a look at the magazines brought; nothing of it is on disk yet.
pub(crate) struct Survey {
    pub(crate) before: Option<State>,
    pub(crate) view: View,
    /// The volumes of each magazine whose list has to be written.
    pub(crate) volumes: BTreeMap<MagazineId, Volumes>,
    pub(crate) unusable: Vec<(MagazineId, MagazineError)>,
    unfinished: Vec<(MagazineId, usize)>,
    /// What vchanger left behind, when this is the first look of all.
    pub(crate) legacy: Option<Legacy>,
}

/// A magazine that was looked at.
struct Looked {
    id: MagazineId,
    known: Volumes,
    /// The list of `known` has to be written anew.
    damaged: bool,
    listing: Listing,
    mount_point: bool,
    /// What vchanger took for volumes, where it gave them slots.
    files: Vec<CString>,
}

impl Changer {
    /// Takes the lock and brings the state up to date.
    pub(crate) fn update(&self, scan: Scan<'_>) -> Result<Updated, ChangerError> {
        let lock = self.lock()?;
        self.update_locked(scan, &lock)
    }

    /// Brings the state up to date with what is plugged; commits it when anything changed.
    pub(crate) fn update_locked(&self, scan: Scan<'_>, lock: &Lock) -> Result<Updated, ChangerError> {
        let (updated, saved) = self.update_and_try_to_save(scan, lock)?;
        saved?;
        Ok(updated)
    }

    /// The same for a question: what can't be written, as on a full disk, is answered from memory.
    pub(crate) fn see(&self, scan: Scan<'_>) -> Result<View, ChangerError> {
        let lock = self.lock()?;
        self.see_locked(scan, &lock)
    }

    /// The same for who has the lock already.
    pub(crate) fn see_locked(&self, scan: Scan<'_>, lock: &Lock) -> Result<View, ChangerError> {
        let (updated, _) = self.update_and_try_to_save(scan, lock)?;
        Ok(updated.view)
    }

    fn update_and_try_to_save(
        &self,
        scan: Scan<'_>,
        lock: &Lock,
    ) -> Result<(Updated, Result<(), ChangerError>), ChangerError> {
        let Survey { before, mut view, volumes, unusable, unfinished, legacy } = self.survey(scan, lock)?;
        let mut saved = Ok(());
        if before.as_ref() != Some(&view.state) || !volumes.is_empty() {
            saved = self.store.commit(before.as_ref(), &mut view.state, &volumes).map_err(ChangerError::from);
            if saved.is_ok() {
                self.remark_unused(before.as_ref(), &view.state);
            }
        }
        let before = self.store.drives()?;
        let mut drives = before.clone();
        if let Some(legacy) = legacy
            && drives == Drives::new()
        {
            drives = drives_of(&legacy, &view, &volumes);
        }
        let settled = self.settle_drives(&view, &volumes, &before, drives);
        if saved.is_err() {
            view.unsaved = volumes;
        }
        Ok((Updated { view, unusable, unfinished }, saved.and(settled)))
    }

    /// Looks at magazines and works out the state that follows.
    pub(crate) fn survey(&self, scan: Scan<'_>, _lock: &Lock) -> Result<Survey, ChangerError> {
        let before = self.store.state()?;
        let legacy = before.is_none().then(|| Legacy::read(self.store.dir()));
        let mut state = before.clone().unwrap_or_else(|| self.first_state(legacy.as_ref()));
        let mut volumes: BTreeMap<MagazineId, Volumes> = BTreeMap::new();
        if state.manner != self.manner() {
            for (id, record) in &state.magazines {
                volumes.insert(id.clone(), self.store.volumes(id, record)?);
            }
            model::change_manner(&mut state, self.manner(), &self.order(), &mut volumes);
        }
        let mut view = self.view_of(state);
        let (looked, mut unusable) = self.look_into(&view, scan, &volumes, legacy.as_ref())?;
        let left = |looked: &Looked| (looked.id.clone(), looked.listing.left);
        let unfinished = looked.iter().map(left).filter(|(_, left)| *left > 0).collect();
        volumes.extend(absorb(&mut view.state, looked, legacy.as_ref(), &mut view.present));
        for (id, _) in &unusable {
            let hidden = matches!(
                view.presence(id),
                Presence::Unknown { .. } | Presence::Present { access: Access::Plain, .. }
            );
            if hidden {
                view.present.remove(id);
            }
        }
        if !matches!(scan, Scan::Changed) {
            for (id, record) in &mut view.state.magazines {
                record.seen = view.present.contains(id);
            }
        }
        model::settle_bays(&mut view.state, &self.order(), &view.present);
        // where only trying tells, a failure tells that it is away
        unusable.retain(|(id, _)| !matches!(view.presence(id), Presence::Unknown { .. }));
        Ok(Survey { before, view, volumes, unusable, unfinished, legacy })
    }

    /// The state before the first look: nothing, or what vchanger knew of its bays and slots.
    fn first_state(&self, legacy: Option<&Legacy>) -> State {
        let mut state = State::new(self.manner());
        let Some(legacy) = legacy else { return state };
        match state.manner {
            Manner::ByVolume => state.highest_slot = legacy.highest_slot,
            Manner::ByBay { .. } => {
                for (id, bay) in &legacy.bays {
                    state.magazines.entry(id.clone()).or_default().bay = Some(*bay);
                }
            }
        }
        state
    }

    /// Scans the magazines that are due. `converted` are volumes that have other places than on disk.
    #[expect(clippy::type_complexity, reason = "what could be scanned, and what could not")]
    fn look_into(
        &self,
        view: &View,
        scan: Scan<'_>,
        converted: &BTreeMap<MagazineId, Volumes>,
        legacy: Option<&Legacy>,
    ) -> Result<(Vec<Looked>, Vec<(MagazineId, MagazineError)>), ChangerError> {
        let (mut looked, mut unusable) = (Vec::new(), Vec::new());
        for (id, presence) in &view.presences {
            let Some(directory) = self.to_scan(&view.state, id, presence, scan) else { continue };
            let record = view.state.magazines.get(id).cloned().unwrap_or_default();
            let VolumeList { volumes: known, damaged } = match converted.get(id) {
                Some(known) => VolumeList { volumes: known.clone(), damaged: false },
                None => self.store.volume_list(id, &record)?,
            };
            let opened =
                Magazine::open(&self.env, directory, must_be_mounted(id, presence, record.mount_point));
            let look = |magazine: Magazine| {
                let counted = legacy.is_some_and(|legacy| legacy.has(id));
                let files = if counted { magazine.writable_files()? } else { Vec::new() };
                Ok((magazine.scan(&known, record.scan_from)?, magazine.mount_point, files))
            };
            match opened.and_then(look) {
                Ok((listing, mount_point, files)) => {
                    looked.push(Looked { id: id.clone(), known, damaged, listing, mount_point, files });
                }
                Err(error) => unusable.push((id.clone(), error)),
            }
        }
        Ok((looked, unusable))
    }

    fn to_scan<'p>(
        &self,
        state: &State,
        id: &MagazineId,
        presence: &'p Presence,
        scan: Scan<'_>,
    ) -> Option<&'p Path> {
        let (directory, access) = match presence {
            Presence::Absent => return None,
            Presence::Unknown { directory } => (directory, None),
            Presence::Present { directory, access } => (directory, Some(*access)),
        };
        let record = state.magazines.get(id);
        let unknown = record.is_none_or(|r| r.volumes_file.is_none() || !r.seen);
        let wanted = match scan {
            Scan::Changed => self.looks_changed(state, id, presence),
            Scan::Mounted => unknown || access != Some(Access::Locked),
            Scan::All => true,
            Scan::Only(ids) => ids.contains(id),
        };
        wanted.then_some(directory.as_path())
    }

    /// Empties drives whose volume is no longer there and mends the links of the others.
    fn settle_drives(
        &self,
        view: &View,
        scanned: &BTreeMap<MagazineId, Volumes>,
        before: &Drives,
        mut drives: Drives,
    ) -> Result<(), ChangerError> {
        let mut emptied = Vec::new();
        for (drive, loaded) in &mut drives.loaded {
            let mut there = view.present.contains(&loaded.magazine);
            if let Some(volumes) = scanned.get(&loaded.magazine) {
                match loaded_volume(view, &loaded.magazine, volumes, &loaded.volume) {
                    Some((slot, volume)) => {
                        loaded.slot = slot;
                        if let Presence::Present { directory, .. } = view.presence(&loaded.magazine) {
                            let path = self.env.path(directory).join(&volume.file);
                            loaded.path = path.to_string_lossy().into_owned();
                        }
                    }
                    None => there = false,
                }
            }
            if there {
                // what blocks one drive is said when it is loaded, and must not stop the others
                let _ = drives::link(self.store.dir(), self.generation(), *drive, Path::new(&loaded.path));
            } else {
                emptied.push(*drive);
            }
        }
        for drive in &emptied {
            if let Some(loaded) = drives.loaded.remove(drive)
                && !view.present.contains(&loaded.magazine)
            {
                let Loaded { magazine, volume, .. } = loaded;
                drives.interrupted.insert(*drive, Interrupted { magazine, volume, job: None });
            }
        }
        let written = if drives == *before { Ok(()) } else { self.write_drives(&drives) };
        for drive in emptied {
            drives::unlink(self.store.dir(), self.generation(), drive)?;
        }
        written
    }
}

/// The drives that vchanger left loaded, as far as their volumes are here.
fn drives_of(legacy: &Legacy, view: &View, scanned: &BTreeMap<MagazineId, Volumes>) -> Drives {
    let mut drives = Drives::new();
    for (drive, (of, label)) in &legacy.drives {
        let mut candidates = scanned.iter().filter(|(id, _)| of.as_ref().is_none_or(|of| of == *id));
        let loaded = candidates.find_map(|(id, volumes)| {
            let (slot, volume) = loaded_volume(view, id, volumes, label)?;
            // the path is completed when the drives are settled
            let (magazine, path) = (id.clone(), String::new());
            Some(Loaded { slot, magazine, volume: volume.name.clone(), path, unflushed: false })
        });
        if let Some(loaded) = loaded.filter(|loaded| drives.holding(loaded.slot).is_none()) {
            drives.loaded.insert(*drive, loaded);
            drives.highest = drives.highest.max(*drive);
        }
    }
    drives
}

/// A magazine's volume by its name, and the slot it is shown in.
fn loaded_volume<'v>(
    view: &View,
    id: &MagazineId,
    volumes: &'v Volumes,
    label: &VolumeName,
) -> Option<(Slot, &'v Volume)> {
    let (place, volume) = volumes.iter().find(|(_, volume)| volume.name == *label)?;
    let slot = model::slot_of(view.state.manner, view.state.magazines.get(id)?, *place)?;
    Some((slot, volume))
}

/// Takes over what was found; returns the lists of volumes that have to be written.
fn absorb(
    state: &mut State,
    mut looked: Vec<Looked>,
    legacy: Option<&Legacy>,
    present: &mut BTreeSet<MagazineId>,
) -> BTreeMap<MagazineId, Volumes> {
    let mut old = Vec::new();
    let mut scans = Vec::new();
    for Looked { id, known, listing, files, .. } in &mut looked {
        let found = std::mem::take(&mut listing.found);
        old.push(known.clone());
        if let Some(legacy) = legacy.filter(|_| known.is_empty() && state.manner == Manner::ByVolume) {
            *known = legacy.volumes(id, files, &found);
        }
        scans.push(Scanned { id, volumes: known, found });
    }
    model::absorb(state, scans);
    let mut changed = BTreeMap::new();
    for (Looked { id, known, damaged, listing, mount_point, .. }, old) in looked.into_iter().zip(old) {
        if let Some(record) = state.magazines.get_mut(&id) {
            record.stamp = listing.stamp;
            let mut unused = listing.unused;
            unused.keep_damaged(&record.unused);
            if listing.from > 0 {
                unused.extend(&record.unused);
            }
            record.unused = unused;
            record.scan_from = listing.next;
            record.seen = true;
            record.mount_point |= mount_point;
            if damaged || old != known || record.volumes_file.is_none() {
                changed.insert(id.clone(), known);
            }
        }
        present.insert(id);
    }
    changed
}

/// A magazine that is or was a file system of its own must be one when it is opened.
pub(crate) fn must_be_mounted(id: &MagazineId, presence: &Presence, was_mount_point: bool) -> bool {
    let plain = matches!(presence, Presence::Present { access: Access::Plain, .. });
    id.uuid().is_some() || was_mount_point || !plain
}
