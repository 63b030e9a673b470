//! The shelf: volumes that are away and are kept closed in Bacula's catalog, and what each was before.
//!
//! The Director's second choice, when it finds nothing in the changer, are volumes that are not: it waits for them,
//! prunes them, recycles them. Experiments with the real one (`tests/tests/root_catalog_truth.rs`) show what keeps it
//! from that and lets restores find them still: the status `Read-Only`, and no other attribute.
//!
//! What was is noted before the catalog is touched and forgotten after it was put back, so that each step may be
//! repeated: a volume is closed by us if, and only if, it is noted here and the catalog says `Read-Only`. Whatever
//! else the catalog says of a volume somebody set meanwhile, and that is what comes back with its drive.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::identifiers::{MagazineId, VolumeName};
use super::listed::Catalog;
use super::state::VERSION;
use super::versioned::Versioned;

/// The status that closes a volume.
pub(crate) const CLOSED: &str = "Read-Only";

/// A status with which the Director may choose, prune or recycle a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Open {
    Append,
    Full,
    Used,
    /// Also what the Director calls `Purged`: it lets nobody set that, and takes both for the same.
    Recycle,
}

impl Open {
    /// Reads `VolStatus`; none for a status the Director leaves alone.
    pub(crate) fn of(status: &str) -> Option<Self> {
        match status {
            "Append" => Some(Self::Append),
            "Full" => Some(Self::Full),
            "Used" => Some(Self::Used),
            "Recycle" | "Purged" => Some(Self::Recycle),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Append => "Append",
            Self::Full => "Full",
            Self::Used => "Used",
            Self::Recycle => "Recycle",
        }
    }
}

/// The volumes that are closed: `shelf.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shelf {
    version: u32,
    /// What each volume will be when it is back.
    volumes: BTreeMap<VolumeName, Open>,
    /// The magazines whose volumes were all seen to be closed, and their revision then.
    magazines: BTreeMap<MagazineId, u64>,
    /// Empty volumes that a write error closed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    failed: BTreeSet<VolumeName>,
    /// The check of each magazine after which its failed volumes were opened.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    opened_after: BTreeMap<MagazineId, String>,
}

impl Versioned for Shelf {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            version: VERSION,
            volumes: BTreeMap::new(),
            magazines: BTreeMap::new(),
            failed: BTreeSet::new(),
            opened_after: BTreeMap::new(),
        }
    }
}

/// What has to be said to the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Volumes that are away and open.
    pub(crate) close: BTreeSet<VolumeName>,
    /// Volumes that are back, and what they were.
    pub(crate) reopen: BTreeMap<VolumeName, Open>,
}

impl Shelf {
    /// Whether a magazine is noted to be away.
    pub(crate) fn holds(&self, magazine: &MagazineId) -> bool {
        self.magazines.contains_key(magazine)
    }

    /// Whether a magazine that is away is known to be closed as it is.
    pub(crate) fn has(&self, magazine: &MagazineId, revision: u64) -> bool {
        self.magazines.get(magazine) == Some(&revision)
    }

    /// Whether a volume was closed by us, and is to be reopened.
    pub(crate) fn has_closed(&self, volume: &VolumeName) -> bool {
        self.volumes.contains_key(volume)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.magazines.is_empty()
    }

    /// Compares the catalog with which volumes are `away` and which are to be `open`; notes what is going to be closed
    /// and forgets what needs no memory any more.
    pub(crate) fn plan(
        &mut self,
        catalog: &Catalog,
        away: &BTreeSet<VolumeName>,
        open: &BTreeSet<VolumeName>,
    ) -> Work {
        let mut work = Work::default();
        for name in away {
            if let Some(status) = catalog.get(name).and_then(|volume| Open::of(&volume.status)) {
                self.volumes.insert(name.clone(), status);
                work.close.insert(name.clone());
            }
        }
        // a volume that is neither away nor open may have moved to where it is none of our business; of
        // one that the answer doesn't have, nothing is known
        self.volumes.retain(|name, _| {
            work.close.contains(name) || catalog.get(name).is_none_or(|volume| volume.status == CLOSED)
        });
        let back = self.volumes.iter().filter(|(name, _)| open.contains(*name));
        work.reopen = back.map(|(name, was)| (name.clone(), *was)).collect();
        work
    }

