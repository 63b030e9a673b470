//! Whether a drive is an enrolled magazine, whatever it looks like now: asked before anything on it is overwritten.
//!
//! A magazine is recognised by its container or filesystem, wherever on the drive that lies and in whatever enclosure
//! the drive is, and where neither is left by its serial number: the backups behind a lost header can be brought back.

use std::path::Path;

use luks_core::LuksUuid;
use media_wipe::{Identity, Refusal};
use mount_by_uuid::{System, Tag};

use super::identity;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::site::description::{Magazine, Site};

/// Identifies a drive that is to be overwritten; that it is an enrolled magazine is the first of its refusals.
pub fn identify_to_overwrite(root: &Root, device: &Path) -> Result<Identity, Failure> {
    let mut identity = identity::one(root, device)?;
    reserve(root, &mut identity);
    Ok(identity)
}

/// Adds to a drive's refusals that it is an enrolled magazine, or that this can't be found out.
pub fn reserve(root: &Root, identity: &mut Identity) {
    if !root.site_toml().exists() {
        return; // nothing is enrolled here
    }
    match Site::load(root).and_then(|site| refusal(root, &site, identity)) {
        Ok(None) => {}
        Ok(Some(refusal)) => identity.refusals.insert(0, refusal),
        Err(failure) => identity.refusals.push(Refusal::Unexplained {
            what: "whether it is an enrolled magazine".into(),
            reason: failure.message().to_owned(),
        }),
    }
}

fn refusal(root: &Root, site: &Site, identity: &Identity) -> Result<Option<Refusal>, Failure> {
    let lies_on = on_drive(root, identity)?;
    let by_content: Vec<&Magazine> = site.magazines.iter().filter(|m| lies_on.contains(&m.tag())).collect();
    if !by_content.is_empty() {
        return Ok(Some(Refusal::Reserved {
            why: format!("it is the enrolled magazine {}, with its backups", names(&by_content)),
            remedy: "if they may be lost, take its [[magazine]] table out of site.toml first".into(),
        }));
    }
    let by_serial = if identity.id.is_empty() { Vec::new() } else { site.with_serial(&identity.id) };
    Ok((!by_serial.is_empty()).then(|| Refusal::Reserved {
        why: format!(
            "its serial number is that of the enrolled magazine {}, whose header may be lost while its backups are not",
            names(&by_serial)
        ),
        remedy: "if they may be lost, take its [[magazine]] table out of site.toml first; if the dock shows one serial \
                 number for every drive, only the line `serial`"
            .into(),
    }))
}

/// The containers and filesystems on a drive and in its partitions.
fn on_drive(root: &Root, identity: &Identity) -> Result<Vec<Tag>, Failure> {
    let device = &identity.device;
    let failed = || format!("cannot see the partitions of {}", device.display());
    let partitions = luks_core::partitions(root.kernel(), device).or_fail(failed())?;
    let mut starts = Vec::new();
    for partition in &partitions {
        starts.push(luks_core::partition_start(root.kernel(), partition).or_fail(failed())?);
    }
    let containers = luks_core::locate(device, &starts)
        .or_fail(format!("cannot look for containers on {}", device.display()))?;
    let mut tags: Vec<Tag> = containers.into_iter().map(|found| tag(found.uuid)).collect();
    tags.extend(identity.contents_uuid.as_deref().and_then(|uuid| uuid.parse().ok()).map(Tag::Filesystem));
    let system = System::new(root.kernel());
    tags.extend(partitions.iter().filter_map(|partition| system.probe(partition).ok()?.tag));
    Ok(tags)
}

fn tag(luks: LuksUuid) -> Tag {
    Tag::Luks(luks.as_uuid())
}

fn names(magazines: &[&Magazine]) -> String {
    magazines.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(" and ")
}
