//! Having the Director label blank volumes.

use std::collections::{BTreeMap, BTreeSet};

use super::refresh::{RefreshError, comes_to_an_end};
use crate::changer::opened::{Changer, ChangerError, consistently};
use crate::changer::scope::Scan;
use crate::director::console::{Console, ConsoleError};
use crate::director::dialogue;
use crate::library::identifiers::{MagazineId, VolumeName};
use crate::library::model;
use crate::library::slot_set::Places;
use crate::library::state::Volumes;

/// Maximum number of volumes in one label command: what a cut costs, and how often the changer's list is read.
const PORTION: u32 = 100;

/// The slots of volumes without a label, by the pool they are meant for.
type Unlabelled = BTreeMap<String, Places>;

impl Changer {
    /// Has the Director label the blank volumes of magazines, and looks into their files whether it did.
    pub(crate) fn label(&self, console: &Console, ids: &[MagazineId]) -> Result<(), RefreshError> {
        let wanted = consistently(|| self.unlabelled(ids))?;
        let mut said = String::new();
        let portions =
            wanted.iter().flat_map(|(pool, slots)| slots.parts(PORTION).into_iter().map(move |s| (pool, s)));
        for (pool, slots) in portions {
            let script = dialogue::label(self.config.storage(), pool, &slots);
            let limits = self.console_limit(usize::try_from(slots.len()).unwrap_or(usize::MAX));
            let error = match console.run(&script, limits) {
                Ok(output) => {
                    self.note_refusals(ids, &dialogue::refused_labels(&output))?;
                    said = output;
                    continue;
                }
                Err(error) => error,
            };
            said = error.to_string();
            let ConsoleError::TimedOut { output, .. } = error else { break };
            self.note_refusals(ids, &dialogue::refused_labels(&output))?;
            // the Director is at it still, and another label command would get in its way
            if !comes_to_an_end(|| self.count_left(ids, pool, &slots).ok(), limits.silence) {
                break;
            }
        }
        self.update(Scan::Only(ids))?;
        let left = consistently(|| self.unlabelled(ids))?;
        let count: u32 = left.values().map(Places::len).sum();
        match left.values().next().and_then(Places::lowest) {
            None => Ok(()),
            Some(slot) => Err(ConsoleError::Unlabelled {
                count: usize::try_from(count).unwrap_or(usize::MAX),
                first: format!("in slot {slot}"),
                output: said,
            }
            .into()),
        }
    }

    /// How many volumes in some slots have no label yet.
    fn count_left(&self, ids: &[MagazineId], pool: &str, slots: &Places) -> Result<usize, ChangerError> {
        self.update(Scan::Only(ids))?;
        let left = consistently(|| self.unlabelled(ids))?;
        Ok(left.get(pool).map_or(0, |left| left.iter().filter(|slot| slots.contains(*slot)).count()))
    }

    fn unlabelled(&self, ids: &[MagazineId]) -> Result<Unlabelled, ChangerError> {
        let view = self.look()?;
        let mut wanted = Unlabelled::new();
        for id in ids.iter().filter(|id| view.present.contains(*id)) {
            let Some(record) = view.state.magazines.get(id) else { continue };
            for (place, volume) in self.store.volumes(id, record)? {
                if !volume.blank || volume.refused {
                    continue;
                }
                if let Some(slot) = model::slot_of(view.state.manner, record, place) {
                    let pool = volume.pool.unwrap_or_else(|| self.config.pool().to_owned());
                    wanted.entry(pool).or_default().insert(slot.number());
                }
            }
        }
        Ok(wanted)
    }

    /// A volume the catalog has already is not labelled by the Director, and asking again changes nothing.
    fn note_refusals(&self, ids: &[MagazineId], names: &BTreeSet<VolumeName>) -> Result<(), ChangerError> {
        if names.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let before = self.store.state()?;
        let Some(mut state) = before.clone() else { return Ok(()) };
        let mut changed: BTreeMap<MagazineId, Volumes> = BTreeMap::new();
        for id in ids {
            let Some(record) = state.magazines.get_mut(id) else { continue };
            let mut volumes = self.store.volumes(id, record)?;
            for volume in volumes.values_mut().filter(|v| v.blank && names.contains(&v.name)) {
                volume.refused = true;
            }
            let left = volumes.values().filter(|v| v.blank && !v.refused).count();
            record.blank = u32::try_from(left).unwrap_or(u32::MAX);
            changed.insert(id.clone(), volumes);
        }
        self.store.commit(before.as_ref(), &mut state, &changed)?;
        Ok(())
    }
}
