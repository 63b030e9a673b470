//! One changer: its configuration, its state, and what is plugged, brought together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::scope::Scan;
use super::status::{ChangerStatus, DriveStatus, MagazineStatus, PendingCatalog, VolumeState, VolumeStatus};
use super::view::View;
use crate::config::environment::Environment;
use crate::config::generation::Generation;
use crate::config::{Config, MagazineSetting};
use crate::files::lock::{Lock, LockError};
use crate::files::store::{StateError, Store, VolumeList};
use crate::library::identifiers::{DriveIndex, MagazineId, Slot};
use crate::library::model;
use crate::library::state::{Drives, Manner, State};
use crate::system::drives::DriveError;
use crate::system::magazine::directory_stamp;
use crate::system::presence::{Access, Finder, Presence};

/// Why a changer cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangerError {
    /// Its state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another command holds its lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A drive's link cannot be changed.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// A changer of one configuration.
#[derive(Clone, Debug)]
pub struct Changer {
    pub(crate) config: Config,
    pub(crate) env: Environment,
    pub(crate) store: Store,
    pub(crate) settings: Vec<MagazineSetting>,
    /// What the log has to tell besides how a command ended.
    remarks: Arc<Mutex<Vec<String>>>,
}

impl Changer {
    /// Takes a configuration; nothing is touched yet.
    ///
    /// # Errors
    /// None at present; kept for what opening may need.
    pub fn open(config: &Config, env: &Environment) -> Result<Self, ChangerError> {
        let store = Store::new(env.path(config.work_dir()));
        Ok(Self {
            config: config.clone(),
            env: env.clone(),
            store,
            settings: config.settings(),
            remarks: Arc::default(),
        })
    }

    /// Describes the changer from its state and from what is plugged; waits for no lock and touches no magazine.
    ///
    /// # Errors
    /// [`ChangerError::State`] when the state cannot be read.
    pub fn status(&self) -> Result<ChangerStatus, ChangerError> {
        consistently(|| self.describe())
    }

    /// Says what Bacula's catalog does not know yet; waits for no lock and touches no magazine. None also when
    /// the configuration switches the console off.
    ///
    /// # Errors
    /// [`ChangerError::State`] when the state cannot be read.
    pub fn pending_catalog(&self) -> Result<Option<PendingCatalog>, ChangerError> {
        let view = self.look()?;
        self.pending(&view)
    }

    fn pending(&self, view: &View) -> Result<Option<PendingCatalog>, ChangerError> {
        let debt = self.debt(view)?;
        if self.console().is_none() || debt.is_none() {
            return Ok(None);
        }
        let blank = |id| view.state.magazines.get(id).map_or(0, |record| record.blank);
        Ok(Some(PendingCatalog {
            changed: debt.changed.iter().map(ToString::to_string).collect(),
            unlabelled: debt.blank.iter().map(blank).fold(0, u32::saturating_add),
        }))
    }

    fn describe(&self) -> Result<ChangerStatus, ChangerError> {
        let view = self.look()?;
        let drives = self.store.drives()?;
        let state = &view.state;
        let mut magazines = Vec::new();
        for (id, presence) in &view.presences {
            let (present, directory) = match presence {
                Presence::Absent => (Some(false), None),
                Presence::Unknown { directory } => (None, Some(directory.clone())),
                Presence::Present { directory, .. } => (Some(true), Some(directory.clone())),
            };
            let mut status = MagazineStatus {
                id: id.to_string(),
                present,
                directory,
                slots: String::new(),
                volumes: Vec::new(),
            };
            if let Some(record) = state.magazines.get(id) {
                let slots = |place| model::slot_of(state.manner, record, place).map(Slot::number);
                let shown: crate::library::slot_set::Places =
                    record.places.iter().filter_map(slots).collect();
                status.slots = shown.to_string();
                for (place, volume) in self.store.volumes(id, record)? {
                    let slot = slots(place);
                    let holder = drives.loaded.iter().find(|(_, loaded)| {
                        loaded.magazine == *id && loaded.volume == volume.name && view.present.contains(id)
                    });
                    status.volumes.push(VolumeStatus {
                        slot,
                        label: volume.name.to_string(),
                        state: if volume.blank { VolumeState::Blank } else { VolumeState::Labelled },
                        in_drive: holder.map(|(drive, _)| drive.number()),
                    });
                }
            }
            magazines.push(status);
        }
        let loaded = drives.loaded.iter().filter(|(_, loaded)| view.present.contains(&loaded.magazine));
        let drives = loaded.map(|(drive, loaded)| DriveStatus {
            drive: drive.number(),
            slot: loaded.slot.number(),
            label: loaded.volume.to_string(),
        });
        Ok(ChangerStatus {
            storage: self.config.storage().to_owned(),
            slots: model::total_slots(state),
            drives: drives.collect(),
            pending: self.pending(&view)?,
            notices: self.notices(&view)?,
            magazines,
        })
    }

