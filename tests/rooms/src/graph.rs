//! The files of a crate and which of them imports which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::imports::{Import, imports};
use crate::source::{without_tests, words};
use crate::table::Rooms;

/// A module's place below the crate's root; the root has none.
pub(crate) type Module = Vec<String>;

/// The modules of a crate that have files of their own.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    imports: BTreeMap<Module, Vec<Import>>,
}

impl Crate {
    /// Reads all files below `src`; programs (`src/bin`, `main.rs`) know everything and are left out.
    pub(crate) fn read(src: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        read_below(src, &Vec::new(), &mut found, &mut left_out)?;
        found.retain(|module, _| !left_out.iter().any(|test: &Module| module.starts_with(test)));
        Ok(Self { imports: found })
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        self.imports.len()
    }

    /// Files that stand in no room, and rooms that aren't there.
    pub(crate) fn strangers(&self, rooms: &Rooms) -> Vec<String> {
        let known: BTreeSet<&String> = rooms.iter().flatten().collect();
        let there: BTreeSet<&String> = self.imports.keys().filter_map(|module| module.first()).collect();
        let strange =
            there.difference(&known).map(|room| format!("`{room}` is in no room of ARCHITECTURE.md"));
        let absent =
            known.difference(&there).map(|room| format!("the room `{room}` of ARCHITECTURE.md is not there"));
        strange.chain(absent).collect()
    }

    /// Imports against the order of the rooms.
    pub(crate) fn forbidden(&self, rooms: &Rooms) -> Vec<String> {
        let rank = |room: &String| rooms.iter().position(|group| group.contains(room));
        let mut faults = BTreeSet::new();
        for (from, to) in self.edges() {
            let (Some(own), Some(other)) = (from.first(), to.first()) else { continue };
            if own != other && rank(other) >= rank(own) && rank(own).is_some() {
                faults.insert(format!(
                    "{} imports {}; `{own}` must not know `{other}`",
                    shown(&from),
                    shown(&to)
                ));
            }
        }
        faults.into_iter().collect()
    }

    /// Sets of files that import each other in a circle.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let mut next: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to) in self.edges() {
            next.entry(from).or_default().insert(to);
        }
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            next.keys().map(|from| (from, reach(from, &next))).collect();
        let leads = |from: &Module, to: &Module| reached.get(from).is_some_and(|all| all.contains(to));
        let mut circles: Vec<Vec<String>> = Vec::new();
        let mut seen: BTreeSet<&Module> = BTreeSet::new();
        for module in next.keys() {
            if !seen.contains(module) && leads(module, module) {
                let members: Vec<&Module> =
                    next.keys().filter(|other| leads(module, other) && leads(other, module)).collect();
                seen.extend(&members);
                circles.push(members.into_iter().map(shown).collect());
            }
        }
        circles
    }

    /// Which file imports which. The root passes on what it has and is no part of any circle.
    pub(crate) fn edges(&self) -> BTreeSet<(Module, Module)> {
        let mut edges = BTreeSet::new();
        for (module, imports) in self.imports.iter().filter(|(module, _)| !module.is_empty()) {
            for import in imports {
                let to = self.file_of(module, import, 0);
                let own_child = |to: &Module| import.passed_on && to.starts_with(module);
                if let Some(to) = to.filter(|to| to != module && !to.is_empty() && !own_child(to)) {
                    edges.insert((module.clone(), to));
                }
            }
        }
        edges
    }

    /// The file in which stands what `import` in `module` names; `None` for another crate's.
    fn file_of(&self, module: &Module, import: &Import, depth: usize) -> Option<Module> {
        let (first, mut rest) = import.path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Module::new(),
            "self" | "super" => {
                let mut at: Module = module.iter().chain(&import.within).cloned().collect();
                if first == "super" {
                    at.pop();
                }
                at
            }
            name => {
                let child: Module = module.iter().cloned().chain([name.to_owned()]).collect();
                if !self.imports.contains_key(&child) {
                    return None;
                }
                child
            }
        };
        while let Some((name, after)) = rest.split_first() {
            let mut deeper = at.clone();
            if name == "super" {
                deeper.pop();
            } else {
                deeper.push(name.clone());
            }
            if name == "super" || self.imports.contains_key(&deeper) {
                (at, rest) = (deeper, after);
                continue;
            }
            // A name that the module has from elsewhere.
            let passed = self.imports.get(&at).into_iter().flatten();
            let passed = passed
                .filter(|other| other.within.is_empty())
                .find(|other| other.alias.as_ref() == Some(name));
            return match passed {
                Some(other) if depth < 8 && (other.path.len() > 1 || other.path.first() != Some(name)) => {
                    let path = other.path.iter().chain(after).cloned().collect();
                    self.file_of(&at, &Import { path, ..other.clone() }, depth + 1)
                }
                _ => self.nearest(at),
            };
        }
        self.nearest(at)
    }

    /// The file around an inline module.
    fn nearest(&self, mut at: Module) -> Option<Module> {
        while !self.imports.contains_key(&at) {
            at.pop()?;
        }
        Some(at)
    }
}

