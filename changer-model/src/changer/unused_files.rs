//! Files of a magazine that are shown in no slot though they may be meant as volumes.
//!
//! vchanger took every file for a volume. Here one that Bacula could not use has no slot; that it is there is
//! remembered, so that a person hears of it.

use super::opened::Changer;
use super::view::View;
use crate::library::notice::Notice;
use crate::library::state::State;

impl Changer {
    /// What to do about files that are no volumes.
    pub(crate) fn unused_files(view: &View) -> Vec<Notice> {
        view.state.magazines.iter().flat_map(|(id, record)| record.unused.notices(id)).collect()
    }

    /// Has the log tell which files turned out to be no volumes.
    pub(crate) fn remark_unused(&self, before: Option<&State>, now: &State) {
        for (id, record) in &now.magazines {
            let known = before.and_then(|state| state.magazines.get(id)).map(|record| &record.unused);
            for notice in record.unused.news(known).notices(id) {
                self.remark(format!("magazine {id}: {}; {}", notice.message, notice.remedy));
            }
        }
    }
}
