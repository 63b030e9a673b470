//! The journal of one drive's preparation.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use luks_core::LuksUuid;
use media_wipe::Identity;
use mount_by_uuid::FsUuid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::Prepare;
use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::wipe::file_name;

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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fill => "fill it with random data and verify",
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
    std::fs::create_dir_all(&directory).or_fail(format!("cannot make {}", directory.display()))?;
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
    /// A new journal with nothing done but what the options leave out.
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
            luks_uuid: LuksUuid::random(),
            fs_uuid: Uuid::new_v4().to_string().parse().or_fail("no UUID could be drawn")?,
            volumes: 0,
            begun: Vec::new(),
            done: if options.skip_wipe { vec![Step::Fill] } else { Vec::new() },
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
                .hint("remove it to prepare the drive from the beginning")
        })?;
        if journal.version != VERSION {
            return Err(Failure::new(
                Exit::Failed,
                format!("{shown} has the form {}, not {VERSION}", journal.version),
            )
            .hint("remove it to prepare the drive from the beginning"));
        }
        Ok(Some(journal))
    }

    /// Takes an earlier run up, when it was about the same work.
    pub(super) fn continues(self, plan: &Self, path: &Path) -> Result<Self, Failure> {
        let same = self.id == plan.id
            && self.size_bytes == plan.size_bytes
            && self.name == plan.name
            && self.fs_type == plan.fs_type
            && self.luks1 == plan.luks1
            && self.authenticated == plan.authenticated
            && self.gpt == plan.gpt;
        if same {
            return Ok(self);
        }
        Err(Failure::new(
            Exit::Refused,
            format!(
                "drive {} was being prepared as {:?} with {}, and that isn't finished",
                self.id, self.name, self.fs_type
            ),
        )
        .hint(format!("run the earlier command again, or remove {} to begin anew", path.display())))
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
        durable::replace(path, 0o600, &bytes)
    }
}
