//! Before a magazine is taken out by hand: which jobs use it, and having the storage daemon let go of its volumes.
//!
//! The wording is that of Bacula's `stored/dircmd.c` (seen with 9.6.7).

use serde::{Deserialize, Serialize};

use crate::changer::opened::Changer;
use crate::director::console::ConsoleError;
use crate::director::running::{self, DirectorState};
use crate::library::identifiers::{DriveIndex, Slot};

/// A job that runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunningJob {
    /// Its number in the catalog.
    pub id: u32,
    /// Its name, without the time that makes it unique.
    pub name: String,
    /// What it does with volumes.
    pub doing: JobDoing,
}

/// What a job does with volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobDoing {
    /// It is being started; which volume it takes isn't known yet.
    Starting,
    /// It writes this volume, or waits for it.
    Writes(String),
    /// It reads this volume, or waits for it.
    Reads(String),
    /// It waits until there is a volume that it may write.
    WaitsForAny,
}

impl Changer {
    /// Asks the Director which jobs use the storage daemon's volumes or are about to; none when the console is switched
    /// off or not installed.
    ///
    /// # Errors
    /// [`ConsoleError`] when the Director doesn't answer within the environment's limit, or not for its storage daemon.
    pub fn running_jobs(&self) -> Result<Option<Vec<RunningJob>>, ConsoleError> {
        let Some(console) = self.console() else { return Ok(None) };
        let command = running::storage(self.config.storage());
        let output = console.run(&format!("{command}{}", running::DIRECTOR), self.env.console_limit)?;
        match jobs(&output) {
            Some(jobs) => Ok(Some(jobs)),
            None => Err(ConsoleError::Unconfirmed { command: command.trim_end().to_owned(), output }),
        }
    }

    /// Has the storage daemon let go of the volume that a drive holds and unload it; the next job loads what it needs
    /// by itself. Nothing is done when the console is switched off.
    ///
    /// # Errors
    /// [`ConsoleError::Unconfirmed`] when a job uses the drive.
    pub fn release_drive(&self, drive: DriveIndex, slot: Slot) -> Result<(), ConsoleError> {
        let Some(console) = self.console() else { return Ok(()) };
        let command = release(self.config.storage(), drive, slot);
        let output = console.run(&command, self.env.console_limit)?;
        if is_released(&output) {
            return Ok(());
        }
        Err(ConsoleError::Unconfirmed { command: command.trim_end().to_owned(), output })
    }
}

/// The command that has a drive let go. `unmount` does it too, but a drive may stay blocked after it until a `mount`.
/// The slot is named because the console asks for it otherwise.
fn release(storage: &str, drive: DriveIndex, slot: Slot) -> String {
    format!("release storage=\"{storage}\" drive={drive} slot={slot}\n")
}

/// 3022: released; 3921: was closed before, and has been unloaded.
fn is_released(output: &str) -> bool {
    output.lines().any(|line| line.starts_with("3022 Device ") || line.starts_with("3921 Device "))
}

/// Joins the storage daemon's list with the Director's; none when one of the two gave no answer.
pub(crate) fn jobs(output: &str) -> Option<Vec<RunningJob>> {
    let lists = running::lists(output);
    let [storage, director] = lists.as_slice() else { return None };
    let director = running::director_jobs(director);
    let waits = |id| director.iter().any(|job| job.id == id && job.state == DirectorState::WaitsForVolume);
    let mut jobs: Vec<RunningJob> = running::storage_jobs(storage)
        .into_iter()
        .map(|job| {
            let doing = match job.volume.map(str::to_owned) {
                Some(volume) if job.reading => JobDoing::Reads(volume),
                Some(volume) => JobDoing::Writes(volume),
                None if waits(job.id) && !job.reading => JobDoing::WaitsForAny,
                None => JobDoing::Starting,
            };
            RunningJob { id: job.id, name: job.name.to_owned(), doing }
        })
        .collect();
    for job in director {
        let DirectorState::Queued { name } = job.state else { continue };
        if matches!(job.kind, "Back" | "Rest" | "Veri" | "Copy" | "Migr") {
            jobs.push(RunningJob { id: job.id, name: name.to_owned(), doing: JobDoing::Starting });
        }
    }
    Some(jobs)
}

