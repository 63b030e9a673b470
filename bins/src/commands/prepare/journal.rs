//! The journal of one drive's preparation.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use luks_core::LuksUuid;
use media_wipe::{FillMark, Identity};
use mount_by_uuid::FsUuid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::commands::arguments::{Prepare, VerifyMode};
use crate::commands::wipe::file_name;

/// One step that is done as a whole or again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// The random fill, verified.
    Fill,
    /// The LUKS container with the key file in its slot.
    Container,
    /// The filesystem inside.
    Filesystem,
    /// Ownership and empty volumes.
    Volumes,
}

impl Step {
    pub(super) const ALL: [Self; 4] = [Self::Fill, Self::Container, Self::Filesystem, Self::Volumes];
}

/// How the drive is filled, from what promises least to what promises most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fill {
    /// Not at all. Also what a journal promises that doesn't tell.
    #[default]
    LeftOut,
    /// Nothing is read back.
    Unverified,
    /// A sample is read back.
    Sampled,
    /// Everything is read back.
    Verified,
}

impl Fill {
    fn asked(options: &Prepare) -> Self {
        match options.verify {
            _ if options.skip_wipe => Self::LeftOut,
            VerifyMode::None => Self::Unverified,
            VerifyMode::Sample => Self::Sampled,
            VerifyMode::Full => Self::Verified,
        }
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftOut => "no random fill",
            Self::Unverified => "a fill without verification",
            Self::Sampled => "a fill that is verified by a sample",
            Self::Verified => "a fill that is verified",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fill => "fill it with random data",
            Self::Container => "make the LUKS container, back up its header",
            Self::Filesystem => "make the filesystem",
            Self::Volumes => "give it to Bacula and lay the volumes",
        })
    }
}

/// What is known of an unfinished preparation. The UUIDs are drawn before they are used, so that
/// whatever a power cut leaves on the drive can be recognised.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    version: u32,
    id: String,
    size_bytes: u64,
    name: String,
    fs_type: String,
    luks1: bool,
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    gpt: bool,
    #[serde(default)]
    fill: Fill,
    /// What a drive that was filled is recognised by: its serial number may be every drive's in a dock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<FillMark>,
    pub(super) luks_uuid: LuksUuid,
    pub(super) fs_uuid: FsUuid,
    pub(super) volumes: u32,
    begun: Vec<Step>,
    done: Vec<Step>,
}

/// The form of the file; another one is refused.
const VERSION: u32 = 1;

/// Where the journal of the drive with this id lies.
pub(super) fn path(root: &Root, id: &str) -> PathBuf {
    root.journals_dir().join(file_name(id)).with_extension("json")
}

/// Keeps every other `prepare` away from this drive until the returned file is dropped, or this program ends in
/// whatever way.
pub(super) fn lock(root: &Root, identity: &Identity) -> Result<File, Failure> {
    let directory = root.join("/run/offsite");
    atomic_file::directory_of(&directory, Owner::own(), 0o755)?;
    let path = directory.join(format!("prepare-{}.lock", file_name(&identity.id)));
    let file = File::create(&path).or_fail(format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Refused,
            format!("another offsite prepare is at work on {}", identity.device.display()),
        )
        .hint("wait until it has ended")),
        Err(TryLockError::Error(error)) => {
            Err(Failure::because(Exit::Failed, format!("cannot lock {}", path.display()), &error))
        }
    }
}

