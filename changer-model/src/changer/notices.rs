//! What a person should know of a changer although nothing failed.

use super::opened::{Changer, ChangerError};
use super::view::View;
use crate::config::IgnoredLine;
use crate::files::log::Log;
use crate::library::notice::Notice;

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
