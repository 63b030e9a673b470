//! The library as arithmetic: functions from what is remembered and what is plugged to answers and a new memory.
//!
//! Nothing here touches the system. Slots are given so that a volume keeps its slot while its magazine is away
//! and when it returns, whatever came in between, and so that the number of slots never falls.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::identifiers::{DriveIndex, MagazineId, Slot, VolumeName};
use super::slot_set::{FreePlaces, HIGHEST, Places};
use super::state::{Drives, FEWEST_SLOTS, FileStamp, MagazineRecord, Manner, State, Volume, Volumes};

/// A volume's file as a scan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) file: String,
    /// The label inside; for a blank file its own name.
    pub(crate) name: VolumeName,
    pub(crate) blank: bool,
    pub(crate) stamp: Option<FileStamp>,
}

impl Found {
    /// The least counts, of files that carry one label.
    pub(crate) fn rank(&self) -> (bool, bool, String) {
        (self.blank, self.file != self.name.as_str(), self.file.clone())
    }
}

/// A magazine that was scanned: what was known of its volumes, and what is there.
pub(crate) struct Scanned<'a> {
    pub(crate) id: &'a MagazineId,
    pub(crate) volumes: &'a mut Volumes,
    pub(crate) found: Vec<Found>,
}

/// Why a load is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadRefusal {
    /// There is no such slot.
    #[error("there is no slot {slot}; the library has {slots} slots")]
    NoSuchSlot {
        /// The slot.
        slot: Slot,
        /// How many there are.
        slots: u32,
    },
    /// The slot has no volume now.
    #[error("slot {slot} is empty{}", away.as_ref().map(|m| format!("; its magazine {m} is away, plug it in")).unwrap_or_default())]
    EmptySlot {
        /// The slot.
        slot: Slot,
        /// The magazine whose volume belongs there.
        away: Option<MagazineId>,
    },
    /// The drive holds another volume.
    #[error("drive {drive} holds slot {holds}; unload it before slot {slot} is loaded")]
    DriveFull {
        /// The drive.
        drive: DriveIndex,
        /// The slot it holds.
        holds: Slot,
        /// The slot asked for.
        slot: Slot,
    },
    /// The volume is in another drive.
    #[error("slot {slot} is in drive {holder}; unload it there before it is loaded in drive {drive}")]
    InOtherDrive {
        /// The slot.
        slot: Slot,
        /// The drive that holds it.
        holder: DriveIndex,
        /// The drive asked for.
        drive: DriveIndex,
    },
}

/// How many slots the library reports.
pub(crate) fn total_slots(state: &State) -> u32 {
    match state.manner {
        Manner::ByVolume => state.highest_slot.max(FEWEST_SLOTS),
        Manner::ByBay { bays, slots_per_magazine } => bays.saturating_mul(slots_per_magazine),
    }
}

/// The slot at which a magazine shows the volume at one of its places, if it shows it at all.
pub(crate) fn slot_of(manner: Manner, record: &MagazineRecord, place: u32) -> Option<Slot> {
    match manner {
        Manner::ByVolume => Slot::new(place),
        Manner::ByBay { slots_per_magazine, .. } => {
            Slot::new((record.bay?.checked_sub(1)?).checked_mul(slots_per_magazine)?.checked_add(place)?)
        }
    }
}

/// The place a slot means within a magazine, whether or not a volume is there.
pub(crate) fn place_of(manner: Manner, record: &MagazineRecord, slot: Slot) -> Option<u32> {
    match manner {
        Manner::ByVolume => Some(slot.number()),
        Manner::ByBay { slots_per_magazine, .. } => {
            let before = record.bay?.checked_sub(1)?.checked_mul(slots_per_magazine)?;
            slot.number().checked_sub(before).filter(|place| (1..=slots_per_magazine).contains(place))
        }
    }
}