#[cfg(test)]
mod tests {
    use super::JobDoing::{Reads, Starting, WaitsForAny, Writes};
    use super::*;

    /// What Bacula 9.6.7 answered, without the lines on its memory.
    fn seen(transcript: &str) -> Option<Vec<(u32, String, JobDoing)>> {
        let file = format!("{}/tests/transcripts/{transcript}.txt", env!("CARGO_MANIFEST_DIR"));
        let jobs = jobs(&std::fs::read_to_string(file).expect("a transcript"))?;
        Some(jobs.into_iter().map(|job| (job.id, job.name, job.doing)).collect())
    }

    #[test]
    fn jobs_are_known_by_the_volumes_they_use() {
        let volume = || "c0_A_0004".to_owned();
        let one = |id, name: &str, doing| Some(vec![(id, name.to_owned(), doing)]);
        assert_eq!(seen("writing"), one(1, "BackupServer", Writes(volume())));
        assert_eq!(seen("reading"), one(2, "RestoreFiles", Reads(volume())));
        assert_eq!(seen("just_begun"), one(2, "RestoreFiles", Starting));
        assert_eq!(seen("queued"), one(2, "RestoreFiles", Starting));
        assert_eq!(seen("waiting_for_mount"), one(3, "BackupServer", Writes(volume())));
        assert_eq!(seen("waiting_to_create"), one(4, "BackupServer", WaitsForAny));
        assert_eq!(seen("idle"), Some(Vec::new()));
        assert_eq!(seen("dot_waits_for_mount"), one(6, "BackupServer", Writes("c0_A_0003".to_owned())));
        assert_eq!(seen("dot_waits_for_any"), one(7, "BackupServer", WaitsForAny));
        assert_eq!(seen("dot_restore_waits"), one(8, "RestoreFiles", Reads("c0_A_0001".to_owned())));
        assert_eq!(seen("dot_writing"), one(9, "BackupServer", Writes("c0_A_0001".to_owned())));
        assert_eq!(seen("dot_idle"), Some(Vec::new()));
        assert_eq!(seen("dot_no_storage"), None);
    }

    #[test]
    fn a_restore_whose_volume_is_not_known_may_use_any() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/dot_restore_waits.txt");
        let text = std::fs::read_to_string(file).expect("a transcript");
        let found = jobs(&text.replace("Volume=\"c0_A_0001\"", "Volume=\"\"")).expect("an answer");
        assert_eq!(
            found.first().map(|job| &job.doing),
            Some(&Starting),
            "it counts as a user of every magazine"
        );
    }

    #[test]
    fn half_an_answer_is_none() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/writing.txt");
        let text = std::fs::read_to_string(file).expect("a transcript");
        let directors = text.find("status dir running").expect("its command");
        assert_eq!(jobs(&text[..directors]), None);
        assert_eq!(jobs(&text[directors..]), None);
        assert_eq!(jobs(""), None);
        let queued = |kind| {
            let line = format!("     7  {kind}          0         0  A job             is waiting execution");
            let none = "\nRunning Jobs:\nNo Jobs running.\n====\n";
            jobs(&format!("{none}\nRunning Jobs:\n{line}\n====\n"))
        };
        assert_eq!(queued("Admi     "), Some(Vec::new()));
        let job = RunningJob { id: 7, name: "A job".to_owned(), doing: Starting };
        assert_eq!(queued("Back Incr"), Some(vec![job]));
    }

    #[test]
    fn a_busy_drive_is_not_released() {
        let closed = "3307 Issuing autochanger \"unload Volume c0_A_0004, Slot 4, Drive 0\" command.\n\
            3921 Device \"\"eSATA-1\" (/var/lib/offsite/c0/0)\" already released.\n";
        let busy = "3937 Device \"\"eSATA-1\" (/var/lib/offsite/c0/0)\" is busy with writes=1 reserved=0.\n";
        let absent = "3999 Device \"eSATA-Changer\" not found or could not be opened.\n";
        assert!(is_released(closed) && !is_released(busy) && !is_released(absent) && !is_released(""));
        let (drive, slot) = (DriveIndex::new(0).expect("small"), Slot::new(4).expect("not 0"));
        assert_eq!(release("c0", drive, slot), "release storage=\"c0\" drive=0 slot=4\n");
    }
}
