//! Telling Bacula's catalog what is in the changer, outside every call that bacula-sd makes.
//!
//! What has to be told is not noted but computed, twice: the revision of each magazine's map against the revision the
//! catalog was last told, and what the catalog says of each volume's slot against the slot it is in. So nothing can get
//! lost between a change and its telling, whatever ends in between, and what others change in the catalog is mended. The
//! changer's lock is free while the console runs, for the Director has the storage daemon call the changer; a
//! second lock keeps two tellers apart.
//!
//! Volumes that leave are closed before their slots are taken away, and reopened after they have them back: at no
//! step is a volume open and away (see the modules `shelf` and `shelving`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::changer::opened::{Changer, ChangerError, consistently};
use crate::changer::scope::Scan;
use crate::changer::view::View;
use crate::director::console::limits::Limits;
use crate::director::console::{Console, ConsoleError, find_program, is_installed};
use crate::director::dialogue;
use crate::director::slots_in_catalog::{Misplaced, misplaced};
use crate::files::lock::{Lock, LockError};
use crate::library::identifiers::{MagazineId, VolumeName};
use crate::library::listed::Catalog;
use crate::library::model;
use crate::library::volumes_now::VolumesNow;
use crate::system::magazine::MagazineError;

/// Why `refresh` did not do all of its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The changer's own files are in the way.
    #[error(transparent)]
    Changer(#[from] ChangerError),
    /// Bacula was not told; the obligation stays until a later `refresh` succeeds.
    #[error("Bacula was not told of the changer's volumes and will be at the next refresh: {0}")]
    Console(#[from] ConsoleError),
    /// A magazine is plugged but cannot be used.
    #[error("magazine {id} is plugged but cannot be used")]
    Unusable {
        /// The magazine.
        id: MagazineId,
        /// Why.
        #[source]
        source: MagazineError,
    },
    /// A magazine has more entries than one scan looks at.
    #[error(
        "on magazine {id} {left} entries were not looked at yet; run refresh again, and move away what is no volume"
    )]
    Unfinished {
        /// The magazine.
        id: MagazineId,
        /// How many are left; of very many only the first are counted.
        left: usize,
    },
}

/// How often the catalog is told anew when the volumes change meanwhile.
const MOST_ROUNDS: usize = 3;

/// Maximum time that the Director is silent for each volume or empty slot of a command: it says nothing of the empty
/// ones, which took it 7 ms each in a catalog of 10,000.
const SILENT_VOLUME: Duration = Duration::from_millis(50);

