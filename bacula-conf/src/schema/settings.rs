//! The resources of installed files with types: what is set, and what Bacula takes where nothing is.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::resources::{Resource, Set};
use super::setting::{Setting, read, read_default};
use super::spec::Kind;
use crate::schema;
use crate::syntax::tree::{Block, Document, Item, same_key};
use crate::values::program::Program;
use crate::values::units::{Period, Size};

/// A resource with the meaning of its directives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Settings {
    /// The program that reads it.
    pub program: Program,
    /// The type as the manual spells it, e.g. `FileSet`; as it is written, if no program knows it.
    pub kind: String,
    /// Its name; groups such as `RunScript` have none.
    pub name: String,
    /// The file that it begins in.
    pub file: PathBuf,
    /// What is set here or in the job's defaults, by names as Bacula's own JSON spells them.
    pub set: Vec<(&'static str, Setting)>,
    /// Directives that are not known, or whose value can't be read: their names as written. They are kept as they are.
    pub unknown: Vec<String>,
    /// The groups inside, e.g. `RunScript`, `Include`, `Options`.
    pub groups: Vec<Settings>,
    #[serde(skip)]
    defaults: Vec<(&'static str, Kind, &'static str)>,
}

impl Settings {
    /// What a directive is set to, or else Bacula's default; case and blanks in the name don't matter.
    pub fn get(&self, key: &str) -> Option<Setting> {
        let set = self.set.iter().rev().find(|(name, _)| same_key(name, key));
        set.map(|(_, setting)| setting.clone()).or_else(|| {
            let (_, kind, text) = self.defaults.iter().find(|(name, _, _)| same_key(name, key))?;
            read_default(*kind, text)
        })
    }

    /// Whether a directive is set here, or in the job's defaults.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|(name, _)| same_key(name, key))
    }

    /// A text, a name, a path or a keyword.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A duration.
    pub fn period(&self, key: &str) -> Option<Period> {
        match self.get(key)? {
            Setting::Period(period) => Some(period),
            _ => None,
        }
    }

    /// A number of bytes.
    pub fn size(&self, key: &str) -> Option<Size> {
        match self.get(key)? {
            Setting::Size(size) => Some(size),
            _ => None,
        }
    }

    /// A number without a unit.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Setting::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Yes or no.
    pub fn yes(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Setting::YesNo(yes) => Some(yes),
            _ => None,
        }
    }

    /// The entries of a list, from all the lines that add to it.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let lines = self.set.iter().filter(|(name, _)| same_key(name, key));
        lines
            .flat_map(|(_, setting)| match setting {
                Setting::Texts(texts) => texts.clone(),
                Setting::Text(text) => vec![text.clone()],
                _ => Vec::new(),
            })
            .collect()
    }
}

/// Reads the resources of a site's files; what can't be parsed is left out, [`crate::check`] says why.
///
/// # Examples
/// ```
/// use bacula_conf::{Period, Program, settings};
///
/// let text = "Pool {\n  Name = Weekly\n  Pool Type = Backup\n  Volume Use Duration = 2 h\n  Colour = red\n}\n";
/// let all = settings(&[("/etc/bacula/bacula-dir.conf".into(), text.into())]);
/// let pool = &all[0];
/// assert_eq!((pool.program, pool.kind.as_str(), pool.name.as_str()), (Program::Director, "Pool", "Weekly"));
/// assert_eq!(pool.period("VolumeUseDuration"), Some(Period::hours(2)));
/// assert_eq!(pool.period("Volume Retention"), Some(Period::days(365)), "Bacula's default");
/// assert_eq!(pool.unknown, ["Colour"]);
/// ```
pub fn settings(files: &[(PathBuf, String)]) -> Vec<Settings> {
    let parsed: Vec<Option<Document>> = files.iter().map(|(_, text)| text.parse().ok()).collect();
    let set = Set::new(files, &parsed);
    set.resources.iter().map(|resource| understand(&set, resource)).collect()
}

fn understand(set: &Set<'_>, resource: &Resource<'_>) -> Settings {
    let path = set.paths.get(resource.file).copied().unwrap_or(Path::new(""));
    let found = schema::resource(resource.program, resource.block.name());
    let mut settings = Settings {
        program: resource.program,
        kind: found.map_or(resource.block.name(), |found| found.name).to_owned(),
        name: resource.name().to_owned(),
        file: path.to_owned(),
        set: Vec::new(),
        unknown: Vec::new(),
        groups: Vec::new(),
        defaults: found.map(defaults).unwrap_or_default(),
    };
    fill(&mut settings, found, resource.items());
    let job = resource.program == Program::Director && resource.block.is("Job");
    let shared = || set.named(Program::Director, "JobDefs", resource.text("JobDefs")?);
    if let Some(shared) = job.then(shared).flatten() {
        let inherited = understand(set, shared);
        for (name, setting) in inherited.set {
            if name != "Name" && !settings.is_set(name) {
                settings.set.push((name, setting));
            }
        }
        if !settings.groups.iter().any(|group| group.kind == "RunScript") {
            settings.groups.extend(inherited.groups);
        }
    }
    settings
}

fn defaults(resource: &schema::Resource) -> Vec<(&'static str, Kind, &'static str)> {
    resource.specs().filter_map(|spec| Some((spec.name, spec.kind, spec.default?))).collect()
}

fn fill<'a>(settings: &mut Settings, kind: Option<&schema::Resource>, items: impl Iterator<Item = &'a Item>) {
    for item in items {
        match item {
            Item::Directive(directive) => {
                let spec = kind.and_then(|kind| kind.spec(directive.key()));
                match spec.and_then(|spec| Some((spec.canonical(), read(spec.kind, directive.value()).ok()?)))
                {
                    Some(known) => settings.set.push(known),
                    None => settings.unknown.push(directive.key().to_owned()),
                }
            }
            Item::Block(block) => {
                let spec = kind.and_then(|kind| kind.spec(block.name()));
                settings.groups.push(group(settings, spec.map(|spec| spec.kind), block));
            }
            Item::Include(_) => {}
        }
    }
}

fn group(around: &Settings, kind: Option<Kind>, block: &Block) -> Settings {
    let found = kind.and_then(schema::group);
    // An address list's groups are named by protocol; its directives are not looked at.
    let known = found.is_some() || kind == Some(Kind::Addresses);
    let mut settings = Settings {
        program: around.program,
        kind: block.name().split_whitespace().collect(),
        name: String::new(),
        file: around.file.clone(),
        set: Vec::new(),
        unknown: if known { Vec::new() } else { vec![block.name().to_owned()] },
        groups: Vec::new(),
        defaults: found.as_ref().map(defaults).unwrap_or_default(),
    };
    if let Some(found) = found {
        fill(&mut settings, Some(&found), block.items().iter());
    }
    settings
}
