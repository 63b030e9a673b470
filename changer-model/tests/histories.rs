//! Random histories of plugging, loading, creating, deleting, renaming and moving, against a simple reference.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use site::Site;

const MAGAZINES: [&str; 3] = ["m0", "m1", "m2"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Plug(usize),
    Unplug(usize),
    Create(usize, usize),
    Delete(usize, usize),
    Rename(usize, usize, usize),
    Move(usize, usize, usize),
    Load(u32, u32),
    Unload(u32),
    Loaded(u32),
    List,
    Refresh,
}

fn step() -> impl Strategy<Value = Step> {
    let m = 0..MAGAZINES.len();
    let n = 0..NAMES.len();
    prop_oneof![
        2 => m.clone().prop_map(Step::Plug),
        2 => m.clone().prop_map(Step::Unplug),
        4 => (m.clone(), n.clone()).prop_map(|(m, n)| Step::Create(m, n)),
        1 => (m.clone(), n.clone()).prop_map(|(m, n)| Step::Delete(m, n)),
        1 => (m.clone(), n.clone(), n.clone()).prop_map(|(m, a, b)| Step::Rename(m, a, b)),
        1 => (m.clone(), m, n).prop_map(|(a, b, n)| Step::Move(a, b, n)),
        4 => (1u32..7, 0u32..3).prop_map(|(slot, drive)| Step::Load(slot, drive)),
        1 => (0u32..3).prop_map(Step::Unload),
        2 => (0u32..3).prop_map(Step::Loaded),
        3 => Just(Step::List),
        1 => Just(Step::Refresh),
    ]
}

/// A volume: the magazine it is on, and its name.
type Volume = (usize, usize);

/// The reference: what is on the disks, which are plugged, and what the changer ought to remember.
#[derive(Default)]
struct World {
    files: BTreeSet<Volume>,
    plugged: BTreeSet<usize>,
    slots: BTreeMap<u32, Volume>,
    drives: BTreeMap<u32, (u32, Volume)>,
    highest: u32,
}

impl World {
    fn look(&mut self) {
        let plugged = &self.plugged;
        let files = &self.files;
        let gone = |v: &Volume| plugged.contains(&v.0) && !files.contains(v);
        let freed: BTreeMap<u32, Volume> =
            self.slots.iter().filter(|(_, v)| gone(v)).map(|(s, v)| (*s, *v)).collect();
        self.slots.retain(|_, v| !gone(v));
        for volume in self.files.iter().filter(|v| self.plugged.contains(&v.0)) {
            if self.slots.values().any(|v| v == volume) {
                continue;
            }
            let moved = freed.iter().find(|(s, v)| v.1 == volume.1 && !self.slots.contains_key(s));
            let slot = match moved {
                Some((slot, _)) => *slot,
                None => (1..=1_000)
                    .find(|s| !self.slots.contains_key(s) && !freed.contains_key(s))
                    .expect("endless"),
            };
            self.slots.insert(slot, *volume);
            self.highest = self.highest.max(slot);
        }
        let shown = |v: &Volume| plugged.contains(&v.0) && files.contains(v);
        self.drives.retain(|_, (_, v)| shown(v));
    }

    fn list(&self) -> String {
        let line = |slot: u32| match self.slots.get(&slot).filter(|v| self.plugged.contains(&v.0)) {
            Some(volume) => format!("{slot}:{}\n", NAMES[volume.1]),
            None => format!("{slot}:\n"),
        };
        (1..=self.highest.max(10)).map(line).collect::<Vec<_>>().concat()
    }

    fn load(&mut self, slot: u32, drive: u32) -> bool {
        let before = self.slots.get(&slot).copied();
        self.look();
        if let Some((held, _)) = self.drives.get(&drive) {
            return *held == slot;
        }
        if self.drives.values().any(|(held, _)| *held == slot) {
            return false;
        }
        match self.slots.get(&slot).filter(|v| self.plugged.contains(&v.0)) {
            Some(volume) => {
                let new = before.is_none_or(|b| b.1 == volume.1);
                assert!(new, "no slot changes its volume within a call");
                self.drives.insert(drive, (slot, *volume));
                true
            }
            None => false,
        }
    }
}

