//! Whether the header of an enrolled drive is the one that was enrolled.
//!
//! The register's backup of the header says what the drive has to be. Where it was lost, `luks_digest` in site.toml tells
//! the right drive from any other. A drive that says something else is refused, and its header is never taken over without
//! being asked to.

use std::path::Path;

use luks_core::{Enrolment, EnrolmentDigest, EnrolmentError, Header, KeySlot, LoadError, LuksUuid};

use super::{header_backups, header_place};
use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::base::paths::Root;
use crate::site::description::{Magazine, Site};

/// What is known of a container.
#[derive(Debug)]
pub enum Known {
    /// Its header, with the key slots that it has, from the register.
    Header(Enrolment),
    /// Only by what it is recognised, from site.toml.
    Digest(EnrolmentDigest),
}

impl Known {
    /// What is known of an enrolled magazine's container.
    ///
    /// A backup that isn't the one that site.toml names counts as lost: it is renewed when the right drive comes.
    pub fn of(root: &Root, magazine: &Magazine, luks: LuksUuid) -> Result<Self, Failure> {
        let register = header_backups::enrolled(root, luks);
        match (register, magazine.luks_digest) {
            (Ok(enrolment), None) => Ok(Self::Header(enrolment)),
            (Ok(enrolment), Some(digest)) if enrolment.digest() == digest => Ok(Self::Header(enrolment)),
            (_, Some(digest)) => Ok(Self::Digest(digest)),
            (Err(failure), None) => Err(Failure::new(
                Exit::Refused,
                format!(
                    "nothing is known by which to recognise the header of {magazine}: {}, and site.toml has no luks_digest",
                    failure.message()
                ),
            )
            .hint(format!(
                "when you know that nobody had the drive in hands meanwhile: offsite luks accept {magazine} --unproven"
            ))),
        }
    }

    /// Reads the header of the drive that is plugged as `device`, once, and makes sure that it is the enrolled one, in its
    /// place.
    pub fn read(
        &self,
        root: &Root,
        magazine: &str,
        luks: LuksUuid,
        device: &Path,
    ) -> Result<Header, Failure> {
        check_place(root, magazine, luks, device)?;
        match self {
            Self::Header(enrolment) => enrolment.read(device),
            Self::Digest(digest) => digest.read(device),
        }
        .map_err(|error| refused(magazine, device, &error))
    }

    /// The key slots that were changed by something else than offsite: all that differ from the register, unless a change
    /// of offsite's own was interrupted.
    pub fn foreign_slots(&self, root: &Root, header: &Header) -> Vec<KeySlot> {
        match self {
            Self::Header(enrolment) if !header_backups::is_changing(root, header.uuid()) => {
                enrolment.changed_slots(header.enrolment())
            }
            _ => Vec::new(),
        }
    }
}

/// A container that is enrolled, and what is known of it.
#[derive(Debug)]
pub struct Enrolled {
    pub(crate) name: String,
    pub(crate) luks: LuksUuid,
    pub(crate) known: Known,
}

impl Enrolled {
    /// What is enrolled under a container's UUID in site.toml, or left of it in the register; `None` for a stranger.
    pub fn of(root: &Root, luks: LuksUuid) -> Result<Option<Self>, Failure> {
        let magazines = Site::load(root).map(|site| site.magazines).unwrap_or_default();
        let magazine = magazines.into_iter().find(|magazine| magazine.luks_uuid == Some(luks));
        let (name, known) = match &magazine {
            Some(magazine) => (magazine.name.clone(), Known::of(root, magazine, luks)?),
            None => match header_backups::enrolled(root, luks) {
                Ok(enrolment) => (luks.to_string(), Known::Header(enrolment)),
                Err(_unknown) => return Ok(None),
            },
        };
        Ok(Some(Self { name, luks, known }))
    }

    /// Reads the header on a device, once, and makes sure that it is the enrolled one.
    pub fn read(&self, root: &Root, device: &Path) -> Result<Header, Failure> {
        self.known.read(root, &self.name, self.luks, device)
    }

