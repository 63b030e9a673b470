//! Since when a drive is plugged or away: noted, so that a restart of the daemon, or of the server while the drive is
//! away, doesn't begin the time again.

use std::path::PathBuf;

use jiff::Timestamp;
use mount_by_uuid::FsUuid;
use serde::{Deserialize, Serialize};

use super::drive::Plugged;
use crate::base::atomic_file;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;

/// What is noted of a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Which plug it is; none while the drive is away.
    plug: Option<String>,
    since: Timestamp,
}

impl Mark {
    /// The mark after a look: the old one as long as nothing has changed.
    fn after(self, plug: Option<String>, now: Timestamp) -> Self {
        // A time that lies ahead comes of a clock that was wrong.
        if self.plug == plug && self.since <= now { self } else { Self { plug, since: now } }
    }
}

/// Since when a drive is as it is now, plugged or away; notes it when that has changed.
pub(super) fn of(root: &Root, fs_uuid: &FsUuid, plugged: Option<&Plugged>) -> Result<Timestamp, Failure> {
    let plug = plugged.map(|plugged| plug(root, plugged));
    let path = path(root, fs_uuid);
    let now = Timestamp::now();
    let noted: Option<Mark> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mark = match noted.clone() {
        Some(mark) => mark.after(plug, now),
        None => Mark { plug, since: now },
    };
    if noted.as_ref() != Some(&mark) {
        atomic_file::directory(&root.seen_dir(), 0o755)?;
        let text = serde_json::to_vec(&mark).or_fail("cannot write JSON")?;
        atomic_file::replace(&path, 0o644, &text)?;
    }
    Ok(mark.since)
}

fn path(root: &Root, fs_uuid: &FsUuid) -> PathBuf {
    root.seen_dir().join(fs_uuid.as_str())
}

/// What no other plug has: the kernel counts plugs from each boot on (Linux 5.15; before that only devices).
fn plug(root: &Root, plugged: &Plugged) -> String {
    let boot = std::fs::read_to_string(root.kernel().join("proc/sys/kernel/random/boot_id"));
    let boot = boot.unwrap_or_default();
    match plugged.diskseq {
        Some(number) => format!("{} {number}", boot.trim()),
        None => format!("{} {}", boot.trim(), plugged.devnum),
    }
}

/// Takes note without being stopped by a full disk: the time is then the daemon's own.
pub(super) fn or_now(since: Result<Timestamp, Failure>, say: impl FnOnce(&str)) -> Timestamp {
    since.unwrap_or_else(|failure| {
        say(failure.message());
        Timestamp::now()
    })
}

#[cfg(test)]
mod tests {
    use mount_by_uuid::DevNum;

    use super::*;

    fn plugged(diskseq: u64) -> Plugged {
        Plugged { path: "/dev/sdx".into(), devnum: DevNum { major: 8, minor: 16 }, diskseq: Some(diskseq) }
    }

    #[test]
    fn the_time_counts_from_the_last_change() {
        let (early, late) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(20).unwrap());
        let plug = |number: u32| Some(number.to_string());
        let mark = Mark { plug: plug(1), since: early };
        assert_eq!(mark.clone().after(plug(1), late), mark);
        assert_eq!(mark.clone().after(plug(2), late), Mark { plug: plug(2), since: late });
        assert_eq!(mark.clone().after(None, late), Mark { plug: None, since: late });
        let ahead = Mark { plug: None, since: late };
        assert_eq!(ahead.after(None, early), Mark { plug: None, since: early });
    }

    #[test]
    fn what_is_noted_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.state_dir()).unwrap();
        let drive: FsUuid = "7A1B-03C4".parse().unwrap();
        let away = of(&root, &drive, None).unwrap();
        assert_eq!(of(&root, &drive, None).unwrap(), away);
        let first = of(&root, &drive, Some(&plugged(4))).unwrap();
        assert!(first > away);
        assert_eq!(of(&root, &drive, Some(&plugged(4))).unwrap(), first);
        assert!(of(&root, &drive, Some(&plugged(5))).unwrap() > first, "it was away in between");
        std::fs::write(path(&root, &drive), "{").unwrap();
        assert!(of(&root, &drive, None).unwrap() > first, "a damaged note begins again");
    }
}
