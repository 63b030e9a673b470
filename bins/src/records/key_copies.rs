//! When a copy of a key was made and when one was tested, so that `doctor` can ask for it before the day of the fire.

use std::collections::BTreeMap;

use jiff::Timestamp;
use luks_core::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::base::atomic_file;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;

/// Maximum number of keys that are remembered; those of which nothing was heard for longest are forgotten.
const MOST_KEYS: usize = 16;

/// What is known of the copies of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Copies {
    /// When one was made by `offsite key export` last.
    pub exported: Option<Timestamp>,
    /// When one was proven to open the drives last.
    pub tested: Option<Timestamp>,
}

/// What was done with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was written.
    Exported,
    /// It was brought back, and opened what it must open.
    Tested,
}

type Record = BTreeMap<String, Copies>;

fn load(root: &Root) -> Record {
    let text = std::fs::read_to_string(root.key_copies()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// What is known of the copies of a key.
pub fn of(root: &Root, key: Fingerprint) -> Copies {
    load(root).get(&key.to_string()).copied().unwrap_or_default()
}

/// Takes note, where there is a site. What was done with the copy is done, so a note that can't be taken is only said.
pub fn note(root: &Root, key: Fingerprint, done: Done) {
    if !root.site_toml().exists() {
        return;
    }
    if let Err(failure) = note_at(root, key, done, Timestamp::now()) {
        eprintln!("warning: `offsite doctor` will not know of this copy: {}", failure.message());
    }
}

fn note_at(root: &Root, key: Fingerprint, done: Done, now: Timestamp) -> Result<(), Failure> {
    let mut record = load(root);
    let copies = record.entry(key.to_string()).or_default();
    match done {
        Done::Exported => copies.exported = Some(now),
        Done::Tested => copies.tested = Some(now),
    }
    while record.len() > MOST_KEYS {
        let oldest = record.iter().min_by_key(|(_, copies)| copies.exported.max(copies.tested));
        let Some(oldest) = oldest.map(|(print, _)| print.clone()) else { break };
        record.remove(&oldest);
    }
    if !root.state_dir().exists() {
        atomic_file::directory(&root.state_dir(), 0o755)?;
    }
    let text = serde_json::to_vec(&record).or_fail("cannot write JSON")?;
    atomic_file::replace(&root.key_copies(), 0o600, &text)
}

#[cfg(test)]
mod tests {
    use luks_core::Secret;

    use super::*;

    fn key(byte: u8) -> Fingerprint {
        Secret::from_bytes(vec![byte; 64]).fingerprint()
    }

    #[test]
    fn each_key_has_its_own_times_and_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(of(&root, key(1)), Copies::default());
        note_at(&root, key(1), Done::Exported, at(5)).unwrap();
        note_at(&root, key(1), Done::Tested, at(7)).unwrap();
        assert_eq!(of(&root, key(1)), Copies { exported: Some(at(5)), tested: Some(at(7)) });
        assert_eq!(of(&root, key(2)), Copies::default());
        for number in 2..40 {
            note_at(&root, key(number), Done::Exported, at(100 + i64::from(number))).unwrap();
        }
        assert_eq!(load(&root).len(), MOST_KEYS);
        assert_eq!((of(&root, key(1)), of(&root, key(39)).exported), (Copies::default(), Some(at(139))));
        std::fs::write(root.key_copies(), "{").unwrap();
        assert_eq!(of(&root, key(39)), Copies::default(), "what can't be read is not known");
    }
}
