//! What `offsite doctor` says of LUKS headers and their backups.

use luks_core::{Container, LuksUuid};
use mount_by_uuid::BlockDevice;

use super::{Findings, Grade};
use crate::headers;
use crate::keyring::Keyring;
use crate::paths::Root;
use crate::site::{Magazine, Site};

/// The header's backup: there, sound, of the header that the drive has now, and opened by the site's key.
pub(super) fn backup(
    root: &Root,
    magazine: &Magazine,
    luks: LuksUuid,
    device: Option<&BlockDevice>,
    findings: &mut Findings,
) {
    let plugged = device.and_then(|device| Container::load(&device.path).ok());
    let renew = format!("plug it in and unlock it while offsited runs: offsite unlock {magazine}");
    let (grade, message) = match headers::state(root, luks, plugged.as_ref()) {
        headers::State::Good => {
            findings.ok(format!("magazine {magazine}: its LUKS header is backed up"));
            let _told = closed_to_the_key(root, magazine, luks, plugged.as_ref(), findings);
            return mended(root, magazine, luks, findings);
        }
        headers::State::Foreign(other) => {
            let path = headers::path(root, luks);
            let message = format!("magazine {magazine}: {} is the header of {other}", path.display());
            findings.bad(Grade::Error, message, format!("move it away, then {renew}"));
            return mended(root, magazine, luks, findings);
        }
        headers::State::Missing => {
            (Grade::Error, format!("magazine {magazine}: no backup of its LUKS header"))
        }
        headers::State::Stale if closed_to_the_key(root, magazine, luks, plugged.as_ref(), findings) => {
            return mended(root, magazine, luks, findings);
        }
        headers::State::Stale => (
            Grade::Warning,
            format!("magazine {magazine}: the backup of its LUKS header is older than the header"),
        ),
        headers::State::Bad(what) => (
            Grade::Error,
            format!("magazine {magazine}: the backup of its LUKS header can't be used: {what}"),
        ),
    };
    findings.bad(grade, message, renew);
    mended(root, magazine, luks, findings);
}

/// Tells of a backup, or a drive that is plugged, which no key opens: each can be brought back from the other.
fn closed_to_the_key(
    root: &Root,
    magazine: &Magazine,
    luks: LuksUuid,
    plugged: Option<&Container>,
    findings: &mut Findings,
) -> bool {
    let Ok(keys) = Site::load(root).and_then(|site| Keyring::load(root, &site)) else { return false };
    let backup = headers::load(root, luks, &magazine.name).and_then(|backup| keys.opening(&backup).map(drop));
    let drive = plugged.map_or(Ok(()), |drive| keys.opening(drive).map(drop));
    let (failure, remedy) = match (backup, drive) {
        (Ok(()), Ok(())) => return false,
        (Ok(()), Err(failure)) => (failure, plugged.and_then(|drive| keys.remedy(root, drive))),
        (Err(failure), Ok(())) => (
            failure,
            Some(format!("where the key opens the drive, this renews it: offsite unlock {magazine}")),
        ),
        (Err(failure), Err(_)) => (failure, None),
    };
    let remedy = remedy.unwrap_or_else(|| "offsite key status".to_owned());
    findings.bad(Grade::Error, format!("magazine {magazine}: {}", failure.message()), remedy);
    true
}

fn mended(root: &Root, magazine: &Magazine, luks: LuksUuid, findings: &mut Findings) {
    if let Some(said) = headers::mended(root, luks) {
        let remedy = format!(
            "look after the drive (smartctl -a DEVICE); when all is well: rm {}",
            headers::mended_mark(root, luks).display()
        );
        findings.bad(Grade::Warning, format!("magazine {magazine}: {said}"), remedy);
    }
}

/// A drive that is plugged, by its serial number, but shows no container.
pub(super) fn lost(magazine: &Magazine, devices: &[BlockDevice], findings: &mut Findings) {
    let same = |device: &&BlockDevice| device.serial.is_some() && device.serial == magazine.serial;
    if let Some(device) = devices.iter().find(same) {
        findings.bad(
            Grade::Error,
            format!("magazine {magazine} is plugged as {} but shows no LUKS header", device.path.display()),
            format!("bring it back from its backup: offsite luks restore {}", device.path.display()),
        );
    }
}
