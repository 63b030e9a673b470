//! What `offsite doctor` says of LUKS headers and their backups.

use luks_core::{Container, LoadError, LuksUuid};
use mount_by_uuid::BlockDevice;

use super::{Findings, Grade};
use crate::failure::chain;
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
    let plugged = device.map(|device| Container::load(&device.path));
    if let Some(Err(error)) = &plugged {
        unreadable(magazine, error, findings);
    }
    let plugged = plugged.and_then(Result::ok);
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

/// Tells what state a header is in that can't be used, and what brings that state to an end.
fn unreadable(magazine: &Magazine, error: &LoadError, findings: &mut Findings) {
    let remedy = match error {
        LoadError::Missing { .. } => return, // it has gone meanwhile
        LoadError::Reencryption { device } => {
            format!("cryptsetup reencrypt --resume-only {}", device.display())
        }
        LoadError::HeaderDamaged { device, .. } => {
            format!("mend it from its other copy: offsite luks repair {}", device.display())
        }
        LoadError::NotLuks { device }
        | LoadError::HeaderRuined { device, .. }
        | LoadError::Suspicious { device, .. }
        | LoadError::TooCostly { device, .. } => {
            format!("bring it back from its backup: offsite luks restore {}", device.display())
        }
        _ => "look into the kernel's log (dmesg): the drive may be failing".to_owned(),
    };
    findings.bad(Grade::Error, format!("magazine {magazine}: {}", chain(error)), remedy);
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use luks_core::{FormatOptions, KeySlot, Secret, SecretKind};
    use mount_by_uuid::DevNum;

    use super::*;

    /// A drive, which is a file, and what doctor says of it after `damage` was done to its header.
    fn said_after(damage: &[(u64, &[u8])]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drive");
        let file = File::create_new(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        let options = FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() };
        let key = Secret::from_bytes(vec![1; 64]);
        let container = Container::format(&path, &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
        for (offset, bytes) in damage {
            File::options().write(true).open(&path).unwrap().write_all_at(bytes, *offset).unwrap();
        }
        let magazine = Magazine {
            name: "A".into(),
            luks_uuid: Some(container.uuid()),
            fs_uuid: "e6ffe50b-bbe7-854f-fea8-766ae1265eba".parse().unwrap(),
            fs_type: "ext4".into(),
            serial: None,
        };
        let device = BlockDevice {
            path,
            devnum: DevNum { major: 8, minor: 16 },
            tag: Some(magazine.tag()),
            fs_type: Some("crypto_LUKS".into()),
            label: None,
            serial: None,
            size_bytes: 4 << 20,
            diskseq: None,
        };
        let mut findings = Findings::default();
        backup(&Root::new(directory.path()), &magazine, container.uuid(), Some(&device), &mut findings);
        let lines =
            findings.0.iter().map(|f| format!("{} | {}\n", f.message, f.remedy.as_deref().unwrap_or("")));
        lines.collect::<String>().replace(device.path.parent().unwrap_or(Path::new("")).to_str().unwrap(), "")
    }

    #[test]
    fn each_state_of_a_header_has_its_own_remedy() {
        assert!(!said_after(&[]).contains("/drive"), "{}", said_after(&[]));
        for (damage, remedy) in [
            (&[(16, &[0xff][..])][..], "offsite luks repair /drive"),
            (&[(16, &[0xff]), (0x4000 + 16, &[0xff])], "offsite luks restore /drive"),
            (&[(0, b"LUKS\xde\xad\0\x01")], "| cryptsetup reencrypt --resume-only /drive"),
        ] {
            let said = said_after(damage);
            assert!(said.contains(remedy), "{said}");
        }
    }
}
