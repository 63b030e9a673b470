//! The keys of both generations, as the manual pages of vchanger 1.0.3 and 0.8.6 spell them.

use super::ConfigProblem;
use super::generation::Generation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name,
    WorkDir,
    Logfile,
    LogLevel,
    User,
    Group,
    Bconsole,
    BconsoleConfig,
    DefaultPool,
    Magazine,
    VirtualDrives,
    SlotsPerMagazine,
    MagazineBays,
    AutomountDir,
}

/// Normalized spelling, how the manual spells it, meaning.
type KeyTable = &'static [(&'static str, &'static str, Key)];

const KEYS_V1: KeyTable = &[
    ("storageresource", "Storage Resource", Key::Name),
    ("workdir", "Work Dir", Key::WorkDir),
    ("logfile", "Logfile", Key::Logfile),
    ("loglevel", "Log Level", Key::LogLevel),
    ("user", "User", Key::User),
    ("group", "Group", Key::Group),
    ("bconsole", "bconsole", Key::Bconsole),
    ("bconsoleconfig", "bconsole config", Key::BconsoleConfig),
    ("defaultpool", "Default Pool", Key::DefaultPool),
    ("magazine", "Magazine", Key::Magazine),
];

const KEYS_V08: KeyTable = &[
    ("changer_name", "changer_name", Key::Name),
    ("work_dir", "work_dir", Key::WorkDir),
    ("state_dir", "work_dir", Key::WorkDir),
    ("logfile", "logfile", Key::Logfile),
    ("log_level", "log_level", Key::LogLevel),
    ("virtual_drives", "virtual_drives", Key::VirtualDrives),
    ("slots_per_magazine", "slots_per_magazine", Key::SlotsPerMagazine),
    ("magazine_bays", "magazine_bays", Key::MagazineBays),
    ("automount_dir", "automount_dir", Key::AutomountDir),
    ("magazine", "magazine", Key::Magazine),
];

fn normalized(generation: Generation, key: &str) -> String {
    let keep_blanks = generation == Generation::V08;
    key.chars().filter(|c| keep_blanks || !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

fn table(generation: Generation) -> KeyTable {
    match generation {
        Generation::V08 => KEYS_V08,
        Generation::V1 => KEYS_V1,
    }
}

fn find(generation: Generation, key: &str) -> Option<(&'static str, Key)> {
    let wanted = normalized(generation, key);
    table(generation)
        .iter()
        .find(|(spelling, ..)| *spelling == wanted)
        .map(|(_, manual, key)| (*manual, *key))
}

pub(super) fn generation_of(key: &str) -> Option<Generation> {
    match (find(Generation::V08, key), find(Generation::V1, key)) {
        (Some(_), None) => Some(Generation::V08),
        (None, Some(_)) => Some(Generation::V1),
        _ => None,
    }
}

pub(super) fn key_of(generation: Generation, key: &str) -> Result<(&'static str, Key), ConfigProblem> {
    if let Some(found) = find(generation, key) {
        return Ok(found);
    }
    let other = match generation {
        Generation::V08 => Generation::V1,
        Generation::V1 => Generation::V08,
    };
    if let Some((_, meaning)) = find(other, key) {
        let instead = table(generation)
            .iter()
            .find(|(.., candidate)| *candidate == meaning)
            .map(|(_, manual, _)| (*manual).to_owned());
        return Err(ConfigProblem::OtherGeneration {
            key: key.to_owned(),
            theirs: other,
            ours: generation,
            instead,
        });
    }
    let wanted = normalized(generation, key);
    let suggestion = table(generation)
        .iter()
        .map(|(spelling, manual, _)| (strsim::damerau_levenshtein(&wanted, spelling), *manual))
        .min()
        .filter(|(distance, manual)| *distance <= manual.len().div_ceil(3))
        .map(|(_, manual)| manual.to_owned());
    Err(ConfigProblem::UnknownKey { key: key.to_owned(), suggestion })
}
