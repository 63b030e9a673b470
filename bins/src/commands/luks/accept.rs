//! `offsite luks accept`: a header that somebody changed by hand becomes the enrolled one.
//!
//! The proof is the volume key: a key of the site must give the one that the enrolled header's digest proves, so that no
//! header of somebody else's can be accepted. Where nothing of the enrolled header is left, the person must say so.

use std::path::{Path, PathBuf};

use luks_core::Header;
use mount_by_uuid::System;

use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::protocol::socket;
use crate::records::header_backups;
use crate::records::keyring::Keyring;
use crate::site::description::{Magazine, Site};
use crate::site::edit;

/// Takes the header of a plugged magazine over.
pub(super) fn run(root: &Root, name: &str, unproven: bool, dry_run: bool) -> Result<(), Failure> {
    let site = Site::load(root)?;
    let magazine = site.magazine(name)?;
    let luks = magazine.luks_uuid.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("magazine {magazine} is not encrypted, so it has no such header"))
    })?;
    let device = device(root, magazine)?;
    let header =
        Header::read(&device).or_exit(Exit::Refused, format!("the header of {magazine} is not accepted"))?;
    let keys = Keyring::load(root, &site)?;
    let proven = prove(root, magazine, &header, &keys)?;
    if !proven && !unproven {
        return Err(Failure::new(
            Exit::Refused,
            format!("nothing is left of {magazine} by which its header could be proven"),
        )
        .hint("when you know that nobody had the drive in hands meanwhile: --unproven"));
    }
    if let Ok(enrolled) = header_backups::enrolled(root, luks) {
        for difference in enrolled.differences(header.enrolment()) {
            println!("{magazine}: {difference}");
        }
        for slot in enrolled.changed_slots(header.enrolment()) {
            println!("{magazine}: key slot {slot} was changed");
        }
    }
    if dry_run {
        println!("would accept the header of {magazine} as it is on {}", device.display());
        return Ok(());
    }
    // First what the drive is recognised by: the backup is renewed at its next use if the second write is lost.
    edit::set_digest(root, luks, header.enrolment().digest())?;
    header_backups::enrol(root, &header, &keys.secrets())?;
    socket::reload(root);
    println!("{magazine}: its header is the enrolled one now, and is backed up");
    Ok(())
}

/// Whether a key of the site gives the volume key that the enrolled header proves; `false` where none is left to compare
/// with.
fn prove(root: &Root, magazine: &Magazine, header: &Header, keys: &Keyring) -> Result<bool, Failure> {
    let failed = || format!("the header of {magazine} is not accepted");
    header.test_keys(&keys.secrets()).or_exit(Exit::Refused, failed())?;
    let enrolled = match header_backups::registered(root, header.uuid()) {
        Ok(enrolled) => enrolled,
        Err(_lost) => return Ok(magazine.luks_digest == Some(header.enrolment().digest())),
    };
    for key in keys.secrets() {
        if header.test_keys(&[key]).is_err() {
            continue;
        }
        if header.has_volume_key_of(&enrolled, key).or_exit(Exit::Refused, failed())? {
            return Ok(true);
        }
    }
    Err(Failure::new(
        Exit::Refused,
        format!("the header of {magazine} has another volume key than the enrolled one: it is not accepted"),
    )
    .hint("its data would be written under a key that others may know; bring the enrolled header back: offsite luks restore"))
}

/// Where the magazine is plugged.
fn device(root: &Root, magazine: &Magazine) -> Result<PathBuf, Failure> {
    // A drive in a file stands for itself.
    if let Some(file) = magazine.serial.as_deref().map(Path::new).filter(|path| path.is_file()) {
        return Ok(file.to_owned());
    }
    let found = System::new(root.kernel()).find(&magazine.tag());
    found.map(|device| device.path).or_exit(Exit::NotThere, format!("{magazine} is not plugged"))
}
