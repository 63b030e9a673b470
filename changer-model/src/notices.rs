//! What a person should know of a changer although nothing failed.

use serde::{Deserialize, Serialize};

use crate::changer::{Changer, ChangerError, View};
use crate::config::IgnoredLine;
use crate::log::Log;

/// Something that a person should know although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// The magazine that it is about, as the configuration names it.
    pub magazine: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// Maximum number of names in a notice.
const MOST_NAMES: usize = 3;

impl Changer {
    /// All that there is to say of a changer, by what is remembered of it.
    pub(crate) fn notices(&self, view: &View) -> Result<Vec<Notice>, ChangerError> {
        let mut notices = self.configuration_notices();
        notices.extend(self.failed_volumes(view)?);
        notices.extend(self.interrupted_jobs()?);
        notices.extend(Self::unused_files(view));
        Ok(notices)
    }

    /// What of the configuration can't be used.
    fn configuration_notices(&self) -> Vec<Notice> {
        let lines = self.config.ignored().iter().map(|line| Notice {
            magazine: None,
            message: self.left_out(line),
            remedy: "correct the line".to_owned(),
        });
        let log = Log::problem(&self.config, &self.env).map(|error| Notice {
            magazine: None,
            message: format!("the changer can't write its log: {error}: {}", error.source),
            remedy: "make room, or give the file and its directory to the user that the changer runs as"
                .to_owned(),
        });
        lines.chain(log).collect()
    }

    /// Tells of a line of the configuration that is not used.
    pub(crate) fn left_out(&self, line: &IgnoredLine) -> String {
        format!("{}:{}: {}; the line is left out", self.config.path().display(), line.position, line.problem)
    }
}

/// The first of some names, and how many more there are.
pub(crate) fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown: Vec<&str> = names.take(MOST_NAMES).collect();
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_some_are_shown() {
        assert_eq!(some_of(["a", "b"].into_iter()), "a, b");
        assert_eq!(some_of(["a", "b", "c", "d", "e"].into_iter()), "a, b, c and 2 more");
    }
}