/// Whose volume belongs in a slot: the present magazine's, or that of one that is away.
pub(crate) fn owner<'s>(
    state: &'s State,
    present: &BTreeSet<MagazineId>,
    slot: Slot,
) -> (Option<(&'s MagazineId, u32)>, Option<&'s MagazineId>) {
    let mut away = None;
    for (id, record) in &state.magazines {
        let Some(place) = place_of(state.manner, record, slot).filter(|p| record.places.contains(*p)) else {
            continue;
        };
        if present.contains(id) {
            return (Some((id, place)), None);
        }
        away = Some(id);
    }
    (None, away)
}

/// Decides whether a slot may go into a drive, where it may be already, and says whose volume it is.
pub(crate) fn check_load<'s>(
    state: &'s State,
    drives: &Drives,
    present: &BTreeSet<MagazineId>,
    slot: Slot,
    drive: DriveIndex,
) -> Result<(&'s MagazineId, u32), LoadRefusal> {
    let slots = total_slots(state);
    if slot.number() > slots {
        return Err(LoadRefusal::NoSuchSlot { slot, slots });
    }
    if let Some(loaded) = drives.loaded.get(&drive).filter(|loaded| loaded.slot != slot) {
        return Err(LoadRefusal::DriveFull { drive, holds: loaded.slot, slot });
    }
    if let Some(holder) = drives.holding(slot).filter(|holder| *holder != drive) {
        return Err(LoadRefusal::InOtherDrive { slot, holder, drive });
    }
    match owner(state, present, slot) {
        (Some(owner), _) => Ok(owner),
        (None, away) => Err(LoadRefusal::EmptySlot { slot, away: away.cloned() }),
    }
}

/// Takes over what scans found: volumes that are still there keep their places, those that moved between the
/// scanned magazines take their slots along, new ones get the lowest free places in the order of the scans and of
/// their names.
pub(crate) fn absorb(state: &mut State, scans: Vec<Scanned<'_>>) {
    let mut freed = Freed::default();
    let mut news = Vec::new();
    for scan in scans {
        let Scanned { id, volumes, found } = scan;
        let record = state.magazines.entry(id.clone()).or_default();
        if state.manner == Manner::ByVolume {
            freed.note_forgotten(id, record, volumes);
        }
        let found = freed.keep_found(record, volumes, by_name(found).0);
        news.push(Scanned { id, volumes, found });
    }
    place_new(state, news, freed);
}

/// Gives volumes that were just made their places.
pub(crate) fn add(state: &mut State, id: &MagazineId, volumes: &mut Volumes, found: Vec<Found>) {
    place_new(state, vec![Scanned { id, volumes, found }], Freed::default());
}

/// Places that volumes left in this look.
#[derive(Default)]
struct Freed {
    by_name: BTreeMap<VolumeName, BTreeSet<u32>>,
    /// Of magazines whose list of volumes was damaged: the places of the volumes that are no longer known.
    forgotten: BTreeMap<MagazineId, BTreeSet<u32>>,
    places: Places,
}

impl Freed {
    /// Reserves the places of which the damaged list of a magazine says nothing for what is found there.
    fn note_forgotten(&mut self, id: &MagazineId, record: &mut MagazineRecord, volumes: &Volumes) {
        let forgotten: BTreeSet<u32> =
            record.places.iter().filter(|place| !volumes.contains_key(place)).collect();
        if !forgotten.is_empty() {
            record.revision += 1;
            for place in &forgotten {
                self.places.insert(*place);
            }
            self.forgotten.insert(id.clone(), forgotten);
        }
    }

    /// Takes over the files of known volumes, drops the volumes whose files are gone, and returns the new ones.
    fn keep_found(
        &mut self,
        record: &mut MagazineRecord,
        volumes: &mut Volumes,
        mut found: BTreeMap<VolumeName, Found>,
    ) -> Vec<Found> {
        let mut gone = Vec::new();
        for (place, volume) in volumes.iter_mut() {
            match found.remove(&volume.name) {
                Some(now) => {
                    volume.refused &= now.blank && volume.blank;
                    volume.blank = now.blank;
                    volume.file = now.file;
                    volume.stamp = now.stamp;
                }
                None => gone.push(*place),
            }
        }
        record.revision += u64::from(!gone.is_empty());
        for place in gone {
            if let Some(volume) = volumes.remove(&place) {
                self.by_name.entry(volume.name.clone()).or_default().insert(place);
                self.places.insert(place);
                if record.told.is_some() {
                    record.departed.insert(volume.name);
                }
            }
        }
        record.places = volumes.keys().copied().collect();
        found.into_values().collect()
    }
}

