//! Asking Bacula how everything is, at one go and without waking a drive.

use serde::{Deserialize, Serialize};

use super::ask_error::AskError;
use super::catalog_volumes::CatalogVolume;
use super::finished_jobs::{self, FinishedJob};
use super::wake::WaitingDrive;
use crate::changer::opened::Changer;
use crate::director::console::ConsoleError;
use crate::director::{running, table};

/// What Bacula says of jobs and volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BaculaAnswer {
    /// The drives that wait for a volume.
    pub waiting: Vec<WaitingDrive>,
    /// Of the last hundred jobs the backups that have ended, the oldest first, without their volumes. One that was
    /// cancelled because another run of the same job was waiting or running is left out.
    pub jobs: Vec<FinishedJob>,
    /// The volumes that the changer knows, as the catalog has them.
    pub volumes: Vec<CatalogVolume>,
    /// When the Director read its configuration last, in its own words and its local time, such as
    /// `29-Nov-2026 08:42:59`; none where it does not say.
    #[serde(default)]
    pub configured: Option<String>,
}

/// The command whose answer tells when the Director read its configuration.
const HEADER: &str = ".status dir header\n";

/// `Daemon started 29-Nov-26 08:42, conf reloaded 29-Nov-2026 08:42:59`, as Bacula's `dird/ua_status.c` prints it.
fn configured(output: &str) -> Option<String> {
    let mut lines = output.lines().filter(|line| line.starts_with("Daemon started "));
    lines.find_map(|line| Some(line.split_once(", conf reloaded ")?.1.trim().to_owned()))
}

impl Changer {
    /// Asks the Director which drives wait, how the last backups ended and what the catalog says of the volumes. None
    /// when the console is switched off or not installed. No magazine is touched, by the storage daemon neither.
    ///
    /// # Errors
    /// [`AskError::Console`] when the Director doesn't answer within
    /// [`Environment::console_limit`](crate::Environment::console_limit) or may not be asked all of this;
    /// [`AskError::Changer`] when the changer's state cannot be read.
    pub fn ask_bacula(&self) -> Result<Option<BaculaAnswer>, AskError> {
        let Some(console) = self.console() else { return Ok(None) };
        let script = format!("{}{HEADER}{}list volumes\nversion\n", running::DIRECTOR, finished_jobs::LIST);
        let output = console.run(&script, self.console_limit(0))?;
        if !table::is_whole(&output) {
            let command = "llist jobs, list volumes".to_owned();
            return Err(ConsoleError::Unconfirmed { command, output }.into());
        }
        Ok(Some(BaculaAnswer {
            waiting: self.waits_by(&console, &output)?,
            jobs: finished_jobs::finished(&output),
            volumes: self.own_volumes(&output)?,
            configured: configured(&output),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_director_says_when_it_read_its_configuration() {
        let header = "backup-dir Version: 9.6.7 (10 December 2020) x86_64-pc-linux-gnu debian bookworm/sid\n\
            Daemon started 29-Nov-26 08:42, conf reloaded 29-Nov-2026 08:42:59\n Jobs: run=1, running=0 mode=0,0\n";
        assert_eq!(configured(header).as_deref(), Some("29-Nov-2026 08:42:59"));
        assert_eq!(configured("Daemon started 29-Nov-26 08:42. Jobs: run=0\n"), None);
    }
}
