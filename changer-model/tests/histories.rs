//! Random histories of plugging, loading, creating, deleting, renaming and moving, against a simple reference.

#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod site;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use changer_model::{Environment, Privileges, run_command_line};
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
    /// Two changers at once.
    Both(Call, Call),
    /// A changer that is killed somewhere on its way.
    Crash(Call, u32),
}

/// What one changer is asked while another one works, or when it is killed.
#[derive(Clone, Copy, Debug)]
enum Call {
    Load(u32, u32),
    Unload(u32),
    List,
    Refresh,
}

impl Call {
    fn line(self) -> String {
        match self {
            Self::Load(slot, drive) => format!("load {slot} dev {drive}"),
            Self::Unload(drive) => format!("unload 1 dev {drive}"),
            Self::List => "list".to_owned(),
            Self::Refresh => "refresh".to_owned(),
        }
    }
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (1u32..7, 0u32..3).prop_map(|(slot, drive)| Call::Load(slot, drive)),
        2 => (0u32..3).prop_map(Call::Unload),
        1 => Just(Call::List),
        1 => Just(Call::Refresh),
    ]
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
        2 => (call(), call()).prop_map(|(a, b)| Step::Both(a, b)),
        1 => (call(), 0u32..40).prop_map(|(call, moment)| Step::Crash(call, moment)),
    ]
}

/// A volume: the magazine it is on, and its name.
type Volume = (usize, usize);

/// The reference: what is on the disks, which are plugged, and what the changer ought to remember.
#[derive(Clone, Default)]
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

    /// What the changer prints, and none where it refuses.
    fn answer(&mut self, call: Call) -> Option<String> {
        match call {
            Call::Load(slot, drive) => self.load(slot, drive).then(String::new),
            Call::Unload(drive) => {
                self.drives.remove(&drive);
                Some(String::new())
            }
            Call::List => {
                self.look();
                Some(self.list())
            }
            Call::Refresh => {
                self.look();
                Some(String::new())
            }
        }
    }

    /// The volume that a drive's link leads to.
    fn held(&self) -> BTreeMap<u32, Volume> {
        self.drives.iter().map(|(drive, (_, volume))| (*drive, *volume)).collect()
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

/// Tells the history that failed: with two changers at once and killed ones it need not fail again.
struct History<'a> {
    steps: &'a [Step],
    at: Cell<usize>,
    site: &'a Site,
}

impl Drop for History<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let (at, links) = (self.at.get(), self.site.links());
            eprintln!("failed at step {at} (from 0) of {:?}\nlinks: {links:?}", self.steps);
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
    let history = History { steps, at: Cell::new(0), site: &site };
    for (at, step) in steps.iter().enumerate() {
        history.at.set(at);
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
                let slot =
                    held.filter(|(_, v)| here(v) && world.files.contains(v)).map_or(0, |(slot, _)| slot);
                assert_eq!(site.answer(&format!("loaded 1 dev {drive}")), format!("{slot}\n"));
                match held {
                    Some((_, v)) if !here(&v) => world.drives.retain(|_, (_, v)| here(v)),
                    Some(_) if slot == 0 => world.look(),
                    _ => {}
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
            Step::Both(a, b) => both(&site, &mut world, a, b),
            Step::Crash(call, moment) => crash(&site, &mut world, call, moment),
            _ => {}
        }
    }
    history.at.set(steps.len());
    world.look();
    assert_eq!(site.answer("list"), world.list());
    let links = site.links();
    assert_eq!(links.len(), world.drives.len(), "an empty drive has no link: {links:?}");
}

/// Two changers at once answer as if one had come after the other.
fn both(site: &Site, world: &mut World, a: Call, b: Call) {
    // what changed since the last look is settled before, so that the order shows in nothing but the drives
    world.look();
    site.answer("refresh");
    let said = |call: Call| {
        let outcome = site.run(&call.line());
        (outcome.code == 0).then_some(outcome.stdout)
    };
    let (said_a, said_b) = thread::scope(|scope| {
        let other = scope.spawn(|| said(b));
        (said(a), other.join().expect("ends"))
    });
    let fits = |first: Call, then: Call, one: &Option<String>, two: &Option<String>| {
        let mut after = world.clone();
        (after.answer(first) == *one && after.answer(then) == *two && linked(site) == after.held())
            .then_some(after)
    };
    let after = fits(a, b, &said_a, &said_b).or_else(|| fits(b, a, &said_b, &said_a));
    *world = after.unwrap_or_else(|| panic!("{a:?} and {b:?} fit in no order: {said_a:?} {said_b:?}"));
}

/// A killed changer has done its work or has not; there is nothing between.
fn crash(site: &Site, world: &mut World, call: Call, moment: u32) {
    world.look();
    site.answer("refresh");
    let mut victim = Command::new(std::env::current_exe().expect("has a path"))
        .args(["--exact", "victim", "--test-threads=1"])
        .env(VICTIM, site.path("c.conf"))
        .env(VICTIM_CALL, call.line())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    thread::sleep(Duration::from_micros(u64::from(moment) * 250));
    victim.kill().expect("is there");
    victim.wait().expect("ends");
    for drive in 0..3 {
        // the next question of the storage daemon's mends what is half done
        site.answer(&format!("loaded 1 dev {drive}"));
    }
    let mut done = world.clone();
    done.answer(call);
    let held = linked(site);
    assert!(held == world.held() || held == done.held(), "{call:?} is half done: {held:?}");
    if held == done.held() {
        *world = done;
    }
    for drive in 0..3 {
        let slot = world.drives.get(&drive).map_or(0, |(slot, _)| *slot);
        assert_eq!(site.answer(&format!("loaded 1 dev {drive}")), format!("{slot}\n"));
    }
}

const VICTIM: &str = "CHANGER_TEST_VICTIM";
const VICTIM_CALL: &str = "CHANGER_TEST_CALL";

/// The changer that is killed; does nothing as a test.
#[test]
fn victim() {
    let Some(config) = std::env::var_os(VICTIM) else { return };
    let line = std::env::var(VICTIM_CALL).expect("is given");
    let root = Path::new(&config).parent().expect("has a parent");
    let mut env = Environment::new(root);
    env.privileges = Privileges::Keep;
    let words = line.split_whitespace().map(Into::into);
    let arguments: Vec<_> = std::iter::once(config.clone()).chain(words).collect();
    run_command_line(&arguments, &env);
}

/// The volumes that the drives' links lead to.
fn linked(site: &Site) -> BTreeMap<u32, Volume> {
    let volume = |path: &Path| {
        let mut parts = path.iter().rev().map(|part| part.to_string_lossy().into_owned());
        let (name, magazine) = (parts.next()?, parts.next()?);
        let number = |all: &[&str], one: &str| all.iter().position(|other| *other == one);
        Some((number(&MAGAZINES, &magazine)?, number(&NAMES, &name)?))
    };
    let link = |drive: u32| Some((drive, volume(&fs::read_link(site.path(&format!("work/{drive}"))).ok()?)?));
    (0..3).filter_map(link).collect()
}

/// How many histories are played; a long run: `CHANGER_HISTORIES=2000 cargo test -p changer-model --test histories`.
fn histories() -> u32 {
    std::env::var("CHANGER_HISTORIES").ok().map_or(32, |text| text.parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), ..ProptestConfig::default() })]

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
