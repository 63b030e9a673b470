//! The last backup on each drive: asked of the Director when a drive has come to rest, and kept, so that it can be told
//! while the drive is away and the Director down.

use std::collections::BTreeMap;

use changer_model::{FinishedJob, MagazineStatus};
use serde::{Deserialize, Serialize};

use crate::as_bacula::Asker;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::paths::Root;
use crate::site::Site;

/// What is known of backups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The highest number of a job that was asked for.
    asked: u32,
    /// By the filesystem's UUID.
    last: BTreeMap<String, FinishedJob>,
}

impl History {
    /// Reads what was noted; what can't be read is asked for anew.
    pub fn load(root: &Root) -> Self {
        let text = std::fs::read_to_string(root.last_jobs()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The last backup on a drive.
    pub fn last(&self, fs_uuid: &str) -> Option<&FinishedJob> {
        self.last.get(fs_uuid)
    }

    fn add(&mut self, job: &FinishedJob, magazines: &[MagazineStatus]) {
        self.asked = self.asked.max(job.id);
        for magazine in magazines.iter().filter(|m| m.volumes.iter().any(|v| job.volumes.contains(&v.label)))
        {
            // UUID:..., or the directory that is called by the UUID
            let fs_uuid = magazine.id.rsplit(['/', ':']).next().unwrap_or_default();
            self.last.insert(fs_uuid.to_owned(), job.clone());
        }
    }
}

/// Asks the Director for the backups since the last time, and notes on which drives they lie.
pub fn look(root: &Root) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let Some(asker) = Asker::new(root, &site) else { return Ok(()) };
    let Ok(status) = asker.changer() else { return Ok(()) };
    let mut history = History::load(root);
    let before = history.clone();
    for job in asker.finished_jobs(history.asked).or_fail("the last backups are not known")? {
        history.add(&job, &status.magazines);
    }
    if history == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&history).or_fail("cannot write JSON")?;
    durable::replace(&root.last_jobs(), 0o644, &text)
}
