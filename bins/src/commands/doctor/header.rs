//! What `offsite doctor` says of LUKS headers and their backups.

use std::path::Path;

use luks_core::{Container, LoadError, LuksUuid};
use mount_by_uuid::{BlockDevice, ProbeError, System};

use super::finding::{Findings, Grade};
use crate::base::failure::chain;
use crate::base::paths::Root;
use crate::base::shell;
use crate::drives::{identity, unseen};
use crate::records::enrolment::accept_or_restore;
use crate::records::keyring::Keyring;
use crate::records::{header_backups, header_place};
use crate::site::description::{Magazine, Site};

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
    let (grade, message) = match header_backups::state(root, luks, plugged.as_ref()) {
        header_backups::State::Good => {
            findings.ok(format!("magazine {magazine}: its LUKS header is backed up"));
            let _told = closed_to_the_key(root, magazine, luks, plugged.as_ref(), findings);
            return mended(root, magazine, luks, findings);
        }
        header_backups::State::Foreign(other) => {
            let path = header_backups::path(root, luks);
            let message = format!("magazine {magazine}: {} is the header of {other}", path.display());
            findings.bad(Grade::Error, message, format!("move it away, then {renew}"));
            return mended(root, magazine, luks, findings);
        }
        header_backups::State::Missing => {
            (Grade::Error, format!("magazine {magazine}: no backup of its LUKS header"))
        }
        header_backups::State::Stale
            if closed_to_the_key(root, magazine, luks, plugged.as_ref(), findings) =>
        {
            return mended(root, magazine, luks, findings);
        }
        header_backups::State::Stale => {
            let message = format!("magazine {magazine}: its LUKS header was changed outside offsite");
            let remedy = device.map_or(renew, |device| accept_or_restore(&magazine.name, &device.path));
            findings.bad(Grade::Warning, message, remedy);
            return mended(root, magazine, luks, findings);
        }
        header_backups::State::Bad(what) => (
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
    let backup =
        header_backups::load(root, luks, &magazine.name).and_then(|backup| keys.opening(&backup).map(drop));
    let drive = plugged.map_or(Ok(()), |drive| keys.opening(drive).map(drop));
    let (failure, remedy) = match (backup, drive) {
        (Ok(()), Ok(())) => return false,
        (Ok(()), Err(failure)) => {
            (failure, plugged.and_then(|drive| keys.remedy(root, luks, drive.device())))
        }
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
    if let Some(said) = header_backups::mended(root, luks) {
        let remedy = format!(
            "look after the drive (smartctl -a DEVICE); when all is well: rm {}",
            header_backups::mended_mark(root, luks).display()
        );
        findings.bad(Grade::Warning, format!("magazine {magazine}: {said}"), remedy);
    }
}

/// A drive that is plugged, by its serial number, but shows no container; `site` is asked whose that number is.
pub(super) fn lost(
    root: &Root,
    site: &Site,
    magazine: &Magazine,
    luks: LuksUuid,
    devices: &[BlockDevice],
    findings: &mut Findings,
) {
    let Some(serial) = &magazine.serial else { return };
    // A partition has its drive's serial number and follows behind it.
    let Some(device) = devices.iter().find(|device| device.serial.as_ref() == Some(serial)) else { return };
    let shown = device.path.display();
    let place = header_place::recorded(root, luks).ok().flatten();
    let more: Vec<u64> = place.iter().map(|place| place.start_bytes).collect();
    let containers = luks_core::locate(&device.path, &more).unwrap_or_default();
    let whose = |uuid| site.magazines.iter().any(|other| other.luks_uuid == Some(uuid));
    match containers.iter().find(|found| found.is_readable) {
        Some(found) if found.uuid == luks && found.offset_bytes == 0 => {
            return unrecognised(root, magazine, &device.path, findings);
        }
        Some(found) if found.uuid == luks => {
            let sector = identity::one(root, &device.path).map_or(512, |identity| identity.logical_sector);
            let (message, remedy) = unseen::well(magazine, &device.path, found, sector);
            return findings.bad(Grade::Error, message, remedy);
        }
        // Another drive in a dock that shows one serial number for all of them.
        Some(found) if whose(found.uuid) => return,
        _ => {}
    }
    let twins = site.with_serial(serial);
    if twins.len() > 1 {
        let names: Vec<_> = twins.iter().map(|twin| twin.name.as_str()).collect();
        let message = format!(
            "{shown} shows the serial number {serial:?} and no LUKS header; {} were all enrolled with it",
            names.join(" and ")
        );
        let remedy = "correct their `serial` in site.toml; a dock that shows one serial number for every drive tells none apart";
        return findings.bad(Grade::Warning, message, remedy);
    }
    findings.bad(
        Grade::Error,
        format!("magazine {magazine} is plugged as {shown} but shows no LUKS header"),
        format!("bring it back from its backup: offsite luks restore {}", shell::path(&device.path)),
    );
}

/// A drive whose header is well, and which carries no tag by udev's word.
fn unrecognised(root: &Root, magazine: &Magazine, device: &Path, findings: &mut Findings) {
    let (shown, typed) = (device.display(), shell::path(device));
    let (why, remedy) = match System::new(root.kernel()).probe(device) {
        Err(ProbeError::Contradictory { .. }) => (
            "it carries another signature as well",
            format!("`wipefs {typed}` lists both; erase the other one: wipefs --offset OFFSET {typed}"),
        ),
        _ => ("udev's database doesn't say so", format!("udevadm trigger --settle {typed}")),
    };
    let message = format!(
        "magazine {magazine} is plugged as {shown} and its header is well, but it isn't recognised: {why}"
    );
    findings.bad(Grade::Error, message, remedy);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use luks_core::{FormatOptions, KeySlot, Secret, SecretKind};
    use mount_by_uuid::DevNum;

    use super::*;

    /// A drive, which is a file, with the container of a magazine.
    struct Drive {
        directory: tempfile::TempDir,
        magazine: Magazine,
        device: BlockDevice,
    }

    impl Drive {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("drive");
            File::create_new(&path).unwrap().set_len(4 << 20).unwrap();
            let options = FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() };
            let key = Secret::from_bytes(vec![1; 64]);
            let container =
                Container::format(&path, &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
            let magazine = Magazine {
                name: "A".into(),
                luks_uuid: Some(container.uuid()),
                luks_digest: None,
                fs_uuid: "e6ffe50b-bbe7-854f-fea8-766ae1265eba".parse().unwrap(),
                fs_type: "ext4".into(),
                serial: Some("S1".into()),
            };
            let device = BlockDevice {
                path,
                devnum: DevNum { major: 8, minor: 16 },
                tag: Some(magazine.tag()),
                fs_type: Some("crypto_LUKS".into()),
                label: None,
                serial: Some("S1".into()),
                size_bytes: 4 << 20,
                diskseq: None,
            };
            Self { directory, magazine, device }
        }

        fn overwrite(&self, offset: u64, bytes: &[u8]) {
            File::options().write(true).open(&self.device.path).unwrap().write_all_at(bytes, offset).unwrap();
        }

        fn root(&self) -> Root {
            Root::new(self.directory.path())
        }

        fn said(&self, findings: Findings) -> String {
            let lines =
                findings.0.into_iter().map(|f| format!("{} | {}\n", f.message, f.remedy.unwrap_or_default()));
            lines.collect::<String>().replace(self.directory.path().to_str().unwrap(), "")
        }

        /// What doctor says of a drive that isn't recognised, in a site with another magazine of this serial number.
        fn lost(&self, others: &[&str]) -> String {
            let mut site = Site::parse("", Path::new("site.toml")).unwrap();
            site.magazines.push(self.magazine.clone());
            for serial in others {
                let other = Magazine {
                    name: "B".into(),
                    luks_uuid: None,
                    serial: Some((*serial).into()),
                    ..self.magazine.clone()
                };
                site.magazines.push(other);
            }
            let (mut findings, devices) = (Findings::default(), [self.device.clone()]);
            let luks = self.magazine.luks_uuid.unwrap();
            lost(&self.root(), &site, &self.magazine, luks, &devices, &mut findings);
            self.said(findings)
        }
    }

    /// What doctor says of a plugged drive after `damage` was done to its header.
    fn said_after(damage: &[(u64, &[u8])]) -> String {
        let drive = Drive::new();
        for (offset, bytes) in damage {
            drive.overwrite(*offset, bytes);
        }
        let mut findings = Findings::default();
        let luks = drive.magazine.luks_uuid.unwrap();
        backup(&drive.root(), &drive.magazine, luks, Some(&drive.device), &mut findings);
        drive.said(findings)
    }

    #[test]
    fn a_drive_that_is_well_is_never_told_to_be_restored() {
        let drive = Drive::new();
        let said = drive.lost(&["S2"]);
        assert!(said.contains("its header is well") && said.contains("udevadm trigger"), "{said}");
        // The same container in a partition whose table counts in sectors of 4096 bytes.
        let container = std::fs::read(&drive.device.path).unwrap();
        drive.overwrite(0, &vec![0; 4 << 20]);
        drive.overwrite(1 << 20, &container);
        let entry = [0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 1, 0];
        drive.overwrite(446, &entry);
        drive.overwrite(510, &[0x55, 0xaa]);
        let said = drive.lost(&[]);
        assert!(said.contains("the header of A is well, at byte 1048576"), "{said}");
        assert!(said.contains("counts in sectors of 4096 bytes") && !said.contains("luks restore"), "{said}");
    }

    #[test]
    fn a_serial_number_that_several_magazines_have_accuses_none() {
        let drive = Drive::new();
        drive.overwrite(0, &vec![0; 1 << 20]);
        assert!(drive.lost(&["S2"]).contains("bring it back from its backup: offsite luks restore /drive"));
        let said = drive.lost(&["S1"]);
        assert!(
            said.contains("A and B were all enrolled with it") && !said.contains("luks restore"),
            "{said}"
        );
        // The drive shows another enrolled container: it is that one.
        let other = Drive::new();
        let mut site = Site::parse("", Path::new("site.toml")).unwrap();
        site.magazines = vec![drive.magazine.clone(), other.magazine.clone()];
        let mut findings = Findings::default();
        let luks = drive.magazine.luks_uuid.unwrap();
        lost(&drive.root(), &site, &drive.magazine, luks, std::slice::from_ref(&other.device), &mut findings);
        assert_eq!(drive.said(findings), "");
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
