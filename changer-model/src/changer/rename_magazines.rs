//! Taking a site over whose magazines get other names: its volumes keep their slots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::opened::{Changer, ChangerError};
use super::scan::Survey;
use super::scope::Scan;
use crate::config::MagazineSource;
use crate::config::environment::Privileges;
use crate::config::generation::Generation;
use crate::library::identifiers::{DriveIndex, MagazineId};
use crate::library::model;
use crate::library::state::{Drives, MagazineRecord, Manner, State, Volumes};
use crate::system::drives;
use crate::system::identity::{self, IdentityError};
use crate::system::magazine::MagazineError;

/// Why a site is not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// The changer's own files are in the way.
    #[error(transparent)]
    Changer(#[from] ChangerError),
    /// Its user is not known, and a magazine is not looked at as root.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is a state already that knows a magazine by its new name.
    #[error("{} knows magazine {id} already; what it says of the slots is not replaced", work_dir.display())]
    Known {
        /// Where the state is.
        work_dir: PathBuf,
        /// The magazine.
        id: String,
    },
}

/// A magazine whose slots were taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TakenOver {
    /// Its new name: `UUID:...` or a directory.
    pub magazine: String,
    /// How many volumes it has.
    pub volumes: u32,
    /// Their slots, such as `1-69,75`.
    pub slots: String,
}

/// What was taken over.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TakeOver {
    /// The magazines that are known.
    pub magazines: Vec<TakenOver>,
    /// Magazines that are plugged but could not be looked at, by their old name.
    pub unusable: Vec<(String, MagazineError)>,
}

impl Changer {
    /// Gives each magazine of `names` the second name in place of the first, for a configuration that will call it so
    /// and keeps the work directory. The state is this crate's own or what vchanger 0.8 or 1.0 left there; magazines
    /// that are plugged are looked at, with the configured user's rights.
    ///
    /// A volume keeps the slot it is shown in now; volumes that share their slots with others, as those of the 0.8
    /// generation do that stand in no bay, get slots of their own. Drives are emptied: the storage daemon must not
    /// run meanwhile. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`TakeOverError`]; no slot has been changed then.
    pub fn take_over(&self, names: &[(MagazineSource, MagazineSource)]) -> Result<TakeOver, TakeOverError> {
        if !self.store.dir().is_dir() {
            return Ok(TakeOver::default());
        }
        let names: Vec<(MagazineId, MagazineId)> =
            names.iter().map(|(old, new)| (old.id(), new.id())).collect();
        let held = self.lock()?;
        let before = self.store.state().map_err(ChangerError::from)?;
        if let Some(state) = before.as_ref().filter(|state| is_done(state, &names)) {
            return Ok(TakeOver::of(state, Vec::new()));
        }
        let look = || self.survey(Scan::All, &held);
        let Survey { view, mut volumes, unusable, legacy, .. } = match self.env.privileges {
            Privileges::Drop => identity::acting(&self.config, look)??,
            Privileges::Keep => look()?,
        };
        let mut state = view.state;
        let mut renamed = names.iter().filter(|(old, new)| old != new).map(|(_, new)| new);
        if let Some(id) = renamed.find(|new| state.magazines.contains_key(*new)) {
            let work_dir = self.store.dir().to_owned();
            return Err(TakeOverError::Known { work_dir, id: id.to_string() });
        }
        self.read_others(&state, &mut volumes)?;
        if state.manner != Manner::ByVolume {
            model::change_manner(&mut state, Manner::ByVolume, &self.order(), &mut volumes);
        }
        model::rename(&mut state, &mut volumes, &names);
        let left = legacy.into_iter().flat_map(|legacy| legacy.drives.into_keys());
        self.empty_drives(left)?;
        self.store.commit(before.as_ref(), &mut state, &volumes).map_err(ChangerError::from)?;
        Ok(TakeOver::of(&state, unusable))
    }

    /// The lists of volumes that the survey did not bring.
    fn read_others(
        &self,
        state: &State,
        volumes: &mut BTreeMap<MagazineId, Volumes>,
    ) -> Result<(), ChangerError> {
        for (id, record) in &state.magazines {
            if !volumes.contains_key(id) {
                volumes.insert(id.clone(), self.store.volumes(id, record)?);
            }
        }
        Ok(())
    }

    /// Empties the drives, `left` by vchanger among them; of either generation that has a link at `WORK/N`.
    fn empty_drives(&self, left: impl Iterator<Item = DriveIndex>) -> Result<(), ChangerError> {
        let drives = self.store.drives()?;
        for drive in drives.loaded.keys().copied().chain(left) {
            drives::unlink(self.store.dir(), self.generation(), drive)?;
            drives::unlink(self.store.dir(), Generation::V1, drive)?;
        }
        if drives.loaded.is_empty() {
            return Ok(());
        }
        self.write_drives(&Drives { highest: drives.highest, ..Drives::new() })
    }
}

/// All magazines that were renamed go by their new names.
fn is_done(state: &State, names: &[(MagazineId, MagazineId)]) -> bool {
    let left = |(old, new): &(MagazineId, MagazineId)| old != new && state.magazines.contains_key(old);
    let came = |(_, new): &(MagazineId, MagazineId)| state.magazines.contains_key(new);
    state.manner == Manner::ByVolume && !names.iter().any(left) && names.iter().any(came)
}

impl TakeOver {
    fn of(state: &State, unusable: Vec<(MagazineId, MagazineError)>) -> Self {
        let slots = |(id, record): (&MagazineId, &MagazineRecord)| TakenOver {
            magazine: id.to_string(),
            volumes: record.places.len(),
            slots: record.places.to_string(),
        };
        let unusable = unusable.into_iter().map(|(id, error)| (id.to_string(), error)).collect();
        Self { magazines: state.magazines.iter().map(slots).collect(), unusable }
    }
}
