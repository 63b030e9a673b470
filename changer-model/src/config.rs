//! vchanger.conf of both generations: 1.x (`Storage Resource`, `Work Dir`) and 0.8 (`changer_name`, `work_dir`).
//!
//! Keys and defaults are those of the manual pages of vchanger 1.0.3 and 0.8.6. In a 1.x key case and blanks do
//! not count; in a 0.8 key case does not. The first key that only one generation knows decides which one the
//! file is of; `Logfile` and `Magazine` are in both.

pub(crate) mod generation;
mod keys;
mod problem;
mod syntax;

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use environment::below;
use generation::Generation;
use keys::{Key, generation_of, key_of};
use syntax::Entry;

use crate::library::bays::BayLayout;
use crate::library::identifiers::{DriveIndex, MagazineId};

pub use problem::{ConfigError, ConfigProblem, Position};

/// Maximum of a configuration, in bytes.
const LONGEST: u64 = 1 << 20;

/// A magazine as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MagazineSource {
    /// A file system's UUID, in lower case.
    Uuid(String),
    /// A directory.
    Directory(PathBuf),
    /// A line that names no magazine, as it stands there. It keeps its place among the others and is never there.
    Unusable(String),
}

impl MagazineSource {
    /// The magazine's lasting name.
    pub fn id(&self) -> MagazineId {
        match self {
            Self::Uuid(uuid) => MagazineId::new(&format!("UUID:{uuid}")),
            Self::Directory(path) => MagazineId::new(&path.to_string_lossy()),
            Self::Unusable(text) => MagazineId::unusable(text),
        }
    }
}

impl fmt::Display for MagazineSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// A magazine and where its files are, when that is known without asking the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MagazineSetting {
    pub(crate) id: MagazineId,
    pub(crate) directory: Option<PathBuf>,
}

/// How Bacula's console is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSetting {
    /// The program; one without a directory is looked for where a system has its programs.
    pub program: PathBuf,
    /// Its configuration (`-c`).
    pub config: Option<PathBuf>,
    /// The program was named in the file, so that its absence is an error.
    pub explicit: bool,
}

/// A name that was configured or is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user's or group's name.
    pub(crate) name: String,
    /// It was asked for, so that a missing account is an error.
    pub(crate) explicit: bool,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) file: PathBuf,
    pub(crate) generation: Generation,
    pub(crate) storage: String,
    pub(crate) work_dir: PathBuf,
    pub(crate) logfile: Option<(PathBuf, bool)>,
    pub(crate) log_level: u8,
    pub(crate) user: Account,
    pub(crate) group: Account,
    pub(crate) console: Option<ConsoleSetting>,
    pub(crate) pool: String,
    pub(crate) magazines: Vec<MagazineSource>,
    pub(crate) automount_dir: Option<PathBuf>,
    pub(crate) layout: Option<BayLayout>,
    pub(crate) keys: Vec<&'static str>,
    pub(crate) ignored: Vec<IgnoredLine>,
}

/// A line that can't be used and that a changer can do its work without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredLine {
    /// Where its value stands.
    pub position: Position,
    /// What is wrong and what would be right.
    pub problem: ConfigProblem,
}

impl Config {
    /// Reads and checks a file; an absolute `path` is taken below `root`.
    ///
    /// # Errors
    /// [`ConfigError`], naming line and column where there is one.
    pub fn load(root: &Path, path: &Path) -> Result<Self, ConfigError> {
        let actual = below(root, path);
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(&actual).map_err(unreadable)?;
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LONGEST {
            return Err(unreadable(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {LONGEST} bytes"),
            )));
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Cow::Owned(text) = &text {
            // Comments may be in any encoding. A name or a path has to be known byte for byte.
            let entries = syntax::parse(text).unwrap_or_default();
            let broken = entries.iter().find(|entry| entry.value.contains(char::REPLACEMENT_CHARACTER));
            if let Some(entry) = broken {
                let (position, problem) = (entry.value_at, ConfigProblem::NotUtf8);
                return Err(ConfigError::Invalid { path: path.to_owned(), position, problem });
            }
        }
        Self::parse(path, &text)
    }

