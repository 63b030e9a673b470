//! The resources of all files, by the program that reads them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::spec::Flavour;
use crate::syntax::tree::{Block, Directive, Document, Include, Item, same_key};
use crate::values::program::Program;

/// How deep files may include each other inside a resource.
const MAX_SPLICES: usize = 16;

/// A resource and where it stands.
#[derive(Clone)]
pub(crate) struct Resource<'a> {
    pub(crate) program: Program,
    pub(crate) file: usize,
    pub(crate) block: &'a Block,
    /// What stands in it, each with its file: lines of files that are included inside a resource belong to it.
    items: Vec<(usize, &'a Item)>,
}

impl<'a> Resource<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.text("Name").unwrap_or("")
    }

    /// What stands in it, in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &'a Item> {
        self.items.iter().map(|(_, item)| *item)
    }

    /// What stands in it, in order, each with its file.
    pub(crate) fn placed_items(&self) -> impl Iterator<Item = (usize, &'a Item)> {
        self.items.iter().copied()
    }

    /// The directives in order, each with its file.
    pub(crate) fn directives(&self) -> impl Iterator<Item = (usize, &'a Directive)> {
        self.items.iter().filter_map(|(file, item)| match item {
            Item::Directive(directive) => Some((*file, directive)),
            _ => None,
        })
    }

    /// The groups of directives inside, each with its file.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, &'a Block)> {
        self.items.iter().filter_map(|(file, item)| match item {
            Item::Block(block) => Some((*file, block)),
            _ => None,
        })
    }

    /// The last directive of this name, which is the one that counts, with its file.
    pub(crate) fn placed(&self, key: &str) -> Option<(usize, &'a Directive)> {
        self.directives().filter(|(_, directive)| directive.is(key)).last()
    }

    pub(crate) fn directive(&self, key: &str) -> Option<&'a Directive> {
        self.placed(key).map(|(_, directive)| directive)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.directive(key)?.value().text()
    }

    /// The names of a list, from all the lines that add to it.
    pub(crate) fn list(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.directives()
            .filter(move |(_, directive)| directive.is(key))
            .flat_map(|(_, directive)| directive.value().list())
    }

    pub(crate) fn is_yes(&self, key: &str) -> bool {
        self.text(key).is_some_and(is_yes)
    }
}

/// Bacula takes `yes` and `true`.
pub(crate) fn is_yes(text: &str) -> bool {
    text.eq_ignore_ascii_case("yes") || text.eq_ignore_ascii_case("true")
}

/// Whether a given file is the one that a configuration names, also when all files lie below another root.
pub(crate) fn is_file(given: &Path, named: &str) -> bool {
    given == Path::new(named) || named.strip_prefix('/').is_some_and(|below_root| given.ends_with(below_root))
}

/// Whether a given file is the one that an include in another file names.
pub(crate) fn is_included(given: &Path, from: &Path, named: &str) -> bool {
    is_file(given, named) || from.parent().is_some_and(|directory| given == directory.join(named))
}

