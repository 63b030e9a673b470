//! Empty volumes that a write error closed, and opening them again once their drive was checked.
//!
//! When a drive can't be written any more, the storage daemon closes the volume it is at as Full, though nothing but the
//! label may be on it, and tries others on the same drive. Each that it can't begin gets the status Error, up to five in
//! one job, and nobody writes to it ever again: each fault of a drive makes the pool smaller. They are empty, so nothing
//! is lost by opening them.

use std::collections::{BTreeMap, BTreeSet};

use super::refresh::{RefreshError, unconfirmed};
use crate::changer::opened::{Changer, ChangerError, consistently};
use crate::changer::view::View;
use crate::director::console::Console;
use crate::director::dialogue;
use crate::library::closed_volumes::Open;
use crate::library::identifiers::{MagazineId, VolumeName};
use crate::library::listed::{Catalog, Listed};
use crate::library::notice::{Notice, some_of};
use crate::system::marker::read_checked;

/// The statuses of volumes after a write error.
const FAILED: [&str; 2] = ["Error", "Full"];

/// Maximum size of a volume that holds a label and nothing else, in bytes.
const MOST_LABEL: u64 = 1024;

impl Listed {
    /// Whether a volume was given up before anything was written to it.
    fn is_failed_and_empty(&self) -> bool {
        FAILED.contains(&&*self.status) && self.bytes.is_some_and(|bytes| bytes <= MOST_LABEL)
    }
}

impl Changer {
    /// Notes which empty volumes a write error closed, and opens those whose magazine was checked since they were opened last,
    /// or all that are here where everything was `checked`. Returns whether some were opened. Whoever calls this holds
    /// the teller's lock.
    pub(crate) fn open_failed(
        &self,
        console: &Console,
        catalog: &Catalog,
        view: &View,
        checked: bool,
    ) -> Result<bool, RefreshError> {
        let before = self.store.shelf().map_err(ChangerError::from)?;
        let mut kept = before.clone();
        let is_failed = |name: &VolumeName| catalog.get(name).is_some_and(Listed::is_failed_and_empty);
        // not by `view`, which may name lists that were replaced meanwhile
        let by_magazine = consistently(|| self.by_magazine(&self.look()?, is_failed))?;
        let mut failed: BTreeSet<VolumeName> = by_magazine.values().flatten().cloned().collect();
        let (mut work, mut checks) = (BTreeSet::new(), Vec::new());
        for id in view.present.iter().filter(|id| self.is_configured(id)) {
            let mark = id.uuid().and_then(|uuid| read_checked(&self.env.root, uuid));
            if checked || mark.as_ref().is_some_and(|mark| !kept.was_opened_after(id, mark)) {
                checks.extend(mark.map(|mark| (id.clone(), mark)));
                work.extend(by_magazine.get(id).into_iter().flatten().cloned());
            }
        }
        let mut opened = Ok(!work.is_empty());
        if !work.is_empty() {
            let commands = dialogue::set_statuses(work.iter().map(|name| (name, Open::Append.as_str())));
            let (now, _) = self.listed(console, &commands)?;
            failed.retain(|name| now.get(name).is_some_and(Listed::is_failed_and_empty));
            if let Some(name) = work.intersection(&failed).next() {
                let command = format!("update volume=\"{name}\" volstatus=Append");
                opened = Err(unconfirmed(&command, String::new()).into());
            }
        }
        if opened.is_ok() {
            // what fails from now on waits for the next check
            kept.note_opened(checks);
        }
        kept.note_failed(failed);
        if kept != before {
            self.store.write_shelf(&kept).map_err(ChangerError::from)?;
        }
        opened
    }

    /// The volumes that are given up though they are empty, as far as the last refresh saw.
    pub(crate) fn failed_volumes(&self, view: &View) -> Result<Vec<Notice>, ChangerError> {
        let kept = self.store.shelf()?;
        if kept.failed().is_empty() {
            return Ok(Vec::new());
        }
        let notice = |(id, names): (MagazineId, BTreeSet<VolumeName>)| {
            Notice {
            message: format!(
                "{} empty volume(s) are closed because a write to them failed: {}",
                names.len(),
                some_of(names.iter().map(VolumeName::as_str))
            ),
            remedy: "check its filesystem, and whether it has room; they are opened again after its next check, or \
 by `vchanger CONFIG refresh --checked`"
.to_owned(),
            magazine: Some(id.to_string()),
        }
        };
        Ok(self.by_magazine(view, |name| kept.failed().contains(name))?.into_iter().map(notice).collect())
    }

    /// The volumes of the configuration's magazines that are `wanted`.
    fn by_magazine(
        &self,
        view: &View,
        wanted: impl Fn(&VolumeName) -> bool,
    ) -> Result<BTreeMap<MagazineId, BTreeSet<VolumeName>>, ChangerError> {
        let mut found: BTreeMap<MagazineId, BTreeSet<VolumeName>> = BTreeMap::new();
        for (id, record) in view.state.magazines.iter().filter(|(id, _)| self.is_configured(id)) {
            let names = self.store.volumes(id, record)?.into_values().map(|volume| volume.name);
            let names: BTreeSet<VolumeName> = names.filter(&wanted).collect();
            if !names.is_empty() {
                found.insert(id.clone(), names);
            }
        }
        Ok(found)
    }
}