    /// Checks a file's text; `file` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`], naming line and column where there is one.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |(position, problem)| ConfigError::Invalid { path: file.to_owned(), position, problem };
        let entries = syntax::parse(text).map_err(invalid)?;
        let generation = entries.iter().find_map(|e| generation_of(&e.key)).unwrap_or(Generation::V1);
        let mut draft = Draft::default();
        for entry in &entries {
            let key = key_of(generation, &entry.key).map_err(|problem| invalid((entry.key_at, problem)))?;
            match draft.set(generation, key, entry) {
                Err(problem) if draft.can_do_without(key.1, entry) => {
                    draft.ignored.push(IgnoredLine { position: entry.value_at, problem });
                }
                set => set.map_err(|problem| invalid((entry.value_at, problem)))?,
            }
            if !draft.keys.contains(&key.0) {
                draft.keys.push(key.0);
            }
        }
        let has_none = draft.magazines.iter().all(|source| matches!(source, MagazineSource::Unusable(_)));
        if let Some(line) = draft.ignored.iter().find(|line| line.problem.is_of("magazine"))
            && has_none
        {
            return Err(invalid((line.position, line.problem.clone())));
        }
        draft
            .finish(file, generation)
            .map_err(|problem| ConfigError::Incomplete { path: file.to_owned(), problem })
    }

    /// The keys that the file sets, each once, as vchanger's manual spells them.
    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }

    /// The lines that can't be used and were left out, in the file's order.
    pub fn ignored(&self) -> &[IgnoredLine] {
        &self.ignored
    }

    /// The file it was read from, as it was named.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Which vchanger the file was written for.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The name of Bacula's Storage resource (0.8: the changer's name).
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// The directory of the state and of the drives' links, not yet below any root.
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The magazines in the file's order, each once.
    pub fn magazines(&self) -> &[MagazineSource] {
        &self.magazines
    }

    pub(crate) fn settings(&self) -> Vec<MagazineSetting> {
        let setting = |source: &MagazineSource| MagazineSetting {
            id: source.id(),
            directory: match source {
                MagazineSource::Uuid(uuid) => self.automount_dir.as_ref().map(|parent| parent.join(uuid)),
                MagazineSource::Directory(path) => Some(path.clone()),
                MagazineSource::Unusable(_) => None,
            },
        };
        self.magazines.iter().map(setting).collect()
    }

    /// The pool new volumes are labelled into.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Whether a text may name a pool in a console command.
    pub(crate) fn is_pool_name(text: &str) -> bool {
        resource_name("pool", text).is_ok()
    }

    /// Bacula's console, unless it is switched off.
    pub fn console(&self) -> Option<&ConsoleSetting> {
        self.console.as_ref()
    }

    /// The user the changer runs as when root starts it, if the file names one; vchanger's default is `bacula`.
    pub fn user(&self) -> Option<&str> {
        self.user.explicit.then_some(self.user.name.as_str())
    }

    /// The group the changer runs as when root starts it, if the file names one; vchanger's default is `tape`.
    pub fn group(&self) -> Option<&str> {
        self.group.explicit.then_some(self.group.name.as_str())
    }

    /// Bays and slots of a 0.8 configuration.
    pub fn layout(&self) -> Option<BayLayout> {
        self.layout
    }
}

#[derive(Default)]
struct Draft {
    name: Option<String>,
    work_dir: Option<PathBuf>,
    /// empty: switched off
    logfile: Option<PathBuf>,
    log_level: Option<u8>,
    user: Option<String>,
    group: Option<String>,
    /// empty: switched off
    bconsole: Option<PathBuf>,
    bconsole_config: Option<PathBuf>,
    pool: Option<String>,
    magazines: Vec<MagazineSource>,
    virtual_drives: Option<u32>,
    slots_per_magazine: Option<u32>,
    magazine_bays: Option<u32>,
    automount_dir: Option<PathBuf>,
    keys: Vec<&'static str>,
    ignored: Vec<IgnoredLine>,
}

impl Draft {
    /// Whether a line that can't be used may be left out: what loads volumes for a job must not stop for it. One of
    /// several magazines keeps its place, for `createvols` counts them.
    fn can_do_without(&mut self, key: Key, entry: &Entry) -> bool {
        let text = &entry.value;
        match key {
            Key::Magazine if !text.is_empty() => {
                let source = MagazineSource::Unusable(text.clone());
                if !self.magazines.contains(&source) {
                    self.magazines.push(source);
                }
                true
            }
            Key::Bconsole | Key::BconsoleConfig | Key::LogLevel => !text.is_empty(),
            _ => false,
        }
    }