impl Journal {
    /// A new journal with nothing done.
    pub(super) fn plan(options: &Prepare, identity: &Identity) -> Result<Self, Failure> {
        Ok(Self {
            version: VERSION,
            id: identity.id.clone(),
            size_bytes: identity.size_bytes,
            name: options.name.clone(),
            fs_type: super::filesystem::fs_type(options.fs).into(),
            luks1: options.luks1,
            authenticated: options.authenticated,
            gpt: options.gpt,
            fill: Fill::asked(options),
            mark: None,
            luks_uuid: LuksUuid::random(),
            fs_uuid: Uuid::new_v4().to_string().parse().or_fail("no UUID could be drawn")?,
            volumes: 0,
            begun: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Reads a journal, if an earlier run left one.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::because(Exit::Failed, format!("cannot read {shown}"), &error)),
        };
        let journal: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::because(Exit::Failed, format!("cannot understand the journal {shown}"), &error)
                .hint("to begin with the first step: --restart")
        })?;
        if journal.version != VERSION {
            return Err(Failure::new(
                Exit::Failed,
                format!("{shown} has the form {}, not {VERSION}", journal.version),
            )
            .hint("to begin with the first step: --restart"));
        }
        Ok(Some(journal))
    }

    /// Takes an earlier run up, when it was about the same work.
    ///
    /// A fill that promises less than is asked for now is made again, as long as nothing lies on it.
    pub(super) fn continues(mut self, plan: &Self, path: &Path) -> Result<Self, Failure> {
        if self.size_bytes != plan.size_bytes {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "drive {} had {} bytes when its preparation was begun, and has {} now: it is another one with this \
                     serial number, or in another enclosure",
                    self.id, self.size_bytes, plan.size_bytes
                ),
            )
            .hint("use the enclosure in which it was begun; to begin with the first step: --restart"));
        }
        let same = self.id == plan.id
            && self.name == plan.name
            && self.fs_type == plan.fs_type
            && self.luks1 == plan.luks1
            && self.authenticated == plan.authenticated
            && self.gpt == plan.gpt;
        let begin_anew = || {
            format!(
                "run the earlier command again (its journal is {}); to begin with the first step: --restart",
                path.display()
            )
        };
        if same && (plan.fill <= self.fill || !self.done(Step::Container)) {
            if plan.fill > self.fill && self.done(Step::Fill) {
                self.fill_again();
            }
            if !self.done(Step::Fill) && !self.done(Step::Container) {
                self.fill = plan.fill;
            }
            return Ok(self);
        }
        if same {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "the container on drive {} was made on {}, and {} is asked for now",
                    self.id, self.fill, plan.fill
                ),
            )
            .hint(begin_anew()));
        }
        Err(Failure::new(
            Exit::Refused,
            format!(
                "drive {} was being prepared as {:?} with {}, and that isn't finished",
                self.id, self.name, self.fs_type
            ),
        )
        .hint(begin_anew()))
    }

    /// Whether the drive is, or is to be, filled.
    pub(super) fn fills(&self) -> bool {
        self.fill != Fill::LeftOut
    }

    /// At least so many bytes of the drive are no room for files, with the container's header and the partition table.
    pub(super) fn header_bytes(&self) -> u64 {
        let header: u64 = if self.luks1 { 2 << 20 } else { 16 << 20 };
        header + if self.gpt { 2 << 20 } else { 0 }
    }

    /// Whether the container belongs on the drive itself, whatever partitions the kernel shows.
    ///
    /// A drive that is filled has none but one that was made since: what is shown of an older table is gone at the next
    /// plugging in.
    pub(super) fn takes_whole_drive(&self) -> bool {
        self.fills() && !self.gpt
    }

    /// A line for each step: whether it is done, would be done, or is left out.
    pub(super) fn outline(&self) -> Vec<String> {
        let line = |step| match step {
            Step::Fill if self.fill == Fill::LeftOut => format!("left out: {step}"),
            step => {
                let what = if step == Step::Fill { format!(" ({})", self.fill) } else { String::new() };
                format!("{} {step}{what}", if self.done(step) { "done " } else { "would" })
            }
        };
        Step::ALL.map(line).into()
    }

    /// Whether the drive must be recognised by its contents before the fill is taken for done.
    pub(super) fn rests_on_fill(&self) -> bool {
        self.fills() && self.done(Step::Fill) && !self.done(Step::Container)
    }

    /// Makes the fill a step to be done again.
    pub(super) fn fill_again(&mut self) {
        self.begun.retain(|step| *step != Step::Fill);
        self.done.retain(|step| *step != Step::Fill);
    }

    pub(super) fn done(&self, step: Step) -> bool {
        self.done.contains(&step)
    }

    pub(super) fn begun(&self, step: Step) -> bool {
        self.begun.contains(&step)
    }

    pub(super) fn begin(&mut self, step: Step, path: &Path) -> Result<(), Failure> {
        if !self.begun(step) {
            self.begun.push(step);
        }
        self.save(path)
    }

    pub(super) fn finish(&mut self, step: Step, path: &Path) -> Result<(), Failure> {
        self.done.push(step);
        self.save(path)
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(self).or_fail("cannot write the journal")?;
        atomic_file::replace(path, 0o600, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn plan(extra: &[&str]) -> Journal {
        let line = ["offsite", "prepare", "/dev/sdz", "--name", "Offsite-1"];
        let cli = crate::commands::arguments::Cli::parse_from(line.iter().chain(extra));
        let crate::commands::arguments::Command::Prepare(options) = cli.command else { panic!("{extra:?}") };
        let file = tempfile::NamedTempFile::new().unwrap();
        let system = media_wipe::System::new(Path::new("/"));
        let mut plan = Journal::plan(&options, &media_wipe::identify(&system, file.path()).unwrap()).unwrap();
        plan.id = "WX1".into();
        plan
    }

    fn after(extra: &[&str], done: &[Step]) -> Journal {
        let mut journal = plan(extra);
        journal.done = done.to_vec();
        journal.begun = vec![Step::Fill];
        // What is on disk is what the next run sees.
        serde_json::from_slice(&serde_json::to_vec(&journal).unwrap()).unwrap()
    }

    const SKIP: &[&str] = &["--skip-wipe"];
    const NONE: &[&str] = &["--verify", "none"];
    const FULL: &[&str] = &[];

    #[test]
    fn a_fill_that_promises_less_is_made_again() {
        let at = Path::new("/j");
        for (first, done, second) in [(SKIP, &[][..], FULL), (NONE, &[Step::Fill], FULL), (SKIP, &[], NONE)] {
            let journal = after(first, done).continues(&plan(second), at).unwrap();
            assert!(!journal.done(Step::Fill) && journal.fills(), "{first:?} {second:?}");
            assert_eq!(journal.fill, plan(second).fill);
            assert_eq!(journal.begun(Step::Fill), done.is_empty(), "a finished fill is no fill to resume");
        }
        // What has a container on it stays, and nobody is told that it was filled.
        let refused = |first, done: &[Step]| after(first, done).continues(&plan(FULL), at).unwrap_err();
        assert!(refused(SKIP, &[Step::Container]).message().contains("no random fill"));
        assert!(refused(NONE, &[Step::Fill, Step::Container]).message().contains("without verification"));
    }

    #[test]
    fn a_fill_that_promises_enough_is_kept() {
        let at = Path::new("/j");
        for (first, second) in [(FULL, FULL), (FULL, NONE), (FULL, SKIP), (NONE, NONE), (NONE, SKIP)] {
            let journal = after(first, &[Step::Fill]).continues(&plan(second), at).unwrap();
            assert!(journal.done(Step::Fill) && journal.fill == plan(first).fill, "{first:?} {second:?}");
            let begun = after(first, &[]).continues(&plan(second), at).unwrap();
            assert_eq!(begun.fill, plan(second).fill, "an unfinished one is as it is asked for now");
        }
        let left_out = after(SKIP, &[Step::Container]).continues(&plan(SKIP), at).unwrap();
        assert!(!left_out.fills() && left_out.done(Step::Container));
    }

    #[test]
    fn a_drive_of_another_size_is_another_one() {
        let mut other = plan(FULL);
        other.size_bytes = 5;
        let failure = after(FULL, &[Step::Fill]).continues(&other, Path::new("/j")).unwrap_err();
        assert!(
            failure.message().contains("had 0 bytes") && failure.message().contains("has 5 now"),
            "{failure}"
        );
        assert!(failure.remedy().unwrap().contains("--restart"), "{failure}");
    }

    #[test]
    fn a_filled_drive_has_no_old_partition() {
        assert!(plan(FULL).takes_whole_drive() && after(NONE, &[Step::Fill]).takes_whole_drive());
        assert!(!plan(&["--gpt"]).takes_whole_drive(), "the new one is the place");
        assert!(!plan(SKIP).takes_whole_drive(), "what there is stays");
    }

    #[test]
    fn the_outline_claims_nothing_that_was_left_out() {
        assert_eq!(plan(SKIP).outline()[0], "left out: fill it with random data");
        assert_eq!(plan(NONE).outline()[0], "would fill it with random data (a fill without verification)");
        let done = after(FULL, &[Step::Fill]);
        assert_eq!(done.outline()[0], "done  fill it with random data (a fill that is verified)");
        assert_eq!(done.outline()[1], "would make the LUKS container, back up its header");
    }
}
