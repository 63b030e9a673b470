//! `offsite doctor`: looks at everything that the site relies on, and says what to mend.

use std::path::Path;

use luks_core::{Container, LuksUuid};
use mount_by_uuid::{BlockDevice, System};
use serde::Serialize;

use crate::cli::{Doctor, Filesystem};
use crate::conf;
use crate::control::{self, Verb};
use crate::failure::{Exit, Failure};
use crate::keyring::{Keyring, check_fingerprint};
use crate::paths::Root;
use crate::program::locate;
use crate::site::{Magazine, Site};
use crate::{headers, key, report, status};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Grade {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Finding {
    grade: Grade,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Runs `offsite doctor`.
pub fn run(root: &Root, options: &Doctor) -> Result<(), Failure> {
    let findings = examine(root);
    if options.json {
        report::json(&findings)?;
    } else {
        for finding in &findings {
            let word = match finding.grade {
                Grade::Ok => "ok      ",
                Grade::Warning => "warning ",
                Grade::Error => "ERROR   ",
            };
            println!("{word}{}", finding.message);
            if let Some(remedy) = &finding.remedy {
                println!("        {remedy}");
            }
        }
    }
    match findings.iter().filter(|f| f.grade == Grade::Error).count() {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Failed, format!("{n} things must be mended"))),
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, message: impl Into<String>) {
        self.0.push(Finding { grade: Grade::Ok, message: message.into(), remedy: None });
    }

    fn bad(&mut self, grade: Grade, message: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { grade, message: message.into(), remedy: Some(remedy.into()) });
    }

    fn check<T>(&mut self, what: &str, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(what);
                Some(value)
            }
            Err(failure) => {
                let remedy = failure.remedy().unwrap_or("see the message").to_owned();
                self.bad(Grade::Error, failure.message(), remedy);
                None
            }
        }
    }
}

fn examine(root: &Root) -> Vec<Finding> {
    let mut findings = Findings::default();
    let site = Site::load(root);
    if let Some(site) = findings.check("site.toml is sound", site) {
        let key_file = root.join(&site.key_file);
        let key =
            key::load(&key_file).and_then(|key| check_fingerprint(site.key_fingerprint, key.fingerprint()));
        findings.check("the key file can be used, by root alone", key);
        if site.next_key_file.is_some() || !site.old_key_files.is_empty() {
            let remedy =
                "offsite key status tells which drives are still to come home; offsite key rotate goes on";
            findings.bad(Grade::Warning, "the exchange of the key isn't finished", remedy);
        }
        generated(root, &site, &mut findings);
        bacula(root, &site, &mut findings);
        drives(root, &site, &mut findings);
    }
    programs(&mut findings);
    if luks_core::has_device_mapper(root.kernel()) {
        findings.ok("the kernel has device-mapper");
    } else {
        findings.bad(
            Grade::Error,
            "the kernel has no device-mapper: no drive can be unlocked",
            "modprobe dm-crypt",
        );
    }
    match control::call(root, Verb::Status, None) {
        Ok(Some(_)) => findings.ok("offsited answers"),
        Ok(None) => findings.bad(Grade::Error, "offsited isn't running", "systemctl enable --now offsited"),
        Err(failure) => findings.bad(Grade::Error, failure.message(), failure.remedy().unwrap_or_default()),
    }
    findings.0
}

/// Generated files: there, as written, and up to date.
fn generated(root: &Root, site: &Site, findings: &mut Findings) {
    let Some(files) = findings.check("the configuration can be generated", conf::files(root, site)) else {
        return;
    };
    for file in &files {
        let path = root.join(&file.path);
        let shown = path.display();
        match std::fs::read_to_string(&path) {
            Ok(text) if text == file.text => findings.ok(format!("{shown} is up to date")),
            Ok(text) if bacula_conf::inspect(&text) == bacula_conf::Origin::Ours => {
                findings.bad(Grade::Warning, format!("{shown} is older than site.toml"), "offsite conf");
            }
            Ok(_) => findings.bad(
                Grade::Warning,
                format!("{shown} was edited by hand"),
                "offsite conf shows the difference",
            ),
            Err(_) => {
                findings.bad(Grade::Error, format!("{shown} is missing or can't be read"), "offsite conf");
            }
        }
    }
}

