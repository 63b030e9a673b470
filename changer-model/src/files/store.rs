//! The state on disk: `state.json`, one file of volumes for each magazine, and `drives.json`.
//!
//! A commit writes the changed volumes under new names, then renames the new `state.json` over the old one: that
//! rename is the commit. The state before it stays as `state.json.previous` with the files it names, and takes
//! over when the newer one turns out damaged. Whoever only asks reads without the lock.
//!
//! `drives.json` is replaced by rename too, but not forced to the disk: after a power cut no drive holds anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::Deserialize;

use super::ownership::give_to_owner_of;
use super::volumes_file::{Row, VolumesFile, file_name_of, row, volumes_text};
use crate::library::bays::BayLayout;
use crate::library::closed_volumes::Shelf;
use crate::library::identifiers::{DriveIndex, MagazineId};
use crate::library::slot_set::HIGHEST;
use crate::library::state::{Drives, MagazineRecord, Manner, State, VERSION, Volumes};
use crate::library::versioned::Versioned;

const STATE: &str = "state.json";
const PREVIOUS: &str = "state.json.previous";
const DRIVES: &str = "drives.json";
const SPARE_DRIVES: &str = "drives.json.spare";
const SHELF: &str = "shelf.json";
const VOLUMES: &str = "volumes-";

