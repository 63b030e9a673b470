//! `offsite conf --style`: drives mounted on demand by stock parts alone, in a server without offsited.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, SMALL, SOON};
use offsite_tests::vm::{Vm, run_trials, trial};

/// Seconds without use in these sites.
const IDLE: u64 = 4;

fn main() -> ExitCode {
    run_trials(vec![
        trial("udev_and_autofs_plug_list_idle_unplug_replug", |vm| life(vm, Style::UdevAutofs)),
        trial("systemd_units_plug_list_idle_lock_unplug_replug", |vm| life(vm, Style::Systemd)),
        trial("udev_and_autofs_with_one_udev_worker", |vm| one_worker(vm, Style::UdevAutofs)),
        trial("systemd_units_with_one_udev_worker", |vm| one_worker(vm, Style::Systemd)),
        trial("udev_and_autofs_torn_out_while_written", |vm| torn_out(vm, Style::UdevAutofs)),
        trial("systemd_units_torn_out_while_written", |vm| torn_out(vm, Style::Systemd)),
    ])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    UdevAutofs,
    Systemd,
}

/// Two enrolled drives in the safe, and the style's files installed and started as `offsite conf` says.
fn set_up(vm: &Vm, style: Style) -> Result<(DriveSite<'_>, Magazine, Magazine)> {
    let site = DriveSite::install(vm)?;
    let enrolled = vm.sh("cat /etc/offsite/site.toml")?;
    vm.write(
        "/etc/offsite/site.toml",
        enrolled.replace("idle_seconds = 3", &format!("idle_seconds = {IDLE}")),
        0o644,
    )?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    let word = match style {
        Style::UdevAutofs => "udev+autofs",
        Style::Systemd => "systemd",
    };
    let said = vm.sh(&format!("offsite conf --style {word}"))?;
    let next = said.lines().find_map(|line| line.strip_prefix("next: ")).unwrap_or_default();
    let commands = next.strip_suffix("; then plug a drive").unwrap_or_default();
    ensure!(!commands.is_empty(), "it doesn't say what comes next: {said}");
    vm.sh(&format!("set -e; {commands}"))?;
    ensure!(vm.sh("find /etc/offsite /etc/auto.master.d -name '*offsite*' -type f -perm /111")?.is_empty());
    Ok((site, a, b))
}

fn mounted(magazine: &Magazine) -> String {
    format!("grep ' {} ext4 ' /proc/mounts", magazine.path())
}

fn mapped(magazine: &Magazine) -> String {
    format!("dmsetup ls | grep offsite-{}", magazine.luks_uuid)
}

fn life(vm: &Vm, style: Style) -> Result<()> {
    let (site, a, b) = set_up(vm, style)?;
    // What isn't there is asked for, and isn't written to by Bacula.
    let absent = vm.run(&format!("timeout 5 ls {0}; runuser -u bacula -- touch {0}/x", a.path()))?;
    ensure!(!absent.success(), "Bacula writes below an empty mount point: {absent:?}");

    let foreign = site.blank("FOREIGN", 64)?;
    let device = foreign.by_id();
    vm.sh(&format!("cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} /etc/offsite/key && udevadm settle"))?;
    vm.unplug(&foreign)?;
    site.plug(&foreign)?;

    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let options = vm.sh(&mounted(&a))?;
    ensure!(options.contains("rw,nosuid,nodev,noexec"), "mounted with {options}");
    vm.sh(&format!("runuser -u bacula -- touch {}/written", a.path()))?;
    let open = vm.sh("dmsetup ls")?;
    ensure!(open.lines().count() == 1, "the foreign drive was unlocked: {open}");

    vm.wait_for("the idle drive to be unmounted", SOON, &format!("! {}", mounted(&a)))?;
    if style == Style::Systemd {
        vm.wait_for("the idle drive to be locked", SOON, &format!("! {}", mapped(&a)))?;
    }
    site.wait_for_volumes(&a)?;
    vm.wait_for("the idle drive to be unmounted again", SOON, &format!("! {}", mounted(&a)))?;

    vm.unplug(&a.drive)?;
    vm.wait_for("the mapping to go", SOON, &format!("! {}", mapped(&a)))?;
    // Another drive has its name now.
    site.plug(&b.drive)?;
    site.wait_for_volumes(&b)?;
    vm.plug_into(&a.drive, 7)?;
    site.wait_for_volumes(&a)?;
    ensure!(vm.sh(&format!("ls {}", a.path()))?.contains("written"), "what was written is gone");
    ensure!(vm.sh("systemctl --failed --no-legend --plain")?.is_empty(), "units have failed");
    Ok(())
}

/// The deadlock of the tutorial's rule: with one worker it waits 180 s. Here nothing waits inside a worker.
fn one_worker(vm: &Vm, style: Style) -> Result<()> {
    let (site, a, b) = set_up(vm, style)?;
    vm.limit_udev_workers(1)?;
    vm.plug(&a.drive)?;
    vm.plug(&b.drive)?;
    site.wait_for_volumes(&a)?;
    site.wait_for_volumes(&b)
}

fn torn_out(vm: &Vm, style: Style) -> Result<()> {
    let (site, a, _) = set_up(vm, style)?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let at = a.path();
    vm.sh(&format!("echo kept >{at}/kept && sync {at}/kept"))?;
    let write = format!(
        "exec 9>>{at}/held; while dd if=/dev/urandom of={at}/large bs=64k count=64 conv=fsync,notrunc; do touch /run/begun; done; false"
    );
    let writer = vm.unplug_during(&a.drive, &write)?;
    ensure!(!writer.success(), "the writer saw no error: {writer:?}");
    vm.wait_for("the mount to go", SOON, &format!("! {}", mounted(&a)))?;
    vm.wait_for("the mapping to go", SOON, &format!("! {}", mapped(&a)))?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    ensure!(vm.sh(&format!("cat {at}/kept"))? == "kept\n", "what was on the drive before is lost");
    Ok(())
}