    /// As [`Enrolled::read`], and makes sure that offsite itself made the last change of its key slots.
    pub fn read_unchanged(&self, root: &Root, device: &Path) -> Result<Header, Failure> {
        let header = self.read(root, device)?;
        let foreign = self.known.foreign_slots(root, &header);
        if foreign.is_empty() {
            return Ok(header);
        }
        Err(self.changed_slots(&foreign, device))
    }

    /// What key slots are refused with that something else than offsite changed.
    pub fn changed_slots(&self, slots: &[KeySlot], device: &Path) -> Failure {
        Failure::new(Exit::Refused, slots_changed(&self.name, slots))
            .hint(accept_or_restore(&self.name, device))
    }

    /// What a header is refused with that differs from one read to the next.
    pub fn inconstant(&self, device: &Path) -> Failure {
        let error = LoadError::Inconstant { device: device.to_owned() };
        Failure::because(Exit::Refused, format!("the header of {} is not changed", self.name), &error)
    }
}

/// Refuses a container that begins elsewhere on its drive than it did: somebody changed the partition table.
fn check_place(root: &Root, magazine: &str, luks: LuksUuid, device: &Path) -> Result<(), Failure> {
    let Some(recorded) = header_place::recorded(root, luks)? else { return Ok(()) };
    let start = luks_core::partition_start(root.kernel(), device)
        .or_fail(format!("cannot see where {} lies on its drive", device.display()))?;
    if start == recorded.start_bytes {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!(
            "{magazine} begins {start} bytes behind the start of its drive, and was enrolled {} bytes behind it",
            recorded.start_bytes
        ),
    )
    .hint(accept_or_restore(magazine, device)))
}

/// What a header that isn't the enrolled one is refused with.
fn refused(magazine: &str, device: &Path, error: &EnrolmentError) -> Failure {
    let changed = |what: &str| {
        Failure::new(Exit::Refused, format!("the header of {magazine} was changed outside offsite: {what}"))
            .hint(accept_or_restore(magazine, device))
    };
    match error {
        EnrolmentError::Changed { differences, .. } => {
            changed(&differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        EnrolmentError::OtherDigest { found, .. } => {
            changed(&format!("its digest is {found}, which is not the luks_digest in site.toml"))
        }
        EnrolmentError::Load(LoadError::Missing { .. }) => {
            Failure::new(Exit::NotThere, format!("{magazine} has gone"))
        }
        EnrolmentError::Load(error @ (LoadError::Reencryption { .. } | LoadError::Requirements { .. })) => {
            Failure::new(Exit::Refused, format!("{magazine} is not used: {error}"))
        }
        EnrolmentError::Load(error) => {
            let failure =
                Failure::new(Exit::Failed, format!("the header of {magazine} is not used: {}", chain(error)));
            match error {
                LoadError::HeaderRuined { .. }
                | LoadError::NotLuks { .. }
                | LoadError::Suspicious { .. }
                | LoadError::TooCostly { .. } => failure.hint(format!(
                    "bring it back from its backup: offsite luks restore {}",
                    device.display()
                )),
                _ => failure,
            }
        }
        other => Failure::because(Exit::Failed, format!("the header of {magazine} is not used"), other),
    }
}

/// The two ways on from a header that is not the enrolled one.
pub fn accept_or_restore(magazine: &str, device: &Path) -> String {
    format!(
        "if you changed it yourself: offsite luks accept {magazine}; else bring the enrolled one back: offsite luks \
         restore {}",
        device.display()
    )
}

/// What is told of key slots that were changed by something else than offsite.
pub fn slots_changed(magazine: &str, slots: &[KeySlot]) -> String {
    let slots = slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "the header of {magazine} was changed outside offsite: key slots {slots}; its backup stays as it is until \
         `offsite luks accept {magazine}`"
    )
}