/// Maximum size of a state file, in bytes: room for some 300 000 volumes of one magazine.
const LONGEST: u64 = 64 << 20;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The state and its previous copy are damaged.
    #[error(
        "the changer's state {} is damaged ({reason}) and so is its previous copy; put it back from a backup, or move both away and run refresh to give all volumes new slots",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The list of volumes that are closed in Bacula's catalog is damaged.
    #[error(
        "the list of volumes that are away, {}, is damaged ({reason}); put it back from a backup, or remove it and, when a drive is back, give its Read-Only volumes their status by hand (update volume=NAME volstatus=Used)",
        path.display()
    )]
    DamagedShelf {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The state was written by a newer version.
    #[error("the changer's state {} has version {found}, this program knows {VERSION}; use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl StateError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The work directory's state files.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the work directory, with mode 0750, and says whether it was missing.
    pub(crate) fn create_dir(&self) -> Result<bool, StateError> {
        if self.dir.is_dir() {
            return Ok(false);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.dir)
            .map_err(StateError::io("create the work directory", &self.dir))?;
        Ok(true)
    }

    /// Whether nothing was ever committed here.
    pub(crate) fn is_new(&self) -> bool {
        !self.dir.join(STATE).exists() && !self.dir.join(PREVIOUS).exists()
    }

    /// Reads the state; none before the first commit. A damaged one gives way to its previous copy, whose
    /// magazines then count as never scanned, so that the next look finds what the damage hid.
    pub(crate) fn state(&self) -> Result<Option<State>, StateError> {
        let path = self.dir.join(STATE);
        let previous_path = self.dir.join(PREVIOUS);
        match read_json::<State>(&path, check_state)? {
            Content::Good(state) => return Ok(Some(state)),
            Content::Missing if !previous_path.exists() => return Ok(None),
            Content::Missing | Content::Bad(_) => {}
        }
        match read_json::<State>(&previous_path, check_state)? {
            Content::Good(mut state) => {
                for record in state.magazines.values_mut() {
                    record.stamp = None;
                    record.seen = false;
                }
                // names of volume files must not be used twice
                state.serial += 1;
                Ok(Some(state))
            }
            Content::Missing => Err(StateError::Damaged { path, reason: "there is no copy".to_owned() }),
            Content::Bad(reason) => Err(StateError::Damaged { path, reason }),
        }
    }

    /// Reads a magazine's volumes; none of a magazine that was never scanned.
    pub(crate) fn volumes(&self, id: &MagazineId, record: &MagazineRecord) -> Result<Volumes, StateError> {
        Ok(self.volume_list(id, record)?.volumes)
    }

    /// Reads a magazine's list of volumes. Of a damaged one counts what can be read of it and of the one before; the
    /// places of what can't stay taken until the magazine is scanned.
    pub(crate) fn volume_list(
        &self,
        id: &MagazineId,
        record: &MagazineRecord,
    ) -> Result<VolumeList, StateError> {
        let Some(name) = &record.volumes_file else { return Ok(VolumeList::default()) };
        let path = self.dir.join(name);
        let rows: Volumes = match read_json::<VolumesFile>(&path, |_| Ok(()))? {
            Content::Good(file) if file.magazine == *id => {
                file.volumes.into_iter().map(Row::into_volume).collect()
            }
            // who reads without the lock may have a state that is no longer the valid one
            Content::Missing if self.volumes_file(id)?.as_ref() != Some(name) => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(StateError::io("find", &path)(source));
            }
            Content::Good(_) | Content::Missing => Volumes::new(),
            Content::Bad(_) => readable_rows(&path),
        };
        if rows.keys().copied().eq(record.places.iter()) {
            return Ok(VolumeList { volumes: rows, damaged: false });
        }
        let mut list = VolumeList { volumes: Volumes::new(), damaged: true };
        let mut names = BTreeSet::new();
        for (place, volume) in rows.into_iter().chain(self.older_rows(id)) {
            if record.places.contains(place)
                && !list.volumes.contains_key(&place)
                && names.insert(volume.name.clone())
            {
                list.volumes.insert(place, volume);
            }
        }
        Ok(list)
    }

    /// The file that the valid state names for a magazine's volumes.
    fn volumes_file(&self, id: &MagazineId) -> Result<Option<String>, StateError> {
        Ok(self.state()?.and_then(|state| state.magazines.get(id)?.volumes_file.clone()))
    }

    /// The rows of the list that the previous state names.
    fn older_rows(&self, id: &MagazineId) -> Volumes {
        match read_json::<State>(&self.dir.join(PREVIOUS), check_state) {
            Ok(Content::Good(previous)) => {
                let name = previous.magazines.get(id).and_then(|record| record.volumes_file.as_deref());
                name.map(|name| readable_rows(&self.dir.join(name))).unwrap_or_default()
            }
            _ => Volumes::new(),
        }
    }

    /// Makes a new state the valid one; `before` is what was valid until now.
    pub(crate) fn commit(
        &self,
        before: Option<&State>,
        state: &mut State,
        changed: &BTreeMap<MagazineId, Volumes>,
    ) -> Result<(), StateError> {
        state.serial += 1;
        for (id, volumes) in changed {
            let name = format!("{VOLUMES}{}-{}.json", file_name_of(id), state.serial);
            // its name is new, and nothing reads it before the state names it
            self.write_new(&name, &volumes_text(id, volumes), true)?;
            if let Some(record) = state.magazines.get_mut(id) {
                record.volumes_file = Some(name);
            }
        }
        let path = self.dir.join(STATE);
        let previous = self.dir.join(PREVIOUS);
        if before.is_some() && matches!(read_json::<State>(&path, check_state)?, Content::Good(_)) {
            self.keep_previous(&path, &previous)?;
        }
        let mut text = serde_json::to_string_pretty(state).map_err(|e| StateError::Io {
            action: "write",
            path: path.clone(),
            source: e.into(),
        })?;
        text.push('\n');
        self.write(STATE, text.as_bytes(), true)?;
        if !changed.is_empty() {
            self.sweep(before, state);
        }
        Ok(())
    }

    /// Reads the drives; a damaged list counts as one of empty drives, for the storage daemon loads again.
    pub(crate) fn drives(&self) -> Result<Drives, StateError> {
        match read_json::<Drives>(&self.dir.join(DRIVES), check_drives)? {
            Content::Good(drives) => Ok(drives),
            Content::Missing | Content::Bad(_) => Ok(Drives::new()),
        }
    }

    /// Replaces the list of drives, on a full disk too: there by exchanging it for a spare file, which has its room
    /// already and is written over first.
    pub(crate) fn write_drives(&self, drives: &Drives) -> Result<(), StateError> {
        let mut text = serde_json::to_string_pretty(drives).map_err(|e| StateError::Io {
            action: "write",
            path: self.dir.join(DRIVES),
            source: e.into(),
        })?;
        text.push('\n');
        let spare = self.dir.join(SPARE_DRIVES);
        match self.write(DRIVES, text.as_bytes(), false) {
            Ok(()) => {
                if !spare.exists() {
                    // what is missing now is tried again the next time
                    let _ = self.write(SPARE_DRIVES, text.as_bytes(), false);
                }
                Ok(())
            }
            Err(error) => exchange(&spare, &self.dir.join(DRIVES), text.as_bytes()).map_err(|_| error),
        }
    }

    /// Reads which volumes are closed in Bacula's catalog; none before the first was.
    pub(crate) fn shelf(&self) -> Result<Shelf, StateError> {
        let path = self.dir.join(SHELF);
        match read_json::<Shelf>(&path, |_| Ok(()))? {
            Content::Good(kept) => Ok(kept),
            Content::Missing => Ok(Shelf::default()),
            Content::Bad(reason) => Err(StateError::DamagedShelf { path, reason }),
        }
    }

    pub(crate) fn write_shelf(&self, kept: &Shelf) -> Result<(), StateError> {
        let mut text = serde_json::to_string_pretty(kept).map_err(|e| StateError::Io {
            action: "write",
            path: self.dir.join(SHELF),
            source: e.into(),
        })?;
        text.push('\n');
        self.write(SHELF, text.as_bytes(), true)
    }

    /// A small file in the work directory; none where it can't be read.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        read_file(&self.dir.join(name)).ok()
    }

    fn keep_previous(&self, path: &Path, previous: &Path) -> Result<(), StateError> {
        let link = self.dir.join("state.json.link");
        remove_if_there(&link)?;
        if fs::hard_link(path, &link).is_ok() {
            return fs::rename(&link, previous).map_err(StateError::io("keep", previous));
        }
        let text = read_file(path).map_err(StateError::io("read", path))?;
        self.write(PREVIOUS, &text, true)
    }

    pub(crate) fn write(&self, name: &str, text: &[u8], durable: bool) -> Result<(), StateError> {
        let path = self.dir.join(name);
        let fresh = self.write_new(&format!("{name}.new"), text, durable)?;
        fs::rename(&fresh, &path).map_err(StateError::io("replace", &path))?;
        if durable {
            File::open(&self.dir)
                .and_then(|dir| dir.sync_all())
                .map_err(StateError::io("write", &self.dir))?;
        }
        Ok(())
    }

    /// Makes a file that nobody reads yet; what was left there by a call that did not end is replaced.
    fn write_new(&self, name: &str, text: &[u8], durable: bool) -> Result<PathBuf, StateError> {
        let path = self.dir.join(name);
        remove_if_there(&path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(StateError::io("create", &path))?;
        file.write_all(text).map_err(StateError::io("write", &path))?;
        give_to_owner_of(&self.dir, &file).map_err(StateError::io("change the owner of", &path))?;
        if durable {
            file.sync_all().map_err(StateError::io("write", &path))?;
        }
        Ok(path)
    }

    /// Removes volume files that neither the state nor the one before names. What stays is swept the next time.
    fn sweep(&self, before: Option<&State>, state: &State) {
        let named: BTreeSet<&str> = before
            .into_iter()
            .chain([state])
            .flat_map(|s| s.magazines.values())
            .filter_map(|r| r.volumes_file.as_deref())
            .collect();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str()
                && name.starts_with(VOLUMES)
                && !named.contains(name)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

enum Content<T> {
    Good(T),
    Missing,
    Bad(String),
}

/// A magazine's volumes as they could be read.
#[derive(Default)]
pub(crate) struct VolumeList {
    pub(crate) volumes: Volumes,
    /// The file is damaged or gone; the magazine has to be scanned.
    pub(crate) damaged: bool,
}

impl Versioned for State {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Drives {
    fn version(&self) -> u32 {
        self.version
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads a state file. That a newer program wrote it is told before anything else: what it means is not known here, and
/// it must not be taken for damaged and replaced.
fn read_json<T: Versioned>(
    path: &Path,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Content<T>, StateError> {
    let bytes = match read_file(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
        Err(error) => return Err(StateError::io("read", path)(error)),
    };
    let read = serde_json::from_slice::<T>(&bytes).map_err(|error| error.to_string());
    let version = match &read {
        Ok(value) => value.version(),
        Err(_) => serde_json::from_slice(&bytes).map_or(VERSION, |VersionOnly { version }| version),
    };
    if version > VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found: version });
    }
    let checked = read.and_then(|value| match check(&value) {
        Ok(()) if version == VERSION => Ok(value),
        Ok(()) => Err(format!("version {version}")),
        Err(reason) => Err(reason),
    });
    Ok(checked.map_or_else(Content::Bad, Content::Good))
}

/// The rows of a list of volumes that can be read, each by itself.
fn readable_rows(path: &Path) -> Volumes {
    let text = read_file(path).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(row).map(Row::into_volume).collect()
}

/// Reads a file of the work directory whole, unless it is too large to be one of ours.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // the directory is another user's where root only asks: nothing is followed or waited for
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    // not by its size, which may grow meanwhile
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let reason = format!("it is larger than {} MiB", LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// Maximum of what only counts up, which no changer ever comes near.
const HIGHEST_COUNT: u64 = 1 << 53;

/// No slot may belong to two magazines, and none may lie above the highest one. No number may be one that makes an answer
/// endless or overflows when it is counted up.
pub(crate) fn check_state(state: &State) -> Result<(), String> {
    let too_many_slots = match state.manner {
        Manner::ByVolume => state.highest_slot > HIGHEST,
        Manner::ByBay { bays, slots_per_magazine } => {
            bays > BayLayout::MOST_BAYS || slots_per_magazine > BayLayout::MOST_SLOTS
        }
    };
    if too_many_slots {
        return Err("it has more slots than any library".to_owned());
    }
    let revisions = state.magazines.values().flat_map(|record| [Some(record.revision), record.told]);
    if revisions.flatten().chain([state.serial]).any(|count| count > HIGHEST_COUNT) {
        return Err("it counts higher than any changer".to_owned());
    }
    if state.manner != Manner::ByVolume {
        return Ok(());
    }
    let mut ranges: Vec<(u32, u32)> = state.magazines.values().flat_map(|r| r.places.ranges()).collect();
    ranges.sort_unstable();
    let mut before = 0;
    for (first, last) in ranges {
        if first <= before {
            return Err(format!("slot {first} belongs to two magazines"));
        }
        before = last;
    }
    if before > state.highest_slot {
        return Err(format!("slot {before} is above the highest slot {}", state.highest_slot));
    }
    Ok(())
}

/// `listall` shows every drive up to the highest one.
fn check_drives(drives: &Drives) -> Result<(), String> {
    let highest = drives.loaded.keys().copied().chain([drives.highest]).max();
    match highest.filter(|drive| drive.number() > DriveIndex::HIGHEST) {
        Some(drive) => Err(format!("there can be no drive {drive}")),
        None => Ok(()),
    }
}

/// Writes over a spare file in place and exchanges it for another, which is the spare one from then on.
fn exchange(spare: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(spare)?;
    file.write_all(text)?;
    let written = file.stream_position()?;
    file.set_len(written)?;
    Ok(renameat2(AT_FDCWD, spare, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE)?)
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
