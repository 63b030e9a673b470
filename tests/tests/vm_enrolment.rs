//! Drives that come back with another header than they were enrolled with, on the running daemon.

#[expect(dead_code, reason = "smaller changes are for luks-core's own tests")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#[path = "../../luks-core/tests/forger/mod.rs"]
mod forger;

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, NOTHING_OPEN, SMALL, SOON};
use offsite_tests::vm::{Vm, run_trials, trial};
use serde_json::Value;

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_slot_that_takes_any_key_is_refused_and_the_backup_stays", forged_slot),
        trial("a_header_changed_by_hand_is_told_and_accepted", changed_by_hand),
        trial("a_lost_register_is_replaced_by_the_right_drive_only", lost_register),
    ])
}

fn backups(vm: &Vm) -> Result<String> {
    vm.sh("cd /var/lib/offsite/headers && sha256sum *.img")
}

/// Looking at the drive's directory gives an error, nothing of it is open, and `status` says why.
fn ensure_refused(site: &DriveSite<'_>, magazine: &Magazine, why: &str) -> Result<()> {
    let seen = site.vm.run(&format!("timeout 60 ls {}", magazine.path()))?;
    ensure!(!seen.success(), "it was opened: {seen:?}");
    site.wait_for_state(magazine, "refused")?;
    let status = site.status(&magazine.name)?;
    let said = status.pointer("/problem/message").and_then(Value::as_str).unwrap_or_default();
    ensure!(said.contains(why), "{status}");
    site.vm.sh(NOTHING_OPEN).map(drop)
}

/// Anybody who had the drive can write this header: every key opens it, for a volume key that he knows.
fn forged_slot(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    let before = backups(vm)?;
    let mut image = fs::read(a.drive.file())?;
    forger::take_any_key(&mut image, &[0x42; 64]);
    fs::write(a.drive.file(), image)?;
    site.plug(&a.drive)?;
    site.wait_for_state(&a, "locked")?;
    ensure_refused(&site, &a, "slot 1 keeps its key material unencrypted")?;
    let tested = vm.run(&format!("offsite luks test {} --key-file /etc/offsite/key", a.drive.by_id()))?;
    ensure!(!tested.success(), "{tested:?}");
    ensure!(backups(vm)? == before, "the backup of the good header was changed");
    let restored = vm.sh(&format!("offsite luks restore {} --yes-overwrite DRIVE-A", a.drive.by_id()))?;
    ensure!(restored.contains("is restored"), "{restored}");
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()
}

fn changed_by_hand(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_state(&a, "locked")?;
    let device = a.drive.by_id();
    let before = backups(vm)?;

    // Another key slot: the drive is used, and the change is told.
    vm.sh(&format!(
        "head -c 64 /dev/urandom >/run/other && cryptsetup luksAddKey --key-slot 5 --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 --key-file /etc/offsite/key {device} /run/other"
    ))?;
    site.wait_for_volumes(&a)?;
    vm.wait_until("the change to be told", SOON, || {
        let said = vm.sh("offsite status")?;
        Ok(said.contains("the header of A was changed outside offsite: key slots 5"))
    })?;
    ensure!(backups(vm)? == before, "the changed header was backed up");
    let doctor = vm.run("offsite doctor")?;
    ensure!(doctor.text.contains("if you changed it yourself: offsite luks accept A"), "{doctor:?}");
    site.wait_for_rest()?;

    // Something else: the drive is refused.
    vm.sh(&format!(
        "cryptsetup open --key-file /etc/offsite/key --allow-discards --persistent {device} byhand && \
         udevadm settle && cryptsetup close byhand"
    ))?;
    ensure_refused(&site, &a, "config/flags/0 was absent, is allow-discards")?;
    let accepted = vm.sh("offsite luks accept A")?;
    ensure!(accepted.contains("its header is the enrolled one now"), "{accepted}");
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()?;
    ensure!(!vm.sh("offsite status")?.contains("outside offsite"), "the change is still told");
    Ok(())
}

fn lost_register(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    vm.sh("grep -c luks_digest /etc/offsite/site.toml && rm -r /var/lib/offsite/headers")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    vm.wait_for("the backup", SOON, "ls /var/lib/offsite/headers/*.img")?;
    site.wait_for_rest()?;

    // The same drive in a site whose digest is another one's: nothing speaks for it.
    vm.sh("systemctl stop offsited; rm -r /var/lib/offsite/headers; \
         sed -i 's/^luks_digest = .*/luks_digest = \"'$(printf 5a%.0s $(seq 32))'\"/' /etc/offsite/site.toml")?;
    site.start()?;
    site.wait_for_state(&a, "locked")?;
    ensure_refused(&site, &a, "which is not the luks_digest in site.toml")?;
    vm.sh("! ls /var/lib/offsite/headers/*.img")?;
    Ok(())
}