/// The pauses between two looks at what the Director does after its console was cut off.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Changer {
    /// Looks at every magazine that is there, then tells Bacula what changed and mends what its catalog says of the
    /// slots; `force` looks also at the locked ones and tells Bacula even when nothing changed.
    ///
    /// # Errors
    /// [`RefreshError`]; what could not be told stays owed.
    pub fn refresh(&self, force: bool) -> Result<(), RefreshError> {
        self.refresh_and_tell(Telling { forced: force, ..self.telling() })
    }

    /// The same on the word of somebody who had the magazines that are here checked: what a write error left of them
    /// unusable though it is empty may be written again.
    pub(crate) fn refresh_checked(&self, force: bool) -> Result<(), RefreshError> {
        self.refresh_and_tell(Telling { forced: force, checked: true, ..self.telling() })
    }

    fn refresh_and_tell(&self, telling: Telling) -> Result<(), RefreshError> {
        let scan = if telling.forced { Scan::All } else { Scan::Mounted };
        let updated = self.update(scan)?;
        let told = self.tell_bacula(telling);
        if let Some((id, source)) = updated.unusable.into_iter().next() {
            told?;
            return Err(RefreshError::Unusable { id, source });
        }
        if let Some((id, left)) = updated.unfinished.into_iter().next() {
            told?;
            return Err(RefreshError::Unfinished { id, left });
        }
        told
    }

    /// The console, unless it is switched off or nobody asked for it and it is not installed.
    pub(crate) fn console(&self) -> Option<Console> {
        let setting = self.config.console()?;
        let program = find_program(&self.env, &setting.program);
        if !setting.explicit && !is_installed(&program) {
            return None;
        }
        Some(Console { program, config: setting.config.as_ref().map(|path| self.env.path(path)) })
    }

    /// Tells Bacula what it does not know yet, or has wrong.
    pub(crate) fn tell_bacula(&self, telling: Telling) -> Result<(), RefreshError> {
        let Some(console) = self.console() else { return Ok(()) };
        let _teller = Lock::take(&self.teller(), telling.patience).map_err(ChangerError::from)?;
        let owed = telling.forced || !self.debt(&self.look()?)?.is_none();
        let watched = !self.store.shelf().map_err(ChangerError::from)?.is_empty();
        if !owed && !watched && self.volumes_now()?.is_empty() {
            return Ok(());
        }
        // a storage daemon that can't be asked is asked again at the next refresh
        let _ = self.find_interrupted(&console);
        let mut told = Told::default();
        for round in 0..MOST_ROUNDS {
            let view = self.look()?;
            if round > 0 && (told.besides.is_err() || self.debt(&view)?.is_none()) {
                break;
            }
            let telling = Telling { forced: telling.forced && round == 0, ..telling };
            let now = self.tell_once(&console, &view, telling)?;
            told = Told { changed: told.changed || now.changed, ..now };
        }
        if owed || watched || told.changed {
            // the slots are told, whatever else failed; a job that could not be woken goes on at its next poll
            let _ = self.wake_waiting(&console, owed || told.changed);
        }
        told.besides
    }

    /// Tells Bacula of volumes that were just made, and of what else changed where it can be seen without harm.
    pub(crate) fn tell_of_new(&self) -> Result<(), RefreshError> {
        self.update(Scan::Changed)?;
        self.tell_bacula(self.telling())
    }

    /// All that there is to tell.
    pub(crate) fn telling(&self) -> Telling {
        Telling { forced: false, label: true, checked: false, patience: self.env.lock_limit }
    }

    /// What a teller holds.
    fn teller(&self) -> PathBuf {
        self.store.dir().join("console.lock")
    }

    /// Whether somebody tells Bacula just now.
    pub(crate) fn is_being_told(&self) -> Result<bool, ChangerError> {
        self.store.create_dir()?;
        match Lock::take(&self.teller(), Duration::ZERO) {
            Ok(_) => Ok(false),
            Err(LockError::Busy { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Fails where the slots could not be told; within, what could not be done besides.
    fn tell_once(&self, console: &Console, view: &View, telling: Telling) -> Result<Told, RefreshError> {
        let debt = self.debt(view)?;
        let now = self.volumes_now()?;
        let (closed, mut besides) = match self.close_absent(console, &now) {
            Ok(closed) => (Some(closed), Ok(())),
            // a console that may not list volumes may still update the slots
            Err(error @ RefreshError::Console(ConsoleError::Unconfirmed { .. })) => (None, Err(error)),
            Err(error) => return Err(error),
        };
        let (mut catalog, mut back) = (None, BTreeMap::new());
        if let Some(closed) = closed {
            (catalog, back, besides) = (Some(closed.catalog), closed.back, closed.besides);
        }
        let wrong = catalog.as_ref().map(|catalog| misplaced(catalog, &now)).unwrap_or_default();
        let changed = telling.forced || !debt.is_none() || !wrong.is_empty();
        if changed {
            self.tell_slots(console, catalog.as_ref(), wrong.away, telling.forced)?;
        }
        if let Err(error) = self.reopen(console, back) {
            besides = besides.and(Err(error));
        }
        if besides.is_ok() {
            self.note_closed(view)?;
        }
        if changed {
            self.confirm(view)?;
        }
        let opened = match &catalog {
            Some(catalog) => self.open_failed(console, catalog, view, telling.checked),
            None => Ok(false),
        };
        let changed = changed || matches!(opened, Ok(true));
        besides = besides.and(opened.map(drop));
        if telling.label && !debt.blank.is_empty() {
            let labelled = self.label(console, &debt.blank);
            besides = besides.and(labelled);
        }
        Ok(Told { changed, besides })
    }

    /// Has the Director take over which volumes are in the changer. `catalog` is what it says of them now, where it
    /// could be read, and `away` which of them it believes to be in the changer.
    fn tell_slots(
        &self,
        console: &Console,
        catalog: Option<&Catalog>,
        mut away: BTreeSet<VolumeName>,
        forced: bool,
    ) -> Result<(), RefreshError> {
        let now = self.volumes_now()?;
        if now.shown.is_empty() {
            // `update slots` does nothing when there is no volume, so each one is said to have left
            let is_unknown = |name: &VolumeName| catalog.is_none_or(|catalog| !catalog.contains_key(name));
            away.extend(self.told_volumes()?.into_iter().filter(is_unknown));
            self.place(console, &Misplaced { away, ..Misplaced::default() })?;
        }
        if !now.shown.is_empty() || forced {
            self.update_slots(console, &now)?;
        }
        if catalog.is_none() {
            return Ok(());
        }
        let left = || -> Result<Misplaced, RefreshError> {
            let catalog = self.catalog(console)?;
            Ok(misplaced(&catalog, &self.volumes_now()?))
        };
        // of volumes that the changer's list doesn't have, `update slots` says nothing
        let more = left()?;
        if more.is_empty() {
            return Ok(());
        }
        self.place(console, &more)?;
        let still = left()?;
        match still.here.keys().chain(&still.away).next() {
            None => Ok(()),
            Some(name) => {
                let command = format!("update volume=\"{name}\" slot");
                Err(ConsoleError::Unconfirmed { command, output: String::new() }.into())
            }
        }
    }

    /// Tells of each volume where it is.
    fn place(&self, console: &Console, places: &Misplaced) -> Result<(), ConsoleError> {
        if places.is_empty() {
            return Ok(());
        }
        let mut commands = dialogue::out_of_changer(&places.away);
        commands.extend(dialogue::into_changer(&places.here));
        let output = console.run_all(&commands, "", |volumes| self.console_limit(volumes))?;
        if dialogue::volumes_were_updated(&output, places.len()) {
            return Ok(());
        }
        Err(unconfirmed("update volume", output))
    }

    fn update_slots(&self, console: &Console, now: &VolumesNow) -> Result<(), RefreshError> {
        let storage = self.config.storage();
        let script = dialogue::update_slots(storage);
        let slots = usize::try_from(model::total_slots(&self.look()?.state)).unwrap_or(usize::MAX);
        let limits = self.console_limit(slots.saturating_add(now.away.len()));
        match console.run(&script, limits) {
            Ok(output) => {
                // the storage daemon asks the changer, which may have seen some go
                let then = self.volumes_now()?;
                let stayed = now.shown.keys().filter(|name| then.shown.contains_key(*name));
                if dialogue::slots_were_updated(&output, storage, stayed) {
                    return Ok(());
                }
                Err(unconfirmed("update slots", output).into())
            }
            Err(cut @ ConsoleError::TimedOut { .. }) => self.await_slots(console, cut, limits.silence),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a Director that goes on updating the slots after its console was `cut` off, as long as its catalog
    /// shows it at work at least once in `patience`.
    fn await_slots(
        &self,
        console: &Console,
        cut: ConsoleError,
        patience: Duration,
    ) -> Result<(), RefreshError> {
        let left = || {
            let catalog = self.catalog(console).ok()?;
            Some(misplaced(&catalog, &self.volumes_now().ok()?).len())
        };
        if comes_to_an_end(left, patience) { Ok(()) } else { Err(cut.into()) }
    }

    /// The volumes as they are to the Director now.
    pub(crate) fn volumes_now(&self) -> Result<VolumesNow, ChangerError> {
        consistently(|| {
            let view = self.look()?;
            let mut now = VolumesNow::default();
            for (id, record) in &view.state.magazines {
                let volumes = self.store.volumes(id, record)?;
                let shown = model::shown_revision(&view.state, id, &view.present).is_some();
                for (place, volume) in volumes {
                    let slot = model::slot_of(view.state.manner, record, place).filter(|_| shown);
                    if !self.is_configured(id) {
                        now.released.insert(volume.name);
                    } else if let Some(slot) = slot {
                        now.shown.entry(volume.name).or_default().insert(slot);
                    } else {
                        now.away.insert(volume.name);
                    }
                }
                let departed = record.departed.iter().cloned();
                if self.is_configured(id) { now.away.extend(departed) } else { now.released.extend(departed) }
            }
            now.away.retain(|name| !now.shown.contains_key(name));
            now.released.retain(|name| !now.away.contains(name) && !now.shown.contains_key(name));
            Ok(now)
        })
    }

    pub(crate) fn is_configured(&self, id: &MagazineId) -> bool {
        self.settings.iter().any(|setting| setting.id == *id)
    }

    /// The limits of a conversation about so many volumes.
    pub(crate) fn console_limit(&self, volumes: usize) -> Limits {
        let volumes = u32::try_from(volumes).unwrap_or(u32::MAX);
        let limit = self.env.console_limit;
        Limits {
            silence: limit.saturating_add(SILENT_VOLUME.saturating_mul(volumes)),
            total: limit.saturating_add(self.env.console_limit_per_volume.saturating_mul(volumes)),
        }
    }

    /// What the catalog may believe to be in the changer.
    fn told_volumes(&self) -> Result<BTreeSet<VolumeName>, ChangerError> {
        consistently(|| {
            let view = self.look()?;
            let mut names = BTreeSet::new();
            for (id, record) in view.state.magazines.iter().filter(|(_, record)| record.told.is_some()) {
                names.extend(self.store.volumes(id, record)?.into_values().map(|v| v.name));
                names.extend(record.departed.iter().cloned());
            }
            Ok(names)
        })
    }

    /// Notes that the catalog knows what `view` showed.
    fn confirm(&self, view: &View) -> Result<(), ChangerError> {
        let _lock = self.lock()?;
        let before = self.store.state()?;
        let Some(mut state) = before.clone() else { return Ok(()) };
        for (id, record) in &mut state.magazines {
            record.told = model::shown_revision(&view.state, id, &view.present);
            if view.state.magazines.get(id).is_some_and(|then| then.revision == record.revision) {
                record.departed.clear();
            }
        }
        if before.as_ref() != Some(&state) {
            self.store.commit(before.as_ref(), &mut state, &BTreeMap::new())?;
        }
        Ok(())
    }
}

/// What is to be told, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling {
    /// Also when nothing changed.
    pub(crate) forced: bool,
    /// Blank volumes get their labels.
    pub(crate) label: bool,
    /// The magazines that are here were checked.
    pub(crate) checked: bool,
    /// How long to wait for another teller.
    pub(crate) patience: Duration,
}

/// What one telling did.
struct Told {
    /// The slots had to be told.
    changed: bool,
    /// What could not be done besides.
    besides: Result<(), RefreshError>,
}

impl Default for Told {
    fn default() -> Self {
        Self { changed: false, besides: Ok(()) }
    }
}

/// Waits until nothing is left, as long as something more is done at least once in `patience`; false when it ends
/// otherwise, or when nobody can tell what is left.
pub(crate) fn comes_to_an_end(left: impl Fn() -> Option<usize>, patience: Duration) -> bool {
    let (mut least, mut since) = (usize::MAX, Instant::now());
    let mut pause = PAUSES.0;
    loop {
        match left() {
            Some(0) => return true,
            Some(now) if now < least => (least, since) = (now, Instant::now()),
            Some(_) if since.elapsed() < patience => {}
            _ => return false,
        }
        thread::sleep(pause.min(patience));
        pause = (pause * 2).min(PAUSES.1);
    }
}

pub(crate) fn unconfirmed(command: &str, output: String) -> ConsoleError {
    ConsoleError::Unconfirmed { command: command.to_owned(), output }
}