    /// Forgets volumes that were given back their status, or are no longer in the catalog.
    pub(crate) fn reopened<'a>(&mut self, names: impl IntoIterator<Item = &'a VolumeName>) {
        for name in names {
            self.volumes.remove(name);
        }
    }

    /// Empty volumes that a write error closed, as the catalog had them last.
    pub(crate) fn failed(&self) -> &BTreeSet<VolumeName> {
        &self.failed
    }

    pub(crate) fn note_failed(&mut self, failed: BTreeSet<VolumeName>) {
        self.failed = failed;
    }

    /// Whether a magazine's failed volumes were opened after this check.
    pub(crate) fn was_opened_after(&self, magazine: &MagazineId, check: &str) -> bool {
        self.opened_after.get(magazine).is_some_and(|known| known == check)
    }

    pub(crate) fn note_opened(&mut self, after: impl IntoIterator<Item = (MagazineId, String)>) {
        self.opened_after.extend(after);
    }

    /// Notes which magazines are away with all their volumes closed.
    pub(crate) fn note_magazines(&mut self, away: BTreeMap<MagazineId, u64>) {
        self.magazines = away;
    }
}

impl Work {
    /// The volumes of which the catalog says something else than what they were closed to be.
    pub(crate) fn still_open<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = &'a VolumeName> {
        self.close.iter().filter(|name| catalog.get(*name).is_some_and(|volume| volume.status != CLOSED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::library::listed::Listed;

    fn name(text: &str) -> VolumeName {
        VolumeName::new(text).expect("legal")
    }

    fn names(list: &[&str]) -> BTreeSet<VolumeName> {
        list.iter().map(|text| name(text)).collect()
    }

    fn with_status(status: &str) -> Listed {
        Listed { status: status.to_owned(), ..Listed::default() }
    }

    fn catalog(list: &[(&str, &str)]) -> Catalog {
        list.iter().map(|(text, status)| (name(text), with_status(status))).collect()
    }

    #[test]
    fn what_is_away_is_closed_and_what_is_back_reopened() {
        let mut kept = Shelf::default();
        let all = names(&["a", "b", "c", "d", "e"]);
        let listed =
            catalog(&[("a", "Append"), ("b", "Full"), ("c", "Read-Only"), ("d", "Error"), ("x", "Append")]);
        let work = kept.plan(&listed, &all, &BTreeSet::new());
        assert_eq!(work.close, names(&["a", "b"]));
        let closed = catalog(&[("a", "Read-Only"), ("b", "Read-Only"), ("c", "Read-Only"), ("d", "Error")]);
        let back = kept.plan(&closed, &BTreeSet::new(), &all);
        assert!(back.close.is_empty());
        let expected = BTreeMap::from([(name("a"), Open::Append), (name("b"), Open::Full)]);
        assert_eq!(back.reopen, expected, "what was read-only before stays so");
        kept.reopened(back.reopen.keys());
        assert!(kept.is_empty());
    }

    #[test]
    fn what_somebody_set_meanwhile_comes_back() {
        let mut kept = Shelf::default();
        let all = names(&["a", "b", "c", "d"]);
        let opened = catalog(&[("a", "Append"), ("b", "Append"), ("c", "Append"), ("d", "Append")]);
        kept.plan(&opened, &all, &BTreeSet::new());
        // a is used up, b is archived, c is deleted from the catalog
        let changed = catalog(&[("a", "Used"), ("b", "Archive"), ("d", CLOSED)]);
        let again = kept.plan(&changed, &all, &BTreeSet::new());
        assert_eq!(again.close, names(&["a"]));
        let closed = catalog(&[("a", CLOSED), ("b", "Archive"), ("c", "Append"), ("d", CLOSED)]);
        let back = kept.plan(&closed, &BTreeSet::new(), &all);
        assert_eq!(back.reopen, BTreeMap::from([(name("a"), Open::Used), (name("d"), Open::Append)]));
    }

    #[test]
    fn what_an_answer_does_not_have_is_not_forgotten() {
        let mut kept = Shelf::default();
        let all = names(&["a"]);
        kept.plan(&catalog(&[("a", "Append")]), &all, &BTreeSet::new());
        assert_eq!(kept.plan(&Catalog::new(), &all, &BTreeSet::new()), Work::default());
        let back = kept.plan(&catalog(&[("a", CLOSED)]), &BTreeSet::new(), &all);
        assert_eq!(back.reopen, BTreeMap::from([(name("a"), Open::Append)]));
    }

    #[test]
    fn a_volume_whose_file_is_gone_stays_closed_until_it_turns_up() {
        let mut kept = Shelf::default();
        kept.plan(&catalog(&[("a", "Full")]), &names(&["a"]), &BTreeSet::new());
        let work = kept.plan(&catalog(&[("a", CLOSED)]), &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(work, Work::default());
        let back = kept.plan(&catalog(&[("a", CLOSED)]), &BTreeSet::new(), &names(&["a"]));
        assert_eq!(back.reopen, BTreeMap::from([(name("a"), Open::Full)]));
        // opened by somebody after it moved to another changer: not ours any more
        kept.plan(&catalog(&[("a", "Append")]), &BTreeSet::new(), &BTreeSet::new());
        assert!(kept.is_empty());
    }

    /// What may happen to the catalog and to the drives between two tellings, or in the middle of one.
    #[derive(Clone, Debug)]
    enum Happening {
        Plug(usize),
        Unplug(usize),
        SetByHand(usize, &'static str),
        /// A telling that ends after that many of its commands, as if it were killed.
        Tell(usize),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let status = prop::sample::select(vec!["Append", "Full", "Used", "Recycle", "Error", "Archive"]);
        prop_oneof![
            (0usize..3).prop_map(Happening::Plug),
            (0usize..3).prop_map(Happening::Unplug),
            (0usize..6, status).prop_map(|(volume, status)| Happening::SetByHand(volume, status)),
            (0usize..20).prop_map(Happening::Tell),
        ]
    }

    /// Two volumes on each of three drives.
    struct World {
        here: [bool; 3],
        catalog: Catalog,
        /// What each volume was set to last by somebody else than us.
        truth: Catalog,
        shelf: Shelf,
    }

    impl World {
        fn volumes(&self, wanted: impl Fn(bool) -> bool) -> BTreeSet<VolumeName> {
            (0..6).filter(|v| wanted(self.here[v / 2])).map(|v| name(&format!("v{v}"))).collect()
        }

        /// The steps in the order of `telling.rs`; returns whether it came to its end.
        fn tell(&mut self, mut steps: usize) -> bool {
            let mut step = || {
                steps = steps.saturating_sub(1);
                steps > 0
            };
            let (away, here) = (self.volumes(|here| !here), self.volumes(|here| here));
            let mut kept = self.shelf.clone();
            let work = kept.plan(&self.catalog, &away, &here);
            if !step() {
                return false;
            }
            self.shelf = kept;
            for name in &work.close {
                if !step() {
                    return false;
                }
                self.catalog.insert(name.clone(), with_status(CLOSED));
            }
            for (name, open) in &work.reopen {
                if !step() {
                    return false;
                }
                self.catalog.insert(name.clone(), with_status(open.as_str()));
            }
            if !step() {
                return false;
            }
            self.shelf.reopened(work.reopen.keys());
            true
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_last_word_comes_back(story in prop::collection::vec(happening(), 0..40)) {
            let catalog: Catalog = (0..6).map(|v| (name(&format!("v{v}")), with_status("Append"))).collect();
            let mut world = World { here: [true; 3], truth: catalog.clone(), catalog, shelf: Shelf::default() };
            for happening in story {
                match happening {
                    Happening::Plug(drive) => world.here[drive] = true,
                    Happening::Unplug(drive) => world.here[drive] = false,
                    Happening::SetByHand(volume, status) => {
                        let name = name(&format!("v{volume}"));
                        world.truth.insert(name.clone(), with_status(status));
                        world.catalog.insert(name, with_status(status));
                    }
                    Happening::Tell(steps) => {
                        if world.tell(steps) {
                            for (name, Listed { status, .. }) in &world.catalog {
                                let away = !world.volumes(|here| here).contains(name);
                                prop_assert!(!away || Open::of(status).is_none(), "{name} is open and away");
                            }
                        }
                    }
                }
            }
            world.here = [true; 3];
            prop_assert!(world.tell(100));
            prop_assert_eq!(&world.catalog, &world.truth);
        }
    }
}