    fn set(
        &mut self,
        generation: Generation,
        (manual, key): (&'static str, Key),
        entry: &Entry,
    ) -> Result<(), ConfigProblem> {
        let value = entry.value.as_str();
        let text = || if value.is_empty() { Err(ConfigProblem::Empty { key: manual }) } else { Ok(value) };
        match key {
            Key::Name => self.name = Some(resource_name(manual, text()?)?),
            Key::WorkDir => self.work_dir = Some(absolute(manual, text()?)?),
            Key::Logfile => self.logfile = Some(PathBuf::from(value)),
            Key::LogLevel => self.log_level = log_level(generation, manual, text()?)?.or(self.log_level),
            Key::User => self.user = Some(text()?.to_owned()),
            Key::Group => self.group = Some(text()?.to_owned()),
            Key::Bconsole if value.is_empty() => self.bconsole = Some(PathBuf::new()),
            Key::Bconsole => self.bconsole = Some(program(manual, value)?),
            Key::BconsoleConfig if value.is_empty() => self.bconsole_config = None,
            Key::BconsoleConfig => self.bconsole_config = Some(absolute(manual, value)?),
            Key::DefaultPool => self.pool = Some(resource_name(manual, text()?)?),
            Key::Magazine if value.is_empty() && !entry.quoted => {}
            Key::Magazine => {
                let id = MagazineId::new(text()?);
                let source = match id.uuid() {
                    Some(uuid) => MagazineSource::Uuid(checked_uuid(manual, value, uuid)?),
                    None if is_fstab_uuid(value) => return Err(bad(manual, UUID_VALUE, value)),
                    None => MagazineSource::Directory(absolute(manual, id.as_str())?),
                };
                if !self.magazines.contains(&source) {
                    self.magazines.push(source);
                }
            }
            Key::VirtualDrives => {
                self.virtual_drives = Some(number(manual, value, 1, DriveIndex::HIGHEST)?);
            }
            Key::SlotsPerMagazine => {
                self.slots_per_magazine = Some(number(manual, value, 1, BayLayout::MOST_SLOTS)?);
            }
            Key::MagazineBays => self.magazine_bays = Some(number(manual, value, 1, BayLayout::MOST_BAYS)?),
            Key::AutomountDir => self.automount_dir = Some(absolute(manual, text()?)?),
        }
        Ok(())
    }

    fn finish(self, file: &Path, generation: Generation) -> Result<Config, ConfigProblem> {
        if self.magazines.is_empty() {
            return Err(ConfigProblem::NoMagazine);
        }
        let layout = match generation {
            Generation::V1 => None,
            Generation::V08 => Some(self.bay_layout()?),
        };
        let storage = self.name.unwrap_or_else(|| "vchanger".to_owned());
        let file_name = storage.replace('/', "_");
        let work_dir = self.work_dir.unwrap_or_else(|| match generation {
            Generation::V08 => Path::new("/var/lib/bacula").join(&file_name),
            Generation::V1 => Path::new("/var/spool/vchanger").join(&file_name),
        });
        let logfile = match (self.logfile, generation) {
            (None, Generation::V08) => None,
            (Some(path), _) if path.as_os_str().is_empty() => None,
            (Some(path), _) => Some((work_dir.join(path), true)),
            (None, Generation::V1) => {
                Some((Path::new("/var/log/vchanger").join(format!("{file_name}.log")), false))
            }
        };
        let console = match (self.bconsole, generation) {
            (None, Generation::V08) => None,
            (Some(program), _) if program.as_os_str().is_empty() => None,
            (Some(program), _) => {
                Some(ConsoleSetting { program, config: self.bconsole_config, explicit: true })
            }
            (None, Generation::V1) => Some(ConsoleSetting {
                program: PathBuf::from("/usr/sbin/bconsole"),
                config: self.bconsole_config,
                explicit: false,
            }),
        };
        let account = |name: Option<String>, default: &str| Account {
            explicit: name.is_some(),
            name: name.unwrap_or_else(|| default.to_owned()),
        };
        Ok(Config {
            file: file.to_owned(),
            generation,
            storage,
            work_dir,
            logfile,
            log_level: self.log_level.unwrap_or(3),
            user: account(self.user, "bacula"),
            group: account(self.group, "tape"),
            console,
            pool: self.pool.unwrap_or_else(|| "Scratch".to_owned()),
            magazines: self.magazines,
            automount_dir: self.automount_dir,
            layout,
            keys: self.keys,
            ignored: self.ignored,
        })
    }

    fn bay_layout(&self) -> Result<BayLayout, ConfigProblem> {
        let layout = BayLayout {
            bays: self.magazine_bays.unwrap_or(1),
            slots_per_magazine: self.slots_per_magazine.unwrap_or(10),
            virtual_drives: self.virtual_drives.unwrap_or(1),
        };
        let slots = layout.bays * layout.slots_per_magazine;
        if layout.virtual_drives > slots {
            return Err(ConfigProblem::BadValue {
                key: "virtual_drives",
                expected: format!("at most the number of slots, {slots}"),
                found: layout.virtual_drives.to_string(),
            });
        }
        if self.magazines.len() > 128 {
            return Err(ConfigProblem::BadValue {
                key: "magazine",
                expected: "given at most 128 times".to_owned(),
                found: self.magazines.len().to_string(),
            });
        }
        Ok(layout)
    }
}

fn bad(key: &'static str, expected: impl Into<String>, found: &str) -> ConfigProblem {
    ConfigProblem::BadValue { key, expected: expected.into(), found: found.to_owned() }
}

fn number(key: &'static str, text: &str, lowest: u32, highest: u32) -> Result<u32, ConfigProblem> {
    text.parse()
        .ok()
        .filter(|n| (lowest..=highest).contains(n))
        .ok_or_else(|| bad(key, format!("a number from {lowest} to {highest}"), text))
}

fn absolute(key: &'static str, text: &str) -> Result<PathBuf, ConfigProblem> {
    if text.starts_with('/') && !text.chars().any(char::is_control) {
        Ok(PathBuf::from(text))
    } else {
        Err(bad(key, "an absolute path without control characters", text))
    }
}

/// A program by its path, or by its name alone as vchanger takes it.
fn program(key: &'static str, text: &str) -> Result<PathBuf, ConfigProblem> {
    let is_name = !text.contains('/') && text != "." && text != ".." && !text.chars().any(char::is_control);
    if is_name { Ok(PathBuf::from(text)) } else { absolute(key, text) }
}

/// The UUID becomes a file's name below /dev/disk/by-uuid, so it may hold nothing else than UUIDs do.
fn checked_uuid(key: &'static str, value: &str, uuid: &str) -> Result<String, ConfigProblem> {
    if !uuid.is_empty() && uuid.len() <= 64 && uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Ok(uuid.to_owned())
    } else {
        Err(bad(key, UUID_VALUE, value))
    }
}