/// Bacula's configuration as it is installed: against itself, the rotation of the drives, and this machine.
fn bacula(root: &Root, site: &Site, findings: &mut Findings) {
    let directory = root.join(&site.bacula.paths.configuration);
    let Ok(checked) = conf::check::examine(root, &directory, Some(site), false) else {
        return; // that nothing is installed was said above
    };
    if checked.findings.is_empty() {
        findings.ok(format!(
            "Bacula's configuration in {} agrees with itself and the rotation",
            directory.display()
        ));
    }
    for finding in checked.findings {
        let grade =
            if finding.severity == bacula_conf::Severity::Error { Grade::Error } else { Grade::Warning };
        findings.bad(
            grade,
            format!("{}:{}: {}", finding.file.display(), finding.line, finding.message),
            finding.remedy,
        );
    }
}

/// Drives: each with a copy of its header, none torn, none refused.
fn drives(root: &Root, site: &Site, findings: &mut Findings) {
    let devices = System::new(root.kernel()).scan().unwrap_or_default();
    for magazine in &site.magazines {
        let Some(luks) = magazine.luks_uuid else {
            let remedy = "offsite prepare makes an encrypted one";
            findings.bad(Grade::Warning, format!("magazine {magazine} is not encrypted"), remedy);
            continue;
        };
        let device = devices.iter().find(|device| device.tag.as_ref() == Some(&magazine.tag()));
        header(root, magazine, luks, device, findings);
        if device.is_none() {
            lost_header(magazine, &devices, findings);
        }
    }
    if site.magazines.is_empty() {
        findings.bad(Grade::Warning, "no drive is enrolled", "offsite prepare, offsite adopt");
    }
    match status::look(root) {
        Ok(status) => {
            for problem in status.magazines.into_iter().filter_map(|m| m.problem) {
                findings.bad(Grade::Error, problem.message, problem.remedy);
            }
            if let Some(error) = status.catalog.last_error {
                findings.bad(
                    Grade::Error,
                    format!("Bacula couldn't be told of the drives: {error}"),
                    "is the Director running?",
                );
            }
        }
        Err(failure) => findings.bad(Grade::Error, failure.message(), failure.remedy().unwrap_or_default()),
    }
}

/// The header's backup: there, sound, of the header that the drive has now, and opened by the site's key.
fn header(
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
fn lost_header(magazine: &Magazine, devices: &[BlockDevice], findings: &mut Findings) {
    let same = |device: &&BlockDevice| device.serial.is_some() && device.serial == magazine.serial;
    if let Some(device) = devices.iter().find(same) {
        findings.bad(
            Grade::Error,
            format!("magazine {magazine} is plugged as {} but shows no LUKS header", device.path.display()),
            format!("bring it back from its backup: offsite luks restore {}", device.path.display()),
        );
    }
}

/// Programs that a site uses, and where Debian has them.
fn programs(findings: &mut Findings) {
    for (name, package) in [
        ("bacula-dir", "bacula-director-sqlite3"),
        ("bacula-sd", "bacula-sd"),
        ("bconsole", "bacula-console"),
    ] {
        if locate(name).is_some() {
            findings.ok(format!("{name} is installed"));
        } else {
            findings.bad(
                Grade::Warning,
                format!("{name} isn't installed"),
                format!("apt-get install {package}, unless it runs on another server"),
            );
        }
    }
    let makers = Filesystem::ALL.iter().filter(|fs| crate::prepare::can_make(**fs)).count();
    if makers == 0 {
        findings.bad(Grade::Error, "no mkfs program is installed", "apt-get install e2fsprogs");
    }
    if !Path::new("/dev/autofs").exists() {
        findings.bad(Grade::Error, "the kernel has no autofs", "modprobe autofs4");
    }
}
