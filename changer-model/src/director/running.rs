//! The jobs that run, and what they wait for, by the word of the Director and of the storage daemon.
//!
//! Asked by `.status ... running`. The plain `status storage` makes the storage daemon look at the volume behind each
//! loaded drive, which unlocks the magazine that the volume is on; `.status` does not. The lists are those of Bacula's
//! `dird/ua_status.c` and `stored/status.c` (seen with 9.6.7); the plain commands print the same lists among others.

use std::path::Path;

use crate::library::identifiers::DriveIndex;

/// The command that lists the jobs that the Director runs.
pub(crate) const DIRECTOR: &str = ".status dir running\n";

/// The command that lists the jobs that a storage daemon runs.
pub(crate) fn storage(name: &str) -> String {
    format!(".status storage=\"{name}\" running\n")
}

/// A job as the storage daemon has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageJob<'a> {
    pub(crate) id: u32,
    /// Its name, without the time that makes it unique.
    pub(crate) name: &'a str,
    pub(crate) reading: bool,
    /// The volume that it uses or waits for; none while that is not known, or when any one would do.
    pub(crate) volume: Option<&'a str>,
    /// The `Archive Device` of the drive that it uses.
    pub(crate) device: Option<&'a Path>,
    /// What it has written or read so far.
    pub(crate) bytes: u64,
}

/// A job as the Director has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectorJob<'a> {
    pub(crate) id: u32,
    /// Its type in four letters: `Back`, `Rest`, `Admi` and so on.
    pub(crate) kind: &'a str,
    pub(crate) state: DirectorState<'a>,
}

/// How far a job of the Director is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DirectorState<'a> {
    /// It has its turn in a matter of seconds; the storage daemon does not know it yet.
    Queued {
        /// Its name.
        name: &'a str,
    },
    /// It waits until somebody mounts a volume.
    WaitsForVolume,
    /// It runs, or waits for something else.
    Other,
}

/// The lists of running jobs in an answer, in the order of the commands. A list that was cut off is left out.
pub(crate) fn lists(output: &str) -> Vec<&str> {
    const BEGIN: &str = "\nRunning Jobs:\n";
    const END: &str = "\n====\n"; // a longer line underlines a heading
    let mut lists = Vec::new();
    let mut rest = output;
    while let Some((list, behind)) = rest.split_once(BEGIN).and_then(|(_, list)| list.split_once(END)) {
        lists.push(list);
        rest = behind;
    }
    lists
}

/// Reads a storage daemon's list.
pub(crate) fn storage_jobs(list: &str) -> Vec<StorageJob<'_>> {
    let mut jobs: Vec<StorageJob<'_>> = Vec::new();
    for line in list.lines().map(str::trim) {
        if let Some(job) = storage_job(line) {
            jobs.push(job);
        } else if let Some(job) = jobs.last_mut()
            && let Some((_, device)) = line.split_once("device=\"")
        {
            job.device = between(device, "\" (", ")").map(Path::new);
        } else if let Some(job) = jobs.last_mut()
            && let Some(bytes) = between(line, " Bytes=", " ").filter(|_| line.starts_with("Files="))
        {
            // a copy is listed twice, as its reader and as its writer
            job.bytes = bytes
                .chars()
                .filter_map(|c| c.to_digit(10))
                .fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit)));
        }
    }
    jobs
}

/// `Writing: Incremental Backup job NAME JobId=3 Volume="c0_A_0001"`
fn storage_job(line: &str) -> Option<StorageJob<'_>> {
    let reading = line.starts_with("Reading: ");
    let rest = line.strip_prefix("Writing: ").or_else(|| line.strip_prefix("Reading: "))?;
    let (_, rest) = rest.split_once(" job ")?;
    let (name, rest) = rest.rsplit_once(" JobId=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let volume = between(rest, "Volume=\"", "\"").filter(|volume| !volume.is_empty());
    Some(StorageJob { id: digits.parse().ok()?, name, reading, volume, device: None, bytes: 0 })
}

/// Reads the Director's list.
pub(crate) fn director_jobs(list: &str) -> Vec<DirectorJob<'_>> {
    list.lines().map(str::trim).filter_map(director_job).collect()
}

/// `     4  Back Full          0         0  BackupServer      is waiting for an appendable Volume`
fn director_job(line: &str) -> Option<DirectorJob<'_>> {
    const WAITS: [&str; 2] = [" is waiting for a mount request", " is waiting for an appendable Volume"];
    let mut words = line.split_whitespace();
    let (id, kind) = (words.next()?.parse().ok()?, words.next()?);
    let state = if let Some(rest) = line.strip_suffix(" is waiting execution") {
        let (_, name) = rest.trim().rsplit_once("  ")?;
        DirectorState::Queued { name }
    } else if WAITS.iter().any(|words| line.ends_with(words)) {
        DirectorState::WaitsForVolume
    } else {
        DirectorState::Other
    };
    Some(DirectorJob { id, kind, state })
}

