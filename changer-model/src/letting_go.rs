//! Before a magazine is taken out by hand: which jobs use it, and having the storage daemon let go of its volumes.
//!
//! The wording is that of Bacula's `stored/status.c` and `stored/dircmd.c` (seen with 9.6.7).

use crate::changer::Changer;
use crate::console::ConsoleError;
use crate::dialogue;
use crate::identifiers::{DriveIndex, Slot};

/// A job that runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let command = dialogue::status(self.config.storage());
        let output = console.run(&format!("{command}status dir running\n"), self.env.console_limit)?;
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

/// Reads the jobs out of `status storage` and `status dir running`; none when one of the two gave no answer.
pub(crate) fn jobs(output: &str) -> Option<Vec<RunningJob>> {
    const RUNNING: &str = "\nRunning Jobs:\n";
    const END: &str = "\n====\n"; // a longer line underlines a heading
    let (_, rest) = output.split_once(RUNNING)?;
    let (daemons, rest) = rest.split_once(END)?;
    let (devices, rest) = rest.split_once(RUNNING)?;
    let (directors, _) = rest.split_once(END)?;
    let blocked = blocked_devices(devices);
    let mut jobs = Vec::new();
    let mut lines = daemons.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some((id, name, volume)) = daemons_job(line) else { continue };
        let device = lines.peek().and_then(|line| between(line, "device=\"", "\""));
        let block = blocked.iter().find(|(name, _)| Some(*name) == device).map(|(_, wanted)| *wanted);
        let doing = match (volume.or(block.flatten()), block) {
            (Some(volume), _) if line.starts_with("Reading: ") => JobDoing::Reads(volume.to_owned()),
            (Some(volume), _) => JobDoing::Writes(volume.to_owned()),
            (None, Some(_)) => JobDoing::WaitsForAny,
            (None, None) => JobDoing::Starting,
        };
        jobs.push(RunningJob { id, name: name.to_owned(), doing });
    }
    let queued = directors.lines().filter_map(queued_job);
    jobs.extend(queued.map(|(id, name)| RunningJob { id, name: name.to_owned(), doing: JobDoing::Starting }));
    Some(jobs)
}

/// `Writing: Incremental Backup job NAME JobId=3 Volume="c0_A_0001"`: the number, the name and the volume.
fn daemons_job(line: &str) -> Option<(u32, &str, Option<&str>)> {
    let rest = line.strip_prefix("Writing: ").or_else(|| line.strip_prefix("Reading: "))?;
    let (_, rest) = rest.split_once(" job ")?;
    let (name, rest) = rest.rsplit_once(" JobId=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let volume = between(rest, "Volume=\"", "\"").filter(|volume| !volume.is_empty());
    Some((digits.parse().ok()?, name, volume))
}

/// A backup or restore of the Director's that the storage daemon has still to hear of, a matter of seconds:
/// `     2  Rest Rest          0         0  RestoreFiles      is waiting execution`
fn queued_job(line: &str) -> Option<(u32, &str)> {
    let rest = line.trim_end().strip_suffix(" is waiting execution")?.trim();
    let mut words = rest.split_whitespace();
    let id = words.next()?.parse().ok()?;
    let uses_volumes = matches!(words.next()?, "Back" | "Rest" | "Veri" | "Copy" | "Migr");
    let (_, name) = rest.rsplit_once("  ")?;
    uses_volumes.then_some((id, name))
}

/// The devices that wait for an operator, each with the volume it waits for, if it is a certain one.
fn blocked_devices(output: &str) -> Vec<(&str, Option<&str>)> {
    let mut device = None;
    let mut blocked = Vec::new();
    for line in output.lines().map(str::trim) {
        if line.starts_with("Device File: ") {
            device = between(line, "\"", "\"");
        } else if line.starts_with("Device is BLOCKED waiting ")
            && let Some(device) = device
        {
            blocked.push((device, between(line, "volume \"", "\"")));
        }
    }
    blocked
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
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
    }

    #[test]
    fn a_restore_that_waits_for_its_volume_is_known_by_its_device() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/waiting_for_mount.txt");
        let text = std::fs::read_to_string(file).expect("a transcript");
        let text = text.replace("Writing: Full Backup job", "Reading:   Restore job");
        let found =
            jobs(&text.replace("JobId=3 Volume=\"c0_A_0004\"", "JobId=3 Volume=\"\"")).expect("an answer");
        assert_eq!(found.first().map(|job| &job.doing), Some(&Reads("c0_A_0004".to_owned())));
    }

    #[test]
    fn half_an_answer_is_none() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/writing.txt");
        let text = std::fs::read_to_string(file).expect("a transcript");
        let directors = text.find("status dir running").expect("its command");
        assert_eq!(jobs(&text[..directors]), None);
        assert_eq!(jobs(&text[directors..]), None);
        assert_eq!(jobs(""), None);
        assert_eq!(
            queued_job("     7  Admi                0         0  A job             is waiting execution"),
            None
        );
        let queued = "     7  Back Incr          0         0  A job             is waiting execution";
        assert_eq!(queued_job(queued), Some((7, "A job")));
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
