//! Files of a magazine that are shown in no slot, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::identifiers::MagazineId;
use super::notice::{Notice, some_of};

/// Maximum number of files that are remembered by name.
pub(crate) const MOST_FILES: usize = 20;

/// Why a file is shown in no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unused {
    /// Bacula refuses its name, and it has no label.
    Name,
    /// It was a volume, or begins as one, and its label can't be read.
    Damaged,
    /// It begins as no volume does.
    Foreign,
    /// It can't be opened or read.
    Unreadable,
    /// Another file of the magazine has the same label.
    Twice,
}

impl Unused {
    pub(crate) fn message(self, names: &str, count: usize) -> String {
        match self {
            Self::Name => format!("{count} file(s) have names that Bacula refuses for volumes: {names}"),
            Self::Damaged => format!("{count} volume(s) have a damaged label: {names}"),
            Self::Foreign => format!("{count} file(s) hold no label of Bacula's: {names}"),
            Self::Unreadable => format!("{count} file(s) can't be read: {names}"),
            Self::Twice => format!("{count} file(s) have the label of another file there: {names}"),
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Name => {
                "they have no slots; rename them: 1 to 127 letters A to Z, digits and : . - _ are allowed"
            }
            Self::Damaged => {
                "they have no slots; put them back from a copy, or delete the volumes in Bacula's catalog and then the files"
            }
            Self::Foreign => "they have no slots; move away what is no volume",
            Self::Unreadable => {
                "they have no slots; give them to Bacula's user, and check the drive if the system reports errors of it"
            }
            Self::Twice => "they have no slots; keep one file of each volume",
        }
    }
}

/// The files of one magazine that are shown in no slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnusedFiles {
    /// The first by name.
    pub(crate) files: BTreeMap<String, Unused>,
    /// How many more there are.
    #[serde(default)]
    pub(crate) more: u32,
}

impl UnusedFiles {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn add(&mut self, file: &str, why: Unused) {
        if self.files.insert(file.escape_debug().to_string(), why).is_none() && self.files.len() > MOST_FILES
        {
            self.files.pop_last();
            self.more = self.more.saturating_add(1);
        }
    }

    /// Takes over what was known before: a damaged volume stays one when a later look finds nothing of it.
    pub(crate) fn keep_damaged(&mut self, before: &Self) {
        for (file, why) in &mut self.files {
            if *why == Unused::Foreign && before.files.get(file) == Some(&Unused::Damaged) {
                *why = Unused::Damaged;
            }
        }
    }

    /// Adds what another part of the same look found.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (file, why) in &other.files {
            self.add(file, *why);
        }
        self.more = self.more.saturating_add(other.more);
    }

    fn by_reason(&self) -> BTreeMap<Unused, Vec<&str>> {
        let mut sorted: BTreeMap<Unused, Vec<&str>> = BTreeMap::new();
        for (file, why) in &self.files {
            sorted.entry(*why).or_default().push(file);
        }
        sorted
    }

    pub(crate) fn notices(&self, id: &MagazineId) -> Vec<Notice> {
        let notice = |(why, files): (Unused, Vec<&str>)| Notice {
            magazine: Some(id.to_string()),
            message: why.message(&some_of(files.iter().copied()), files.len()),
            remedy: why.remedy().to_owned(),
        };
        let mut notices: Vec<Notice> = self.by_reason().into_iter().map(notice).collect();
        if let Some(last) = notices.last_mut().filter(|_| self.more > 0) {
            last.message.push_str(&format!("; {} more files are no volumes", self.more));
        }
        notices
    }

    /// The files that are not among those of `before`.
    pub(crate) fn news(&self, before: Option<&Self>) -> Self {
        let is_new = |(file, why): &(&String, &Unused)| before.and_then(|b| b.files.get(*file)) != Some(why);
        let files = self.files.iter().filter(is_new).map(|(file, why)| (file.clone(), *why)).collect();
        Self { files, more: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, Unused)]) -> UnusedFiles {
        let mut files = UnusedFiles::default();
        for (file, why) in list {
            files.add(file, *why);
        }
        files
    }

    #[test]
    fn of_many_files_the_first_are_named_and_all_are_counted() {
        let names: Vec<String> = (0..100).map(|number| format!("f{number:02}")).collect();
        let listed: Vec<(&str, Unused)> =
            names.iter().rev().map(|name| (name.as_str(), Unused::Foreign)).collect();
        let id = MagazineId::new("/m");
        let notices = files(&listed).notices(&id);
        let [notice] = notices.as_slice() else { panic!("{notices:?}") };
        assert_eq!(
            notice.message,
            "20 file(s) hold no label of Bacula's: f00, f01, f02 and 17 more; 80 more files are no volumes"
        );
    }

    #[test]
    fn only_what_is_new_is_news_and_a_damaged_volume_stays_one() {
        let before = files(&[("a", Unused::Damaged), ("b", Unused::Foreign)]);
        let mut now = files(&[("a", Unused::Foreign), ("b", Unused::Foreign), ("two words", Unused::Name)]);
        now.keep_damaged(&before);
        assert_eq!(now.news(Some(&before)), files(&[("two words", Unused::Name)]));
        assert_eq!(now.news(None), now);
    }
}