fn play(steps: &[Step]) {
    let site = Site::new("m0 m1 m2");
    let mut world = World { plugged: (0..3).collect(), ..World::default() };
    let place = |world: &World, m: usize| {
        let shelf = if world.plugged.contains(&m) { "" } else { "away-" };
        site.path(&format!("{shelf}{}", MAGAZINES[m]))
    };
    for step in steps {
        match *step {
            Step::Plug(m) if !world.plugged.contains(&m) => {
                fs::rename(place(&world, m), site.path(MAGAZINES[m])).expect("plugs");
                world.plugged.insert(m);
            }
            Step::Unplug(m) if world.plugged.contains(&m) => {
                fs::rename(place(&world, m), site.path(&format!("away-{}", MAGAZINES[m]))).expect("unplugs");
                world.plugged.remove(&m);
            }
            Step::Create(m, n) if world.files.insert((m, n)) => {
                fs::write(place(&world, m).join(NAMES[n]), "").expect("creates");
            }
            Step::Delete(m, n) if world.files.remove(&(m, n)) => {
                fs::remove_file(place(&world, m).join(NAMES[n])).expect("deletes");
            }
            Step::Rename(m, a, b) if world.files.contains(&(m, a)) && !world.files.contains(&(m, b)) => {
                let at = place(&world, m);
                fs::rename(at.join(NAMES[a]), at.join(NAMES[b])).expect("renames");
                world.files.remove(&(m, a));
                world.files.insert((m, b));
            }
            Step::Move(a, b, n) if world.files.contains(&(a, n)) && !world.files.contains(&(b, n)) => {
                fs::rename(place(&world, a).join(NAMES[n]), place(&world, b).join(NAMES[n])).expect("moves");
                world.files.remove(&(a, n));
                world.files.insert((b, n));
            }
            Step::Load(slot, drive) => {
                let done = site.run(&format!("load {slot} dev {drive}")).code == 0;
                assert_eq!(done, world.load(slot, drive), "{step:?}");
                if done {
                    let (_, (m, n)) = world.drives[&drive];
                    let link = fs::read_link(site.path(&format!("work/{drive}"))).expect("is linked");
                    assert_eq!(link, site.path(MAGAZINES[m]).join(NAMES[n]));
                    assert!(link.exists());
                }
            }
            Step::Unload(drive) => {
                site.answer(&format!("unload 1 dev {drive}"));
                world.drives.remove(&drive);
            }
            Step::Loaded(drive) => {
                let plugged = world.plugged.clone();
                let here = |v: &Volume| plugged.contains(&v.0);
                let held = world.drives.get(&drive).copied();
                let slot = held.filter(|(_, v)| here(v)).map_or(0, |(slot, _)| slot);
                assert_eq!(site.answer(&format!("loaded 1 dev {drive}")), format!("{slot}\n"));
                if held.is_some_and(|(_, v)| !here(&v)) {
                    world.drives.retain(|_, (_, v)| here(v));
                }
            }
            Step::List => {
                world.look();
                assert_eq!(site.answer("list"), world.list());
            }
            Step::Refresh => {
                world.look();
                site.answer("refresh");
            }
            _ => {}
        }
    }
    world.look();
    assert_eq!(site.answer("list"), world.list());
    let linked = fs::read_dir(site.path("work"))
        .expect("lists")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_symlink()));
    assert_eq!(linked.count(), world.drives.len(), "an empty drive has no link");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_changer_does_what_the_reference_does(steps in prop::collection::vec(step(), 1..40)) {
        play(&steps);
    }
}

#[test]
fn the_order_of_return_does_not_matter() {
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
    let lists = orders.map(|order| {
        let site = Site::new("m0 m1 m2");
        for (index, name) in ["m0/a", "m1/b", "m2/c", "m1/d"].iter().enumerate() {
            site.volume(name);
            site.answer(if index % 2 == 0 { "list" } else { "refresh" });
        }
        for name in MAGAZINES {
            fs::rename(site.path(name), site.path(&format!("away-{name}"))).expect("unplugs");
        }
        site.answer("refresh");
        for m in order {
            let name = MAGAZINES[m];
            fs::rename(site.path(&format!("away-{name}")), site.path(name)).expect("plugs");
            site.answer("refresh");
        }
        site.answer("list")
    });
    assert!(lists.iter().all(|list| *list == lists[0]));
    assert!(lists[0].starts_with("1:a\n2:b\n3:c\n4:d\n5:\n"));
}