const UUID_VALUE: &str = "'UUID:' and a file system's UUID (see blkid)";

/// `UUID=...`, as fstab has it.
fn is_fstab_uuid(value: &str) -> bool {
    value.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("uuid="))
}

/// Bacula's own rule for the names of resources (`is_name_valid`), so that they can stand in a console command.
fn resource_name(key: &'static str, text: &str) -> Result<String, ConfigProblem> {
    let legal =
        text.len() <= 127 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-_/ ".contains(&b));
    if legal {
        Ok(text.to_owned())
    } else {
        Err(bad(key, "a name Bacula allows (at most 127 letters, digits, blanks and : . - _ /)", text))
    }
}

const LEVELS: [&[&str]; 8] = [
    &["LOG_EMERG"],
    &["LOG_ALERT"],
    &["LOG_CRIT"],
    &["LOG_ERR", "LOG_ERROR"],
    &["LOG_WARNING", "LOG_WARN"],
    &["LOG_NOTICE"],
    &["LOG_INFO"],
    &["LOG_DEBUG"],
];

fn log_level(generation: Generation, key: &'static str, text: &str) -> Result<Option<u8>, ConfigProblem> {
    let by_name = || LEVELS.iter().position(|names| names.iter().any(|name| name.eq_ignore_ascii_case(text)));
    let level = text.parse::<usize>().ok().filter(|n| *n < LEVELS.len()).or_else(by_name);
    match (level.and_then(|n| u8::try_from(n).ok()), generation) {
        (Some(level), _) => Ok(Some(level)),
        (None, Generation::V08) => Ok(None),
        (None, Generation::V1) => Err(bad(key, "a number from 0 to 7 or a name such as LOG_ERR", text)),
    }
}

pub(crate) mod environment;
#[cfg(test)]
mod tests;
