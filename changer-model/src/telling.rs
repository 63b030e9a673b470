//! Telling Bacula's catalog what is in the changer, outside every call that bacula-sd makes.
//!
//! What has to be told is not noted but computed: the revision of each magazine's map against the revision the
//! catalog was last told. So nothing can get lost between a change and its telling, whatever ends in between. The
//! changer's lock is free while the console runs, for the Director has the storage daemon call the changer; a
//! second lock keeps two tellers apart.
//!
//! Volumes that leave are closed before their slots are taken away, and reopened after they have them back: at no
//! step is a volume open and away (see the modules `shelf` and `shelving`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::changer::{Changer, ChangerError, View, consistently};
use crate::console::{Console, ConsoleError, Limits, is_installed};
use crate::dialogue;
use crate::identifiers::{MagazineId, VolumeName};
use crate::lock::Lock;
use crate::magazine::MagazineError;
use crate::model::{self, Debt};
use crate::survey::Scan;

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

/// The volumes by what the Director has to know of them.
#[derive(Default)]
pub(crate) struct VolumesNow {
    /// It must find them in the changer's list.
    pub(crate) shown: BTreeSet<VolumeName>,
    /// They are to be closed.
    pub(crate) away: BTreeSet<VolumeName>,
    /// Their magazines left the configuration: they are none of our business, and not to be left closed.
    pub(crate) released: BTreeSet<VolumeName>,
}

/// Maximum time that the Director is silent for each volume or empty slot of a command: it says nothing of the empty
/// ones, which took it 7 ms each in a catalog of 10,000.
const SILENT_VOLUME: Duration = Duration::from_millis(50);

/// How often the catalog is told anew when the volumes change meanwhile.
const MOST_ROUNDS: usize = 3;

impl Changer {
    /// Looks at every magazine that is there, then tells Bacula what changed; `force` looks also at the locked
    /// ones and tells Bacula even when nothing changed.
    ///
    /// # Errors
    /// [`RefreshError`]; what could not be told stays owed.
    pub fn refresh(&self, force: bool) -> Result<(), RefreshError> {
        let scan = if force { Scan::All } else { Scan::Mounted };
        let updated = self.update(scan)?;
        let told = self.tell_bacula(force);
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
        let program = self.env.path(&setting.program);
        if !setting.explicit && !is_installed(&program) {
            return None;
        }
        Some(Console { program, config: setting.config.as_ref().map(|path| self.env.path(path)) })
    }

    /// Tells Bacula what it does not know yet.
    pub(crate) fn tell_bacula(&self, force: bool) -> Result<(), RefreshError> {
        let Some(console) = self.console() else { return Ok(()) };
        let owed = force || !self.debt(&self.look()?)?.is_none();
        if !owed && self.store.shelf().map_err(ChangerError::from)?.is_empty() {
            return Ok(());
        }
        let path = self.store.dir().join("console.lock");
        let _teller = Lock::take(&path, self.env.lock_limit).map_err(ChangerError::from)?;
        let mut outcome = Ok(());
        if !owed {
            // volumes are away: what somebody opened meanwhile, or a job that was under way, is closed again
            let closed = self.close_absent(&console, &self.volumes_now()?);
            outcome = closed.and_then(|back| self.reopen(&console, back));
        }
        let mut forced = force;
        for _ in 0..MOST_ROUNDS {
            let view = self.look()?;
            if outcome.is_err() || (self.debt(&view)?.is_none() && !forced) {
                break;
            }
            outcome = self.tell_once(&console, &view, forced)?;
            forced = false;
        }
        // the slots are told, whatever else failed; a job that could not be woken goes on at its next poll
        let _ = self.wake_waiting(&console, owed);
        outcome
    }

    /// Fails where the slots could not be told; within, what could not be done besides.
    fn tell_once(
        &self,
        console: &Console,
        view: &View,
        forced: bool,
    ) -> Result<Result<(), RefreshError>, RefreshError> {
        let debt = self.debt(view)?;
        let closed = self.close_absent(console, &self.volumes_now()?);
        // a console that may not list volumes may still update the slots
        if let Err(error) = &closed
            && !matches!(error, RefreshError::Console(ConsoleError::Unconfirmed { .. }))
        {
            return closed.map(|_| Ok(()));
        }
        self.tell_slots(console, &debt, forced)?;
        let shelved = closed.and_then(|back| self.reopen(console, back));
        if shelved.is_ok() {
            self.note_closed(view)?;
        }
        self.confirm(view)?;
        let labelled = if debt.blank.is_empty() { Ok(()) } else { self.label(console, &debt.blank) };
        Ok(shelved.and(labelled))
    }

    fn tell_slots(&self, console: &Console, debt: &Debt, forced: bool) -> Result<(), RefreshError> {
        if debt.empty {
            // `update slots` does nothing when there is no volume, so each one is said to have left
            let gone = self.told_volumes()?;
            if !gone.is_empty() {
                let output = console.run(&dialogue::out_of_changer(&gone), self.console_limit(gone.len()))?;
                if !dialogue::volumes_were_updated(&output, &gone) {
                    return Err(unconfirmed("update volume", output).into());
                }
            }
        }
        if !debt.empty || forced {
            let shown = self.volumes_now()?.shown;
            let script = dialogue::update_slots(self.config.storage());
            let slots = usize::try_from(model::total_slots(&self.look()?.state)).unwrap_or(usize::MAX);
            let output = console.run(&script, self.console_limit(slots))?;
            if !dialogue::slots_were_updated(&output, self.config.storage(), &shown) {
                return Err(unconfirmed(&script, output).into());
            }
        }
        Ok(())
    }

    /// The volumes as they are to the Director now.
    pub(crate) fn volumes_now(&self) -> Result<VolumesNow, ChangerError> {
        consistently(|| {
            let view = self.look()?;
            let mut now = VolumesNow::default();
            for (id, record) in &view.state.magazines {
                let names = self.store.volumes(id, record)?.into_values().map(|v| v.name);
                if !self.is_configured(id) {
                    now.released.extend(names.chain(record.departed.iter().cloned()));
                } else if model::shown_revision(&view.state, id, &view.present).is_some() {
                    now.shown.extend(names);
                } else {
                    now.away.extend(names);
                }
                if self.is_configured(id) {
                    now.away.extend(record.departed.iter().cloned());
                }
            }
            now.away.retain(|name| !now.shown.contains(name));
            now.released.retain(|name| !now.away.contains(name));
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

fn unconfirmed(command: &str, output: String) -> ConsoleError {
    ConsoleError::Unconfirmed { command: command.trim_end().to_owned(), output }
}
