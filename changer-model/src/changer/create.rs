//! Making new volumes: `createvols`, and `initmag` of the 0.8 generation.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::thread;

use super::opened::{Changer, ChangerError};
use super::scan::must_be_mounted;
use super::scope::Scan;
use crate::files::legacy;
use crate::library::identifiers::{IllegalVolumeName, MagazineId, VolumeName};
use crate::library::model::{self, Found};
use crate::library::state::Manner;
use crate::system::magazine::{Magazine, MagazineError};
use crate::system::presence::Presence;

/// Why no volumes, or fewer than asked for, were made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreationError {
    /// The changer's own files are in the way.
    #[error(transparent)]
    Changer(#[from] ChangerError),
    /// The magazine cannot be used.
    #[error(transparent)]
    Magazine(#[from] MagazineError),
    /// The configuration has no such magazine.
    #[error("there is no magazine {index}; the configuration has {count}, counted from 0")]
    NoSuchMagazine {
        /// The index asked for.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The magazine is away.
    #[error("magazine {id} is away; plug it in")]
    Away {
        /// The magazine.
        id: MagazineId,
    },
    /// The names would be illegal.
    #[error(transparent)]
    Name(#[from] IllegalVolumeName),
    /// The numbers are used up.
    #[error("no free number is left for volumes named {prefix}NNNN")]
    NumbersUsedUp {
        /// The prefix.
        prefix: String,
    },
    /// A bay of the 0.8 generation takes no more.
    #[error("magazine {id} has room for {room} more volumes (slots_per_magazine), not for {count}")]
    NoRoom {
        /// The magazine.
        id: MagazineId,
        /// How many still fit.
        room: u32,
        /// How many were asked for.
        count: u32,
    },
    /// No present magazine stands in the bay.
    #[error("bay {bay} is empty")]
    EmptyBay {
        /// The bay.
        bay: u32,
    },
    /// The magazine has volumes already.
    #[error("magazine {id} is initialised already: it has {count} volumes")]
    Initialised {
        /// The magazine.
        id: MagazineId,
        /// How many volumes it has.
        count: u32,
    },
}

/// What to make.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The magazine's index in the configuration, from 0.
    pub(crate) magazine: u32,
    pub(crate) count: u32,
    /// The first number; by default the one after the highest that is used.
    pub(crate) start: Option<u32>,
    /// What stands before the number; by default the storage's name and the magazine's index.
    pub(crate) prefix: Option<String>,
    /// The pool, where it is not the configuration's.
    pub(crate) pool: Option<String>,
}

/// What was made, also when something went wrong on the way.
#[derive(Debug, Default)]
pub(crate) struct Creation {
    pub(crate) names: Vec<VolumeName>,
    pub(crate) error: Option<CreationError>,
}

impl Creation {
    /// What vchanger prints.
    pub(crate) fn report(&self, magazine: u32) -> String {
        let mut text = String::new();
        for name in &self.names {
            let _ = writeln!(text, "creating label '{name}'");
        }
        if self.error.is_none() {
            let _ = writeln!(text, "Created {} volume files on magazine {magazine}", self.names.len());
        }
        text
    }
}

impl Changer {
    /// Makes blank volumes on a magazine and gives them slots.
    pub(crate) fn create_volumes(&self, wish: &Wish) -> Creation {
        let mut creation = Creation::default();
        creation.error = self.try_create(wish, &mut creation.names).err();
        creation
    }

    fn try_create(&self, wish: &Wish, made: &mut Vec<VolumeName>) -> Result<(), CreationError> {
        let no_such = || CreationError::NoSuchMagazine { index: wish.magazine, count: self.settings.len() };
        let index = usize::try_from(wish.magazine).map_err(|_| no_such())?;
        let id = &self.settings.get(index).ok_or_else(no_such)?.id;
        let prefix = match &wish.prefix {
            Some(prefix) => prefix.clone(),
            None => format!("{}_{:04}_", self.name_in_labels(), wish.magazine),
        };
        VolumeName::new(format!("{prefix}0000"))?;
        // a drive may need long to spin up and mount: not while others wait for the lock
        self.open_present(id)?;
        let lock = self.lock()?;
        let updated = self.update_locked(self.scan_for(id)?, &lock)?;
        if let Some((_, error)) = updated.unusable.into_iter().find(|(other, _)| other == id) {
            return Err(error.into());
        }
        let view = updated.view;
        let magazine = self.open_present(id)?;
        let before = view.state.clone();
        let mut state = view.state;
        let record = state.magazines.entry(id.clone()).or_default();
        let mut volumes = self.store.volumes(id, record).map_err(ChangerError::from)?;
        if let Manner::ByBay { slots_per_magazine, .. } = state.manner {
            let room = slots_per_magazine.saturating_sub(record.places.len());
            if wish.count > room {
                return Err(CreationError::NoRoom { id: id.clone(), room, count: wish.count });
            }
        }
        let mut elsewhere = Vec::new();
        for (other, record) in before.magazines.iter().filter(|(other, _)| *other != id) {
            elsewhere.extend(self.store.volumes(other, record).map_err(ChangerError::from)?.into_values());
        }
        let known = volumes.values().chain(&elsewhere).map(|volume| volume.name.as_str());
        let outcome = make(&magazine, wish, &prefix, &known.collect(), made);
        if made.is_empty() {
            return outcome;
        }
        let blank = |name: &VolumeName| Found {
            file: name.as_str().to_owned(),
            name: name.clone(),
            blank: true,
            stamp: None,
        };
        model::add(&mut state, id, &mut volumes, made.iter().map(blank).collect());
        if wish.pool.is_some() {
            let new: HashSet<&VolumeName> = made.iter().collect();
            for volume in volumes.values_mut().filter(|volume| new.contains(&volume.name)) {
                volume.pool.clone_from(&wish.pool);
            }
        }
        if let Some(record) = state.magazines.get_mut(id) {
            record.stamp = magazine.stamp_now();
            record.seen = true;
        }
        let changed = BTreeMap::from([(id.clone(), volumes)]);
        // the drive and the work directory are flushed side by side; both are before anyone is told
        let (synced, committed) = thread::scope(|scope| {
            let sync = thread::Builder::new().spawn_scoped(scope, || magazine.sync());
            let committed = self.store.commit(Some(&before), &mut state, &changed);
            let synced = match sync {
                Ok(sync) => sync.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // no thread can be had: one after the other
                Err(_) => magazine.sync(),
            };
            (synced, committed)
        });
        committed.map_err(ChangerError::from)?;
        synced?;
        outcome
    }

    /// `initmag` of the 0.8 generation: fills the magazine in a bay with its volumes.
    pub(crate) fn initialise_magazine(&self, bay: u32, number: Option<u32>) -> (String, Creation) {
        match self.magazine_in_bay(bay) {
            Ok((index, slots)) => {
                let number = match number.map_or_else(|| self.next_magazine(), Ok) {
                    Ok(number) => number,
                    Err(error) => return (String::new(), Creation { names: Vec::new(), error: Some(error) }),
                };
                let wish = Wish {
                    magazine: index,
                    count: slots,
                    start: Some(1),
                    prefix: Some(format!("{}_{number:04}_", self.name_in_labels())),
                    pool: None,
                };
                let creation = self.create_volumes(&wish);
                let place = self.settings.get(usize::try_from(index).unwrap_or(usize::MAX));
                let directory = place.and_then(|setting| match self.find(&setting.id).0 {
                    Presence::Present { directory, .. } | Presence::Unknown { directory } => Some(directory),
                    Presence::Absent => None,
                });
                let directory = directory.unwrap_or_default();
                let line = format!("created magazine {number} in bay {bay} [{}]\n", directory.display());
                (line, creation)
            }
            Err(error) => (String::new(), Creation { names: Vec::new(), error: Some(error) }),
        }
    }

    /// The number for a magazine that gets none by `-m`: above those in use, and above vchanger's own count.
    fn next_magazine(&self) -> Result<u32, CreationError> {
        let used =
            self.known_names()?.iter().filter_map(VolumeName::numbers).map(|(magazine, _)| magazine).max();
        let counted = legacy::next_magazine(self.store.dir()).unwrap_or(1);
        Ok(counted.max(used.unwrap_or(0).saturating_add(1)))
    }

    /// The names of all volumes, also of those that are away.
    fn known_names(&self) -> Result<BTreeSet<VolumeName>, ChangerError> {
        let mut names = BTreeSet::new();
        for (id, record) in self.store.state()?.map(|state| state.magazines).unwrap_or_default() {
            names.extend(self.store.volumes(&id, &record)?.into_values().map(|v| v.name));
        }
        Ok(names)
    }

    fn magazine_in_bay(&self, bay: u32) -> Result<(u32, u32), CreationError> {
        let view = self.update(Scan::Mounted)?.view;
        let Manner::ByBay { slots_per_magazine, .. } = view.state.manner else {
            return Err(CreationError::EmptyBay { bay });
        };
        let stands = |id: &MagazineId| view.state.magazines.get(id).is_some_and(|r| r.bay == Some(bay));
        let index = self.settings.iter().position(|s| stands(&s.id) && view.present.contains(&s.id));
        let index = index.ok_or(CreationError::EmptyBay { bay })?;
        let id = self.settings.get(index).map(|s| s.id.clone()).ok_or(CreationError::EmptyBay { bay })?;
        let count = view.state.magazines.get(&id).map_or(0, |r| r.places.len());
        if count > 0 {
            return Err(CreationError::Initialised { id, count });
        }
        Ok((u32::try_from(index).unwrap_or(u32::MAX), slots_per_magazine))
    }

    /// The storage's name as far as a volume's name may have it.
    fn name_in_labels(&self) -> String {
        self.config.storage().chars().map(|c| if c == ' ' || c == '/' { '_' } else { c }).collect()
    }

    /// Where a magazine is, and whether it was a mount point before.
    fn find(&self, id: &MagazineId) -> (Presence, bool) {
        let Some(setting) = self.settings.iter().find(|s| s.id == *id) else {
            return (Presence::Absent, false);
        };
        let state = self.store.state().ok().flatten();
        let record = state.as_ref().and_then(|s| s.magazines.get(id));
        let presence = crate::system::presence::Finder::new(&self.env).find(setting, record);
        (presence, record.is_some_and(|r| r.mount_point))
    }

    fn open_present(&self, id: &MagazineId) -> Result<Magazine, CreationError> {
        let (presence, mount_point) = self.find(id);
        let (Presence::Present { directory, .. } | Presence::Unknown { directory }) = &presence else {
            return Err(CreationError::Away { id: id.clone() });
        };
        Ok(Magazine::open(&self.env, directory, must_be_mounted(id, &presence, mount_point))?)
    }

    /// A magazine that was scanned and has not changed since needs no second look.
    fn scan_for<'a>(&self, id: &'a MagazineId) -> Result<Scan<'a>, ChangerError> {
        let view = self.look()?;
        let known = view.state.magazines.get(id).and_then(|record| record.stamp);
        let unchanged = match view.presence(id) {
            Presence::Present { directory, .. } if known.is_some() => {
                known == crate::system::magazine::directory_stamp(&self.env.path(directory))
            }
            _ => false,
        };
        Ok(if unchanged { Scan::Only(&[]) } else { Scan::Only(std::slice::from_ref(id)) })
    }
}

/// Makes the files of new volumes; `made` has those that are there, also when something went wrong on the way.
fn make(
    magazine: &Magazine,
    wish: &Wish,
    prefix: &str,
    taken: &HashSet<&str>,
    made: &mut Vec<VolumeName>,
) -> Result<(), CreationError> {
    let count = usize::try_from(wish.count).unwrap_or(usize::MAX);
    let mut numbers = wish.start.unwrap_or_else(|| highest_number(prefix, taken))..;
    while made.len() < count {
        let Some(number) = numbers.next() else {
            return Err(CreationError::NumbersUsedUp { prefix: prefix.to_owned() });
        };
        let name = VolumeName::new(format!("{prefix}{number:04}"))?;
        if !taken.contains(name.as_str()) && magazine.create(&name)? {
            made.push(name);
        }
    }
    Ok(())
}

/// The highest number behind a prefix, or 0.
fn highest_number(prefix: &str, names: &HashSet<&str>) -> u32 {
    let numbers = names.iter().filter_map(|name| {
        let digits = name.strip_prefix(prefix)?;
        let plain = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse().ok() } else { None }
    });
    numbers.max().unwrap_or(0)
}
