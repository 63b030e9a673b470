//! Closing volumes in the catalog when their magazine leaves, and giving them back what they were when it returns.

use std::collections::{BTreeMap, BTreeSet};

use super::refresh::{RefreshError, unconfirmed};
use crate::changer::opened::{Changer, ChangerError};
use crate::changer::view::View;
use crate::director::console::{Console, ConsoleError};
use crate::director::{dialogue, slots_in_catalog};
use crate::library::closed_volumes::{CLOSED, Open};
use crate::library::identifiers::VolumeName;
use crate::library::listed::Catalog;
use crate::library::model::{self, Debt};
use crate::library::volumes_now::VolumesNow;

/// Volumes that are back and still closed, with what they were.
pub(crate) type Returned = BTreeMap<VolumeName, Open>;

/// What closing came to.
pub(crate) struct Closed {
    /// What the catalog says now.
    pub(crate) catalog: Catalog,
    pub(crate) back: Returned,
    /// A volume that the Director didn't close.
    pub(crate) besides: Result<(), RefreshError>,
}

impl Changer {
    /// Compares what Bacula was told with what is there: slots, labels, and volumes that are away.
    pub(crate) fn debt(&self, view: &View) -> Result<Debt, ChangerError> {
        let mut debt = model::debt(&view.state, &view.present);
        let kept = self.store.shelf()?;
        for (id, record) in &view.state.magazines {
            let in_step = match model::shown_revision(&view.state, id, &view.present) {
                Some(_) => !kept.holds(id),
                None if !self.is_configured(id) => !kept.holds(id),
                None => record.places.is_empty() || kept.has(id, record.revision),
            };
            if !in_step && !debt.changed.contains(id) {
                debt.changed.push(id.clone());
            }
        }
        Ok(debt)
    }

    /// Closes in the catalog what is away. Whoever calls this holds the teller's lock.
    ///
    /// # Errors
    /// The catalog can't be read, or what it says can't be noted.
    pub(crate) fn close_absent(&self, console: &Console, now: &VolumesNow) -> Result<Closed, RefreshError> {
        let mut catalog = self.catalog(console)?;
        let before = self.store.shelf().map_err(ChangerError::from)?;
        let mut kept = before.clone();
        let work = kept.plan(&catalog, &now.away, &now.open());
        // noted first: what the catalog says is lost once it is closed
        if kept != before {
            self.store.write_shelf(&kept).map_err(ChangerError::from)?;
        }
        let mut besides = Ok(());
        if !work.close.is_empty() {
            let commands = if now.shown.is_empty() {
                dialogue::close_out_of_changer(&work.close, CLOSED)
            } else {
                dialogue::set_statuses(work.close.iter().map(|name| (name, CLOSED)))
            };
            (catalog, _) = self.listed(console, &commands)?;
            if let Some(name) = work.still_open(&catalog).next() {
                besides = Err(unset(name, CLOSED).into());
            }
        }
        Ok(Closed { catalog, back: work.reopen, besides })
    }

    /// Gives volumes back their status, as far as they are still here.
    pub(crate) fn reopen(&self, console: &Console, mut back: Returned) -> Result<(), RefreshError> {
        let open = self.volumes_now()?.open();
        back.retain(|name, _| open.contains(name));
        if back.is_empty() {
            return Ok(());
        }
        let commands = dialogue::set_statuses(back.iter().map(|(name, open)| (name, open.as_str())));
        let (catalog, unknown) = self.listed(console, &commands)?;
        let is_closed = |name: &VolumeName| catalog.get(name).is_some_and(|volume| volume.status == CLOSED);
        let is_done = |name: &VolumeName| {
            catalog.get(name).map_or(unknown.contains(name), |volume| volume.status != CLOSED)
        };
        let mut kept = self.store.shelf().map_err(ChangerError::from)?;
        kept.reopened(back.keys().filter(|name| is_done(name)));
        self.store.write_shelf(&kept).map_err(ChangerError::from)?;
        match back.iter().find(|(name, _)| is_closed(name)) {
            Some((name, open)) => Err(unset(name, open.as_str()).into()),
            None => Ok(()),
        }
    }

    /// Notes that the volumes of all magazines that `view` shows to be away are closed.
    pub(crate) fn note_closed(&self, view: &View) -> Result<(), ChangerError> {
        let away = view.state.magazines.iter().filter(|(id, record)| {
            let may_be_shown = self.is_configured(id) && !record.places.is_empty();
            may_be_shown && model::shown_revision(&view.state, id, &view.present).is_none()
        });
        let before = self.store.shelf()?;
        let mut kept = before.clone();
        kept.note_magazines(away.map(|(id, record)| (id.clone(), record.revision)).collect());
        if kept != before {
            self.store.write_shelf(&kept)?;
        }
        Ok(())
    }

    /// What the catalog says of all volumes.
    pub(crate) fn catalog(&self, console: &Console) -> Result<Catalog, ConsoleError> {
        Ok(self.listed(console, &[])?.0)
    }

    /// What the catalog says after commands about a volume each, and which of their volumes it does not have.
    pub(crate) fn listed(
        &self,
        console: &Console,
        commands: &[String],
    ) -> Result<(Catalog, BTreeSet<VolumeName>), ConsoleError> {
        let limits = |volumes| self.console_limit(volumes);
        let output = console.run_all(commands, &dialogue::list_volumes(), limits)?;
        match slots_in_catalog::catalog(&output) {
            Some(catalog) => Ok((catalog, dialogue::unknown_volumes(&output))),
            None => Err(unconfirmed("list volumes", output)),
        }
    }
}

impl VolumesNow {
    /// The volumes that are not to be closed.
    fn open(&self) -> BTreeSet<VolumeName> {
        self.shown.keys().chain(&self.released).cloned().collect()
    }
}

fn unset(name: &VolumeName, status: &str) -> ConsoleError {
    ConsoleError::Unconfirmed {
        command: format!("update volume=\"{name}\" volstatus={status}"),
        output: String::new(),
    }
}