fn shown(module: &Module) -> String {
    module.join("::")
}

fn reach<'a>(from: &Module, next: &'a BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = next.get(from).into_iter().flatten().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(next.get(module).into_iter().flatten());
        }
    }
    reached
}

fn read_below(
    folder: &Path,
    module: &Module,
    found: &mut BTreeMap<Module, Vec<Import>>,
    left_out: &mut BTreeSet<Module>,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if module.is_empty() && name == "bin" || name == "snapshots" {
                continue;
            }
            let deeper: Module = module.iter().cloned().chain([name]).collect();
            read_below(&entry.path(), &deeper, found, left_out)?;
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let own: Module = match stem {
                "mod" => module.clone(),
                "lib" if module.is_empty() => module.clone(),
                "main" if module.is_empty() => continue,
                _ => module.iter().cloned().chain([stem.to_owned()]).collect(),
            };
            let (code, tests) = without_tests(&words(&fs::read_to_string(entry.path())?));
            left_out
                .extend(tests.into_iter().map(|name| own.iter().cloned().chain([name]).collect::<Module>()));
            found.insert(own, imports(&code));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(files: &[(&str, &str)]) -> Crate {
        let module =
            |path: &str| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let files = files.iter().map(|(path, text)| (module(path), imports(&words(text)))).collect();
        Crate { imports: files }
    }

    fn order(groups: &[&[&str]]) -> Rooms {
        groups.iter().map(|group| group.iter().map(|room| (*room).to_owned()).collect()).collect()
    }

    #[test]
    fn a_room_may_import_only_those_before_it() {
        let files = krate(&[
            ("", ""),
            ("low", "mod a;"),
            ("low::a", "use crate::high::b::B;"),
            ("high", "mod b;"),
            ("high::b", "use crate::low::a::A;"),
        ]);
        let faults = files.forbidden(&order(&[&["low"], &["high"]]));
        assert_eq!(faults, ["low::a imports high::b; `low` must not know `high`"]);
        assert_eq!(
            files.forbidden(&order(&[&["low", "high"]])).len(),
            2,
            "those of a group don't know each other"
        );
    }

    #[test]
    fn a_file_without_a_room_is_told() {
        let files = krate(&[("", ""), ("low", ""), ("lost", "")]);
        let strangers = files.strangers(&order(&[&["low"], &["absent"]]));
        assert_eq!(strangers.len(), 2, "{strangers:?}");
    }

    #[test]
    fn circles_are_found_through_names_that_are_passed_on() {
        let files = krate(&[
            ("", ""),
            ("room", "mod a; mod b; pub(crate) use a::A; use b::B;"),
            ("room::a", "use super::B;"),
            ("room::b", "use crate::room::A;"),
            ("room::c", "use super::a::A;"),
        ]);
        assert_eq!(files.circles(), [["room::a", "room::b"]]);
    }

    #[test]
    fn a_parent_with_code_and_its_child_make_a_circle() {
        let files = krate(&[("room", "mod a; fn f() { a::g() }"), ("room::a", "use super::f;")]);
        assert_eq!(files.circles(), [["room", "room::a"]]);
    }
}