/// The files of one site.
pub(crate) struct Set<'a> {
    pub(crate) resources: Vec<Resource<'a>>,
    /// The changer's own files.
    pub(crate) changers: Vec<(usize, &'a Document)>,
    pub(crate) paths: Vec<&'a Path>,
    /// Includes whose content is not at hand: files that were not given, and commands, which are never run.
    pub(crate) unread: Vec<(Program, usize, &'a Include)>,
    /// Who reads each file, as far as that is known.
    pub(crate) programs: Vec<Option<Program>>,
    /// A file can't be parsed: what it defines is unknown.
    broken: bool,
}

impl<'a> Set<'a> {
    pub(crate) fn new(files: &'a [(PathBuf, String)], parsed: &'a [Option<Document>]) -> Self {
        let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
        let sources = Sources { paths: &paths, parsed };
        let mut programs: Vec<_> = parsed
            .iter()
            .zip(&paths)
            .map(|(document, path)| by_directory(path).or_else(|| document.as_ref().and_then(program_of)))
            .collect();
        // What a file includes is read by the same program; includes may be nested.
        for _ in 0..parsed.len() {
            let before = programs.clone();
            for (index, document) in parsed.iter().enumerate() {
                let Some(program) = programs.get(index).copied().flatten() else { continue };
                for found in
                    document.iter().flat_map(all_includes).filter_map(|include| sources.find(index, include))
                {
                    if let Some(slot) = programs.get_mut(found) {
                        *slot = Some(program);
                    }
                }
            }
            if before == programs {
                break;
            }
        }
        let fragments: HashSet<usize> = parsed
            .iter()
            .enumerate()
            .flat_map(|(index, document)| {
                let blocks = document.iter().flat_map(Document::blocks);
                blocks.flat_map(includes_inside).filter_map(move |include| sources.find(index, include))
            })
            .collect();
        let mut set = Self {
            resources: Vec::new(),
            changers: Vec::new(),
            paths: Vec::new(),
            unread: Vec::new(),
            programs: Vec::new(),
            broken: parsed.iter().any(Option::is_none),
        };
        for (file, (document, program)) in parsed.iter().zip(&programs).enumerate() {
            let (Some(document), Some(program)) = (document, *program) else { continue };
            if program == Program::Changer {
                set.changers.push((file, document));
            }
            let unread =
                all_includes(document).into_iter().filter(|include| sources.find(file, include).is_none());
            set.unread.extend(unread.map(|include| (program, file, include)));
            if fragments.contains(&file) {
                continue; // its lines belong to the resources that include it
            }
            set.resources.extend(document.blocks().map(|block| {
                let mut items = Vec::new();
                sources.splice(file, block.items(), &mut items, 0);
                Resource { program, file, block, items }
            }));
        }
        set.programs = programs;
        set.paths = paths;
        set
    }

    /// Whether Bacula's programs or Bareos's read a file.
    pub(crate) fn flavour(&self, file: usize) -> Flavour {
        let bareos = self.paths.get(file).is_some_and(|path| {
            path.iter()
                .any(|part| part.to_str().is_some_and(|part| part == "bareos" || part.starts_with("bareos-")))
        });
        if bareos { Flavour::Bareos } else { Flavour::Bacula }
    }

    /// All resources of one type that a program reads.
    pub(crate) fn all(&self, program: Program, kind: &str) -> impl Iterator<Item = &Resource<'a>> {
        self.resources.iter().filter(move |resource| resource.program == program && resource.block.is(kind))
    }

    pub(crate) fn named(&self, program: Program, kind: &str, name: &str) -> Option<&Resource<'a>> {
        self.all(program, kind).find(|resource| resource.name() == name)
    }

    /// Whether all that a program reads is at hand; otherwise a missing name says nothing.
    pub(crate) fn is_whole(&self, program: Program) -> bool {
        !self.broken && self.unread.iter().all(|(of, _, _)| *of != program)
    }

    /// The Director's own resource: without it the Director's files are not all there.
    pub(crate) fn director(&self) -> Option<&Resource<'a>> {
        self.all(Program::Director, "Director").next()
    }

    /// The Director's storages; Bacula 9 takes `Autochanger` as another name for them.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.all(Program::Director, "Storage").chain(self.all(Program::Director, "Autochanger"))
    }

    /// The drives of an autochanger, as far as they are there.
    pub(crate) fn drives(&self, changer: &Resource<'a>) -> Vec<&Resource<'a>> {
        changer.list("Device").filter_map(|name| self.named(Program::Storage, "Device", name)).collect()
    }

    /// The autochangers that have a command; one without is a plain group of devices.
    pub(crate) fn autochangers(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.all(Program::Storage, "Autochanger")
            .filter(|changer| changer.text("Changer Command").is_some_and(|command| !command.is_empty()))
    }

    /// The autochangers whose magazines are drives that come and go: a vchanger serves them. A tape library, and a
    /// changer of somebody's own, have rules of their own.
    pub(crate) fn virtual_changers(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.autochangers().filter(|changer| {
            let mut command = changer.text("Changer Command").unwrap_or("").split_whitespace();
            let called = command.any(|word| {
                Path::new(word).file_name().is_some_and(|name| name.to_string_lossy().contains("vchanger"))
            });
            let named = changer.text("Changer Device").unwrap_or("");
            called
                || self
                    .changers
                    .iter()
                    .any(|(file, _)| self.paths.get(*file).is_some_and(|path| is_file(path, named)))
        })
    }

    /// A directive of a job, or of the defaults that it names.
    pub(crate) fn job_text(&self, job: &Resource<'a>, key: &str) -> Option<&'a str> {
        let defaults = || self.named(Program::Director, "JobDefs", job.text("JobDefs")?)?.text(key);
        job.text(key).or_else(defaults)
    }
}

/// The files, for finding what is included.
#[derive(Clone, Copy)]
struct Sources<'s, 'a> {
    paths: &'s [&'a Path],
    parsed: &'a [Option<Document>],
}