fn place_new(state: &mut State, news: Vec<Scanned<'_>>, mut freed: Freed) {
    let manner = state.manner;
    // a place that was just freed gets no other volume yet, so that no call loads what its caller did not mean
    let taken = state.magazines.values().map(|record| &record.places).chain([&freed.places]);
    let mut library = FreePlaces::beside(taken);
    for Scanned { id, volumes, mut found } in news {
        let record = state.magazines.entry(id.clone()).or_default();
        let mut bay = FreePlaces::beside([&record.places, &freed.places]);
        let before = record.places.len();
        // in a bay the number in a name says where the volume belongs, as with vchanger 0.8; the others get what is left
        found.sort_by_key(|one| manner == Manner::ByVolume || one.name.numbers().is_none());
        for Found { file, name, blank, stamp } in found {
            let place = match manner {
                Manner::ByVolume => {
                    let left = freed.by_name.get_mut(&name).and_then(BTreeSet::pop_first);
                    let forgotten = || freed.forgotten.get_mut(id).and_then(BTreeSet::pop_first);
                    left.or_else(forgotten).unwrap_or_else(|| library.lowest())
                }
                Manner::ByBay { slots_per_magazine, .. } => {
                    let own = name.numbers().map(|(_, slot)| slot);
                    match own.filter(|slot| (1..=slots_per_magazine).contains(slot) && bay.take(*slot)) {
                        Some(own) => own,
                        None => in_full_bay(bay.lowest(), slots_per_magazine, record, &freed),
                    }
                }
            };
            if place > highest_place(manner) {
                break;
            }
            record.places.insert(place);
            record.departed.remove(&name);
            if manner == Manner::ByVolume {
                state.highest_slot = state.highest_slot.max(place);
            }
            volumes.insert(place, Volume { name, file, blank, refused: false, pool: None, stamp });
        }
        record.revision += u64::from(record.places.len() != before);
        let blank = volumes.values().filter(|volume| volume.blank && !volume.refused).count();
        record.blank = u32::try_from(blank).unwrap_or(u32::MAX);
    }
}

/// A full bay has no other place for what took a volume's place.
fn in_full_bay(lowest: u32, slots_per_magazine: u32, record: &MagazineRecord, freed: &Freed) -> u32 {
    let again = || freed.places.iter().find(|place| !record.places.contains(*place));
    if lowest > slots_per_magazine { again().unwrap_or(lowest) } else { lowest }
}

fn highest_place(manner: Manner) -> u32 {
    match manner {
        Manner::ByVolume => HIGHEST,
        Manner::ByBay { slots_per_magazine, .. } => slots_per_magazine,
    }
}

/// Of files that carry one label, the one that bears its name counts, or else the first by name. Returns those that
/// count, and the others.
pub(crate) fn by_name<F: Borrow<Found>>(
    found: impl IntoIterator<Item = F>,
) -> (BTreeMap<VolumeName, F>, Vec<F>) {
    let (mut chosen, mut others) = (BTreeMap::<VolumeName, F>::new(), Vec::new());
    for one in found {
        match chosen.get(&one.borrow().name) {
            Some(other) if other.borrow().rank() <= one.borrow().rank() => others.push(one),
            _ => others.extend(chosen.insert(one.borrow().name.clone(), one)),
        }
    }
    (chosen, others)
}

/// Gives present magazines bays in the order of the configuration; one that is away loses its bay only when
/// another needs it. Returns whether anything changed.
pub(crate) fn settle_bays(state: &mut State, order: &[MagazineId], present: &BTreeSet<MagazineId>) -> bool {
    let Manner::ByBay { bays, .. } = state.manner else { return false };
    let mut changed = false;
    let mut owners: BTreeMap<u32, MagazineId> = BTreeMap::new();
    // those that stand in a bay stay; of two that remember one bay, the present one, then the first has it
    for wanted_present in [true, false] {
        for (id, record) in &mut state.magazines {
            if present.contains(id) != wanted_present {
                continue;
            }
            let Some(bay) = record.bay else { continue };
            if bay > bays || owners.contains_key(&bay) || !order.contains(id) {
                record.bay = None;
                record.revision += 1;
                changed = true;
            } else {
                owners.insert(bay, id.clone());
            }
        }
    }
    for id in order.iter().filter(|id| present.contains(*id)) {
        if state.magazines.get(id).is_some_and(|r| r.bay.is_some()) {
            continue;
        }
        let free = (1..=bays).find(|bay| !owners.contains_key(bay));
        let bay = free.or_else(|| (1..=bays).find(|b| owners.get(b).is_some_and(|o| !present.contains(o))));
        let Some(bay) = bay else { break };
        if let Some(record) = owners.get(&bay).and_then(|before| state.magazines.get_mut(before)) {
            record.bay = None;
        }
        owners.insert(bay, id.clone());
        let record = state.magazines.entry(id.clone()).or_default();
        record.bay = Some(bay);
        record.revision += 1;
        changed = true;
    }
    changed
}

