//! The resources of all files, by the program that reads them.

use std::path::{Path, PathBuf};

use crate::tree::{Block, Document, Include, same_key};

/// Which program reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Director,
    Storage,
    Client,
    Console,
    Changer,
}

/// A resource and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Resource<'a> {
    pub(crate) reader: Reader,
    pub(crate) file: usize,
    pub(crate) block: &'a Block,
}

impl<'a> Resource<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.block.text("Name").unwrap_or("")
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.block.text(key)
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

/// The files of one site.
pub(crate) struct Set<'a> {
    pub(crate) resources: Vec<Resource<'a>>,
    /// The changer's own files.
    pub(crate) changers: Vec<(usize, &'a Document)>,
    pub(crate) paths: Vec<&'a Path>,
    /// Includes whose content is not at hand: files that were not given, and commands, which are never run.
    pub(crate) unread: Vec<(Reader, usize, &'a Include)>,
}

impl<'a> Set<'a> {
    pub(crate) fn new(files: &'a [(PathBuf, String)], parsed: &'a [Option<Document>]) -> Self {
        let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
        let mut readers: Vec<_> =
            parsed.iter().map(|document| document.as_ref().and_then(reader_of)).collect();
        // What a file includes is read by the same program; includes may be nested.
        for _ in 0..parsed.len() {
            for (index, document) in parsed.iter().enumerate() {
                let Some(reader) = readers.get(index).copied().flatten() else { continue };
                for include in document.iter().flat_map(Document::includes) {
                    let Some(target) = include.path() else { continue };
                    let found = paths.iter().position(|path| is_file(path, target));
                    if let Some(slot) = found.and_then(|found| readers.get_mut(found)) {
                        *slot = Some(reader);
                    }
                }
            }
        }
        let mut resources = Vec::new();
        let mut changers = Vec::new();
        let mut unread = Vec::new();
        for (file, (document, reader)) in parsed.iter().zip(readers).enumerate() {
            let (Some(document), Some(reader)) = (document, reader) else { continue };
            if reader == Reader::Changer {
                changers.push((file, document));
            }
            let given = |include: &&Include| {
                include.path().is_some_and(|named| paths.iter().any(|path| is_file(path, named)))
            };
            unread.extend(
                document.includes().filter(|include| !given(include)).map(|include| (reader, file, include)),
            );
            resources.extend(document.blocks().map(|block| Resource { reader, file, block }));
        }
        Self { resources, changers, paths, unread }
    }

    /// All resources of one type that a program reads.
    pub(crate) fn all(&self, reader: Reader, kind: &str) -> impl Iterator<Item = &Resource<'a>> {
        self.resources.iter().filter(move |resource| resource.reader == reader && resource.block.is(kind))
    }

    pub(crate) fn named(&self, reader: Reader, kind: &str, name: &str) -> Option<&Resource<'a>> {
        self.all(reader, kind).find(|resource| resource.name() == name)
    }

    /// Whether all that a program reads is at hand; otherwise a missing name says nothing.
    pub(crate) fn is_whole(&self, reader: Reader) -> bool {
        self.unread.iter().all(|(of, _, _)| *of != reader)
    }

    /// The Director's own resource: without it the Director's files are not all there.
    pub(crate) fn director(&self) -> Option<&Resource<'a>> {
        self.all(Reader::Director, "Director").next()
    }

    /// The Director's storages; Bacula 9 takes `Autochanger` as another name for them.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.all(Reader::Director, "Storage").chain(self.all(Reader::Director, "Autochanger"))
    }

    /// The drives of an autochanger, as far as they are there.
    pub(crate) fn drives(&self, changer: &Resource<'a>) -> Vec<&Resource<'a>> {
        let list = changer.block.directive("Device");
        list.into_iter()
            .flat_map(|directive| directive.value().list())
            .filter_map(|name| self.named(Reader::Storage, "Device", name))
            .collect()
    }

    /// The autochangers that have a command; one without is a plain group of devices.
    pub(crate) fn autochangers(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.all(Reader::Storage, "Autochanger")
            .filter(|changer| changer.text("Changer Command").is_some_and(|command| !command.is_empty()))
    }

    /// A directive of a job, or of the defaults that it names.
    pub(crate) fn job_text(&self, job: &Resource<'a>, key: &str) -> Option<&'a str> {
        let defaults = || self.named(Reader::Director, "JobDefs", job.text("JobDefs")?)?.text(key);
        job.text(key).or_else(defaults)
    }
}

/// Tells which program reads a file by what only that program knows.
fn reader_of(document: &Document) -> Option<Reader> {
    let has = |kind: &str| document.blocks().any(|block| block.is(kind));
    if document.directives().any(|directive| same_key(directive.key(), "Magazine")) {
        return Some(Reader::Changer);
    }
    if has("FileDaemon")
        || document.blocks_named("Client").any(|block| block.directive("Working Directory").is_some())
    {
        return Some(Reader::Client);
    }
    let directors_own = ["Job", "JobDefs", "Pool", "Catalog", "FileSet", "Schedule", "Client"];
    if directors_own.into_iter().any(has) {
        return Some(Reader::Director);
    }
    if has("Device")
        || document.blocks_named("Autochanger").any(|block| block.directive("Changer Command").is_some())
    {
        return Some(Reader::Storage);
    }
    if let Some(storage) = document.blocks_named("Storage").next() {
        let director = storage.directive("Media Type").is_some();
        return Some(if director { Reader::Director } else { Reader::Storage });
    }
    if document.blocks_named("Director").any(|block| block.directive("Query File").is_some()) {
        return Some(Reader::Director);
    }
    if document.blocks_named("Director").any(|block| block.directive("Address").is_some()) {
        return Some(Reader::Console);
    }
    None
}
