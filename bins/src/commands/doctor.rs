//! `offsite doctor`: looks at everything that the site relies on, and says what to mend.

mod backups;
mod finding;
mod header;
mod running;

use std::path::Path;

use finding::{Finding, Findings, Grade};
use mount_by_uuid::System;

use super::arguments::{Doctor, Filesystem};
use super::{conf, status};
use crate::bacula::as_bacula::Asker;
use crate::bacula::full_disk;
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::base::program::{Program, locate};
use crate::base::report;
use crate::drives::hidden_area;
use crate::protocol::socket::{self, Verb};
use crate::records::key_copies;
use crate::records::keyring::check_fingerprint;
use crate::site::description::Site;
use crate::site::key_file;

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

fn examine(root: &Root) -> Vec<Finding> {
    let mut findings = Findings::default();
    let site = Site::load(root);
    if let Some(site) = findings.check("site.toml is sound", site) {
        let key_file = root.join(&site.key_file);
        let key = key_file::load(&key_file)
            .and_then(|key| check_fingerprint(site.key_fingerprint, key.fingerprint()));
        let encrypted = site.magazines.iter().any(|magazine| magazine.luks_uuid.is_some());
        if let (Ok(key), true) = (key_file::load(&key_file), encrypted) {
            findings.0.push(backups::key_copies(key_copies::of(root, key.fingerprint())));
        }
        findings.check("the key file can be used, by root alone", key);
        if site.next_key_file.is_some() || !site.old_key_files.is_empty() {
            let remedy =
                "offsite key status tells which drives are still to come home; offsite key rotate goes on";
            findings.bad(Grade::Warning, "the exchange of the key isn't finished", remedy);
        }
        generated(root, &site, &mut findings);
        let said = Asker::new(root, &site).and_then(|asker| asker.bacula().ok().flatten());
        let configured = said.as_ref().and_then(|said| said.configured.as_deref());
        bacula(root, &site, configured, &mut findings);
        let full = full_disk::find(root, &site);
        if let Some(path) = &full {
            findings.bad(
                Grade::Error,
                format!(
                    "the filesystem of {} is full: Bacula and its changer can note nothing",
                    path.display()
                ),
                "make room there",
            );
        }
        drives(root, &site, full.is_some(), &mut findings);
        if let Some(said) = said {
            findings.0.extend(backups::closed_volumes(&said.volumes));
        }
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
    match socket::call(root, Verb::Status, None) {
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
        match conf::installed_text(root, file, &path) {
            Ok((text, true)) if text == file.text => findings.ok(format!("{shown} is up to date")),
            Ok((_, false)) => findings.bad(
                Grade::Error,
                format!("{shown} is not {}:{} with mode {:04o}: others could make Bacula run commands, or read its passwords", file.owner, file.group, file.mode),
                "offsite conf sets it right; look at what the file says before",
            ),
            Ok((text, true)) if bacula_conf::inspect(&text) == bacula_conf::Origin::Ours => {
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
fn bacula(root: &Root, site: &Site, configured: Option<&str>, findings: &mut Findings) {
    let directory = root.join(&site.bacula.paths.configuration);
    let Ok(checked) = conf::check::examine(root, &directory, Some(site), false) else {
        return; // that nothing is installed was said above
    };
    let resources = bacula_conf::settings(&checked.files);
    let texts: Vec<String> = checked.files.iter().map(|(_, text)| text.clone()).collect();
    findings.0.extend(backups::mail(&resources));
    findings.0.extend(running::check(&root.kernel().join("proc"), &resources));
    findings.0.extend(running::director(&root.kernel().join("proc"), &resources, configured));
    findings.0.extend(backups::writers(&resources, &texts, site.bacula.pool.name.as_str()));
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
fn drives(root: &Root, site: &Site, is_disk_full: bool, findings: &mut Findings) {
    let devices = System::new(root.kernel()).scan().unwrap_or_default();
    for magazine in &site.magazines {
        let device = devices.iter().find(|device| device.tag.as_ref() == Some(&magazine.tag()));
        if let Some(hidden) =
            device.and_then(|device| hidden_area::look(root, &device.path).problem(&device.path))
        {
            let message = format!("magazine {magazine}: {}", hidden.message);
            findings.bad(Grade::Warning, message, hidden.remedy);
        }
        let Some(luks) = magazine.luks_uuid else {
            let remedy = "offsite prepare makes an encrypted one";
            findings.bad(Grade::Warning, format!("magazine {magazine} is not encrypted"), remedy);
            continue;
        };
        header::backup(root, magazine, luks, device, findings);
        if device.is_none() {
            header::lost(root, site, magazine, luks, &devices, findings);
        }
    }
    if site.magazines.is_empty() {
        findings.bad(Grade::Warning, "no drive is enrolled", "offsite prepare, offsite adopt");
    }
    match status::look(root) {
        Ok(status) => {
            findings.0.extend(backups::failed(&status.backups));
            findings.0.extend(backups::empty_drives(&status.magazines));
            for (name, problem) in status.magazines.into_iter().filter_map(|m| Some((m.name, m.problem?))) {
                findings.bad(Grade::Error, format!("magazine {name}: {}", problem.message), problem.remedy);
            }
            for problem in [status.outdated, status.covered].into_iter().flatten() {
                findings.bad(Grade::Error, problem.message, problem.remedy);
            }
            findings.0.extend(backups::notices(&status.notices));
            if let Some(error) = status.catalog.last_error {
                let remedy = if is_disk_full {
                    "make room on the disk that is full; offsited tries again by itself"
                } else {
                    "is the Director running?"
                };
                let message = format!("Bacula couldn't be told of the drives: {error}");
                findings.bad(Grade::Error, message, remedy);
            }
        }
        Err(failure) => findings.bad(Grade::Error, failure.message(), failure.remedy().unwrap_or_default()),
    }
}

/// Programs that a site uses, and where Debian has them.
fn programs(findings: &mut Findings) {
    for (name, package) in [
        ("bacula-dir", "bacula-director-sqlite3"),
        ("bacula-sd", "bacula-sd"),
        ("bconsole", "bacula-console"),
        ("bscan", "bacula-bscan"),
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
    let cryptsetup = Program::find("cryptsetup", "cryptsetup-bin");
    if let Ok(version) = cryptsetup.and_then(|program| program.args(["--version"]).run()) {
        findings.0.extend(backups::cryptsetup(&version.text));
    }
    let makers = Filesystem::ALL.iter().filter(|fs| super::prepare::can_make(**fs)).count();
    if makers == 0 {
        findings.bad(Grade::Error, "no mkfs program is installed", "apt-get install e2fsprogs");
    }
    if !Path::new("/dev/autofs").exists() {
        findings.bad(Grade::Error, "the kernel has no autofs", "modprobe autofs4");
    }
}