impl<'a> Sources<'_, 'a> {
    fn find(&self, from: usize, include: &Include) -> Option<usize> {
        let from = self.paths.get(from)?;
        self.paths.iter().position(|path| match include.path() {
            Some(named) => is_included(path, from, named),
            // What a command printed goes by the name of the command.
            None => *path == Path::new(include.raw()),
        })
    }

    /// Collects what stands in a block, with what is included there.
    fn splice(&self, file: usize, items: &'a [Item], into: &mut Vec<(usize, &'a Item)>, depth: usize) {
        for item in items {
            let found = match item {
                Item::Include(include) if depth < MAX_SPLICES => self.find(file, include),
                _ => None,
            };
            match found.and_then(|found| Some((found, self.parsed.get(found)?.as_ref()?))) {
                Some((found, document)) => self.splice(found, document.items(), into, depth + 1),
                None => into.push((file, item)),
            }
        }
    }
}

/// The includes of a file, those inside its resources as well.
pub(crate) fn all_includes(document: &Document) -> Vec<&Include> {
    document.includes().chain(document.blocks().flat_map(includes_inside)).collect()
}

fn includes_inside(block: &Block) -> Vec<&Include> {
    block.includes().chain(block.blocks().flat_map(includes_inside)).collect()
}

/// Bareos keeps each program's files in a directory that names it.
fn by_directory(path: &Path) -> Option<Program> {
    path.iter().filter_map(|part| part.to_str()).find_map(|part| match part {
        "bareos-dir.d" => Some(Program::Director),
        "bareos-sd.d" => Some(Program::Storage),
        "bareos-fd.d" => Some(Program::Client),
        _ => None,
    })
}

/// Tells which program reads a file by what only that program knows.
fn program_of(document: &Document) -> Option<Program> {
    let has = |kind: &str| document.blocks().any(|block| block.is(kind));
    let has_key = |key: &str| document.directives().any(|directive| same_key(directive.key(), key));
    if has_key("Magazine") || (has_key("Work Dir") && document.blocks().next().is_none()) {
        return Some(Program::Changer);
    }
    if has("FileDaemon")
        || document.blocks_named("Client").any(|block| block.directive("Working Directory").is_some())
    {
        return Some(Program::Client);
    }
    let directors_own = ["Job", "JobDefs", "Pool", "Catalog", "FileSet", "Schedule", "Client"];
    if directors_own.into_iter().any(has) {
        return Some(Program::Director);
    }
    if has("Device")
        || document.blocks_named("Autochanger").any(|block| block.directive("Changer Command").is_some())
    {
        return Some(Program::Storage);
    }
    if let Some(storage) = document.blocks_named("Storage").next() {
        let director = storage.directive("Media Type").is_some();
        return Some(if director { Program::Director } else { Program::Storage });
    }
    if document.blocks_named("Director").any(|block| block.directive("Query File").is_some()) {
        return Some(Program::Director);
    }
    if document.blocks_named("Director").any(|block| block.directive("Address").is_some()) {
        return Some(Program::Console);
    }
    None
}
