//! The state on disk: `state.json`, one file of volumes for each magazine, and `drives.json`.
//!
//! A commit writes the changed volumes under new names, then renames the new `state.json` over the old one: that
//! rename is the commit. The state before it stays as `state.json.previous` with the files it names, and takes
//! over when the newer one turns out damaged. Whoever only asks reads without the lock.
//!
//! `drives.json` is replaced by rename too, but not forced to the disk: after a power cut no drive holds anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::identifiers::MagazineId;
use crate::shelf::Shelf;
use crate::state::{Drives, MagazineRecord, Manner, State, VERSION, Volumes};
use crate::volumes_file::{Row, VolumesFile, file_name_of, volumes_text};

const STATE: &str = "state.json";
const PREVIOUS: &str = "state.json.previous";
const DRIVES: &str = "drives.json";
const SHELF: &str = "shelf.json";
const VOLUMES: &str = "volumes-";

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
        let Some(name) = &record.volumes_file else { return Ok(Volumes::new()) };
        let path = self.dir.join(name);
        let check = |file: &VolumesFile| {
            if file.magazine == *id { Ok(()) } else { Err(format!("it is of magazine {}", file.magazine)) }
        };
        let file = match read_json::<VolumesFile>(&path, check)? {
            Content::Good(file) => file,
            Content::Missing => {
                return Err(StateError::Io {
                    action: "find",
                    path,
                    source: io::Error::from(io::ErrorKind::NotFound),
                });
            }
            Content::Bad(reason) => return self.older_volumes(id, record, &path, reason),
        };
        let volumes: Volumes = file.volumes.into_iter().map(Row::into_volume).collect();
        if !volumes.keys().copied().eq(record.places.iter()) {
            let reason = format!("its slots are not {}", record.places);
            return Err(StateError::Damaged { path, reason });
        }
        Ok(volumes)
    }

    /// The previous copy's list of a magazine's volumes, as far as it fits the places that are taken now.
    fn older_volumes(
        &self,
        id: &MagazineId,
        record: &MagazineRecord,
        path: &Path,
        reason: String,
    ) -> Result<Volumes, StateError> {
        let damaged = || StateError::Damaged { path: path.to_owned(), reason };
        let Content::Good(previous) = read_json::<State>(&self.dir.join(PREVIOUS), check_state)? else {
            return Err(damaged());
        };
        let Some(name) = previous.magazines.get(id).and_then(|r| r.volumes_file.clone()) else {
            return Err(damaged());
        };
        match read_json::<VolumesFile>(&self.dir.join(name), |_| Ok(()))? {
            Content::Good(file) if self.dir.join(record.volumes_file.clone().unwrap_or_default()) == path => {
                Ok(file
                    .volumes
                    .into_iter()
                    .map(Row::into_volume)
                    .filter(|(place, _)| record.places.contains(*place))
                    .collect())
            }
            _ => Err(damaged()),
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
                record.places = volumes.keys().copied().collect();
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
        match read_json::<Drives>(&self.dir.join(DRIVES), |_| Ok(()))? {
            Content::Good(drives) => Ok(drives),
            Content::Missing | Content::Bad(_) => Ok(Drives::new()),
        }
    }

    pub(crate) fn write_drives(&self, drives: &Drives) -> Result<(), StateError> {
        let mut text = serde_json::to_string_pretty(drives).map_err(|e| StateError::Io {
            action: "write",
            path: self.dir.join(DRIVES),
            source: e.into(),
        })?;
        text.push('\n');
        self.write(DRIVES, text.as_bytes(), false)
    }

    /// Reads which volumes are closed in Bacula's catalog; none before the first was.
    pub(crate) fn shelf(&self) -> Result<Shelf, StateError> {
        let path = self.dir.join(SHELF);
        match read_json::<Shelf>(&path, Shelf::check)? {
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

    fn keep_previous(&self, path: &Path, previous: &Path) -> Result<(), StateError> {
        let link = self.dir.join("state.json.link");
        remove_if_there(&link)?;
        if fs::hard_link(path, &link).is_ok() {
            return fs::rename(&link, previous).map_err(StateError::io("keep", previous));
        }
        let text = fs::read(path).map_err(StateError::io("read", path))?;
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

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn read_json<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Content<T>, StateError> {
    let mut bytes = Vec::new();
    // the directory is another user's where root only asks: nothing is followed or waited for
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let read = opened.and_then(|mut file| {
        if file.metadata()?.is_file() {
            file.read_to_end(&mut bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"))
        }
    });
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
        Err(error) => return Err(StateError::io("read", path)(error)),
    }
    match serde_json::from_slice::<T>(&bytes) {
        Ok(value) => Ok(match check(&value) {
            Ok(()) => Content::Good(value),
            Err(reason) => Content::Bad(reason),
        }),
        Err(error) => match serde_json::from_slice::<VersionOnly>(&bytes) {
            Ok(VersionOnly { version }) if version > VERSION => {
                Err(StateError::Newer { path: path.to_owned(), found: version })
            }
            _ => Ok(Content::Bad(error.to_string())),
        },
    }
}

/// No slot may belong to two magazines, and none may lie above the highest one.
fn check_state(state: &State) -> Result<(), String> {
    if state.version != VERSION {
        return Err(format!("version {}", state.version));
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

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What root makes in another user's directory belongs to that user, or the user's changer could not replace it.
pub(crate) fn give_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(dir)?;
    let now = file.metadata()?;
    if (owner.uid(), owner.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}