/// What of a magazine Bacula ought to know: the revision it shows, or none when it shows nothing.
pub(crate) fn shown_revision(state: &State, id: &MagazineId, present: &BTreeSet<MagazineId>) -> Option<u64> {
    let record = state.magazines.get(id)?;
    let in_bay = matches!(state.manner, Manner::ByVolume) || record.bay.is_some();
    (present.contains(id) && in_bay && !record.places.is_empty()).then_some(record.revision)
}

/// What Bacula's catalog does not know yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debt {
    /// Magazines whose volumes came, changed, or left.
    pub(crate) changed: Vec<MagazineId>,
    /// Present magazines with volumes to label.
    pub(crate) blank: Vec<MagazineId>,
    /// No volume is in the changer at all.
    pub(crate) empty: bool,
}

impl Debt {
    pub(crate) fn is_none(&self) -> bool {
        self.changed.is_empty() && self.blank.is_empty()
    }
}

/// Compares what Bacula was told with what is there.
pub(crate) fn debt(state: &State, present: &BTreeSet<MagazineId>) -> Debt {
    let mut debt = Debt { empty: true, ..Debt::default() };
    for (id, record) in &state.magazines {
        let shown = shown_revision(state, id, present);
        debt.empty &= shown.is_none();
        if record.told != shown {
            debt.changed.push(id.clone());
        }
        if shown.is_some() && record.blank > 0 {
            debt.blank.push(id.clone());
        }
    }
    debt
}

/// Gives every volume a place when the configuration's generation changed: one that was shown in a bay keeps its
/// slot, the others get slots of their own, magazine by magazine.
pub(crate) fn change_manner(
    state: &mut State,
    manner: Manner,
    order: &[MagazineId],
    volumes: &mut BTreeMap<MagazineId, Volumes>,
) {
    let slots = total_slots(state);
    let before = std::mem::replace(&mut state.manner, manner);
    let standing = |id: &&MagazineId| state.magazines.get(*id).is_some_and(|record| record.bay.is_some());
    let configured = || order.iter().filter(|id| state.magazines.contains_key(*id));
    let others = state.magazines.keys().filter(|id| !order.contains(id));
    let first = configured().filter(standing);
    let then = configured().filter(|id| !standing(id)).chain(others);
    let ids: Vec<MagazineId> = first.chain(then).cloned().collect();
    let mut free = FreePlaces::beside([]);
    for id in ids {
        let Some(record) = state.magazines.get_mut(&id) else { continue };
        let old = volumes.remove(&id).unwrap_or_default();
        let mut new = Volumes::new();
        for (place, volume) in old {
            let shown = slot_of(before, record, place).filter(|_| before != Manner::ByVolume);
            let kept = shown.map(Slot::number).filter(|slot| manner == Manner::ByVolume && free.take(*slot));
            new.insert(kept.unwrap_or_else(|| free.lowest()), volume);
        }
        if let Manner::ByBay { .. } = manner {
            new = (1..=highest_place(manner)).zip(new.into_values()).collect();
        }
        record.bay = None;
        record.revision += 1;
        record.places = new.keys().copied().collect::<Places>();
        volumes.insert(id, new);
    }
    let highest = state.magazines.values().filter_map(|record| record.places.highest()).max();
    // Bacula was told of that many, and looks at no slot above
    state.highest_slot = if manner == Manner::ByVolume { highest.unwrap_or(0).max(slots) } else { 0 };
}

/// Gives magazines other names, which their records, slots and volumes go by from then on.
pub(crate) fn rename(
    state: &mut State,
    volumes: &mut BTreeMap<MagazineId, Volumes>,
    names: &[(MagazineId, MagazineId)],
) {
    for (old, new) in names.iter().filter(|(old, new)| old != new) {
        if let Some(record) = state.magazines.remove(old) {
            state.magazines.insert(new.clone(), record);
        }
        if let Some(known) = volumes.remove(old) {
            volumes.insert(new.clone(), known);
        }
    }
}