    /// Has the log tell something.
    pub(crate) fn remark(&self, text: String) {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// What the log has to tell.
    pub(crate) fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn order(&self) -> Vec<MagazineId> {
        self.settings.iter().map(|setting| setting.id.clone()).collect()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.config.generation
    }

    pub(crate) fn manner(&self) -> Manner {
        Manner::of(self.config.layout())
    }

    /// The state and what is plugged, without touching a magazine.
    pub(crate) fn look(&self) -> Result<View, ChangerError> {
        let state = self.store.state()?.unwrap_or_else(|| State::new(self.manner()));
        Ok(self.view_of(state))
    }

    pub(crate) fn view_of(&self, mut state: State) -> View {
        let finder = Finder::new(&self.env);
        let mut presences = Vec::new();
        let mut present = BTreeSet::new();
        for setting in &self.settings {
            let record = state.magazines.get(&setting.id);
            let presence = finder.find(setting, record);
            let shown = match &presence {
                Presence::Absent => false,
                Presence::Unknown { .. } => record.is_some_and(|r| r.seen),
                Presence::Present { .. } => true,
            };
            if shown {
                present.insert(setting.id.clone());
            }
            presences.push((setting.id.clone(), presence));
        }
        let bays_changed = model::settle_bays(&mut state, &self.order(), &present);
        View { state, presences, present, unsaved: BTreeMap::new(), bays_changed }
    }

    /// The view for a question: where a directory that may be looked at has changed, the state is brought up to
    /// date first.
    pub(crate) fn current(&self) -> Result<View, ChangerError> {
        let view = self.look()?;
        let manner_changed = view.state.manner != self.manner();
        let any_changed =
            view.presences.iter().any(|(id, presence)| self.looks_changed(&view.state, id, presence));
        // a drive must not keep a volume that was away, even if it came back before anyone looked again
        let absent = |loaded: &crate::library::state::Loaded| !view.present.contains(&loaded.magazine);
        let any_left = self.store.drives()?.loaded.values().any(absent);
        if !any_changed && !manner_changed && !any_left && !view.bays_changed {
            return Ok(view);
        }
        self.see(Scan::Changed)
    }

    /// A magazine's list of volumes as a view has it.
    pub(crate) fn volume_list(&self, view: &View, id: &MagazineId) -> Result<VolumeList, ChangerError> {
        if let Some(volumes) = view.unsaved.get(id) {
            return Ok(VolumeList { volumes: volumes.clone(), damaged: false });
        }
        match view.state.magazines.get(id) {
            Some(record) => Ok(self.store.volume_list(id, record)?),
            None => Ok(VolumeList::default()),
        }
    }

    pub(crate) fn looks_changed(&self, state: &State, id: &MagazineId, presence: &Presence) -> bool {
        let Presence::Present { directory, access: Access::Plain } = presence else { return false };
        let known = state.magazines.get(id).and_then(|record| record.stamp);
        known.is_none() || known != directory_stamp(&self.env.path(directory))
    }

    pub(crate) fn lock(&self) -> Result<Lock, ChangerError> {
        self.lock_within(self.env.lock_limit)
    }

    pub(crate) fn lock_within(&self, limit: Duration) -> Result<Lock, ChangerError> {
        self.store.create_dir()?;
        Ok(Lock::take(&self.store.dir().join("lock"), limit)?)
    }

    pub(crate) fn write_drives(&self, drives: &Drives) -> Result<(), ChangerError> {
        Ok(self.store.write_drives(drives)?)
    }

    /// Whether a drive's number is one this changer has.
    pub(crate) fn has_drive(&self, drive: DriveIndex) -> bool {
        self.config.layout().is_none_or(|layout| drive.number() < layout.virtual_drives)
    }
}

/// Repeats a reading when a commit took away a file between two steps of it.
pub(crate) fn consistently<T>(read: impl Fn() -> Result<T, ChangerError>) -> Result<T, ChangerError> {
    for _ in 0..10 {
        match read() {
            Err(ChangerError::State(StateError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    read()
}