/// The drive behind an `Archive Device`: `WORK/N`, or `WORK/N/driveN` as vchanger 0.8 has it.
pub(crate) fn drive_of(device: &Path, work_dirs: &[&Path]) -> Option<DriveIndex> {
    let last = device.file_name()?.to_str()?;
    let bay = match last.strip_prefix("drive") {
        Some(number) if device.parent()?.file_name()? == number => device.parent()?,
        Some(_) => return None,
        None => device,
    };
    let number = bay.file_name()?.to_str()?.parse().ok()?;
    work_dirs.contains(&bay.parent()?).then(|| DriveIndex::new(number)).flatten()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Bacula 9.6.7 answered: the storage daemon first, then the Director.
    macro_rules! transcript {
        ($name:literal) => {
            include_str!(concat!("../../tests/transcripts/", $name, ".txt"))
        };
    }

    /// The only job that the storage daemon and the Director know.
    fn only(output: &str) -> (StorageJob<'_>, DirectorState<'_>) {
        let lists = lists(output);
        let [storage, director] = lists.as_slice() else { panic!("{lists:?}") };
        let (storage, director) = (storage_jobs(storage), director_jobs(director));
        let ([job], [same]) = (storage.as_slice(), director.as_slice()) else { panic!("{director:?}") };
        assert_eq!(job.id, same.id);
        (job.clone(), same.state.clone())
    }

    #[test]
    fn a_wait_is_known_by_both_lists() {
        let device = Some(Path::new("/var/lib/offsite/c0/1"));
        let seen = |output| {
            let (job, state) = only(output);
            assert_eq!(job.device, device);
            (job.reading, job.volume.map(str::to_owned), state == DirectorState::WaitsForVolume)
        };
        let volume = |name: &str| Some(name.to_owned());
        assert_eq!(seen(transcript!("dot_waits_for_mount")), (false, volume("c0_A_0003"), true));
        assert_eq!(seen(transcript!("dot_waits_for_any")), (false, None, true));
        assert_eq!(seen(transcript!("dot_restore_waits")), (true, volume("c0_A_0001"), true));
        let (job, state) = only(transcript!("dot_writing"));
        assert_eq!((job.volume, state), (Some("c0_A_0001"), DirectorState::Other));
    }

    #[test]
    fn the_plain_commands_have_the_same_lists() {
        let (job, state) = only(transcript!("waiting_for_mount"));
        assert_eq!((job.volume, state), (Some("c0_A_0004"), DirectorState::WaitsForVolume));
        let lists = lists(transcript!("queued"));
        let queued = director_jobs(lists.last().expect("the Director's list"));
        let state = DirectorState::Queued { name: "RestoreFiles" };
        assert_eq!(queued, [DirectorJob { id: 2, kind: "Rest", state }]);
    }

    #[test]
    fn nobody_runs_is_no_job_and_no_answer_is_no_list() {
        let idle = lists(transcript!("dot_idle"));
        assert_eq!(idle.len(), 2);
        assert!(storage_jobs(idle.concat().as_str()).is_empty() && director_jobs(&idle.concat()).is_empty());
        assert_eq!(lists(transcript!("dot_no_storage")).len(), 1, "the storage daemon was not reached");
        let writing = transcript!("dot_writing");
        let cut = writing.rfind("====").expect("the end of the Director's list");
        assert_eq!(lists(&writing[..cut]).len(), 1, "half a list is none");
        assert!(lists("Running Jobs:\n====\n").is_empty() && lists("").is_empty());
    }

    #[test]
    fn what_a_job_has_written_is_known() {
        let list = "Writing: Full Backup job B JobId=1 Volume=\"\"\n    pool=\"P\" device=\"D\" (/w/0)\n    \
            Files=1 Bytes=14,942,299 AveBytes/sec=1,660,255 LastBytes/sec=7,182,809\n    FDReadSeqNo=239\n";
        assert_eq!(storage_jobs(list).first().map(|job| job.bytes), Some(14_942_299));
        let (job, _) = only(transcript!("dot_writing"));
        assert_eq!(job.bytes, 0);
    }

    #[test]
    fn a_job_that_copies_reads_and_writes() {
        let list = "Reading:   Copy job Copy to safe JobId=7 Volume=\"a\"\n    pool=\"P\" device=\"D1\" (/w/0) newbsr=0\n\
            Writing: Copy job Copy to safe JobId=7 Volume=\"b\"\n    pool=\"Q\" device=\"D2\" (/w/1)\n    Files=0\n";
        let jobs = storage_jobs(list);
        let seen: Vec<_> = jobs.iter().map(|job| (job.name, job.reading, job.volume, job.device)).collect();
        let of = |path| Some(Path::new(path));
        assert_eq!(
            seen,
            [("Copy to safe", true, Some("a"), of("/w/0")), ("Copy to safe", false, Some("b"), of("/w/1"))]
        );
    }

    #[test]
    fn a_drive_is_known_by_the_changers_directory() {
        let drive =
            |path: &str| drive_of(Path::new(path), &[Path::new("/var/lib/c0")]).map(DriveIndex::number);
        assert_eq!(drive("/var/lib/c0/0"), Some(0));
        assert_eq!(drive("/var/lib/c0/7"), Some(7));
        assert_eq!(drive("/var/lib/c0/7/drive7"), Some(7));
        for other in
            ["/var/lib/c1/0", "/dev/nst0", "/var/lib/c0/7/drive6", "/var/lib/c0", "/", "", "/var/lib/c0/x"]
        {
            assert_eq!(drive(other), None, "{other:?}");
        }
    }
}
