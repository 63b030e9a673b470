//! What confuses a daemon that follows drives: events repeated, lost and out of order, its own death, exchanged and
//! damaged drives, clocks that jump, a supervisor that loses patience.
//!
//! `OFFSITE_STORM_DRIVES` and `OFFSITE_STORM_EVENTS` say how many drives are in the storm and how many events each of them
//! has (4 and 25 unless set).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, NOTHING_OPEN, SMALL, SOON};
use offsite_tests::storms;
use offsite_tests::vm::{Vm, run_trials, trial};

fn main() -> ExitCode {
    run_trials(vec![
        trial("after_a_storm_of_events_all_is_as_after_a_quiet_start", storm),
        trial("drives_pulled_while_nobody_watched", pulled_while_nobody_watched),
        trial("strange_drives_are_told_and_left_alone", strange_drives),
        trial("a_supervised_daemon", supervised),
    ])
}

fn number(variable: &str, usual: u32) -> Result<u32> {
    std::env::var(variable).map_or(Ok(usual), |text| Ok(text.parse()?))
}

fn storm(vm: &Vm) -> Result<()> {
    let drives = number("OFFSITE_STORM_DRIVES", 4)?;
    let events = number("OFFSITE_STORM_EVENTS", 25)?;
    let site = DriveSite::install(vm)?;
    let outcome = storms::storm(&site, drives, events)?;
    ensure!(outcome.after == outcome.quiet, "{outcome:#?}");
    overflow(&site, &outcome.magazines)
}

/// A daemon that was too slow has lost events, the plug of a drive among them, and finds that drive all the same.
fn overflow(site: &DriveSite<'_>, magazines: &[Magazine]) -> Result<()> {
    let vm = site.vm;
    let [a, b, ..] = magazines else { anyhow::bail!("two drives") };
    vm.unplug(&b.drive)?;
    site.wait_for_state(b, "away")?;
    // Without this right its buffer is of the usual size.
    storms::override_unit(vm, "[Service]\nCapabilityBoundingSet=~CAP_NET_ADMIN\nWatchdogSec=0")?;
    // The parent first: it would replace a worker that is silent.
    vm.sh("systemctl restart offsited; parent=$(systemctl show -P MainPID offsited); kill -STOP $parent $(pgrep -P $parent)")?;
    vm.repeat_event(&a.drive, "change", 200)?;
    vm.sh_within("udevadm settle --timeout=100", Duration::from_mins(2))?;
    vm.plug(&b.drive)?;
    vm.wait_for("the drive's name", SOON, &format!("test -b {} && udevadm settle", b.drive.by_id()))?;
    vm.sh("parent=$(systemctl show -P MainPID offsited); kill -CONT $(pgrep -P $parent)")?;
    vm.wait_for("the loss to be noticed", SOON, "journalctl -u offsited | grep 'events were lost'")?;
    vm.sh("kill -CONT $(systemctl show -P MainPID offsited)")?;
    site.wait_for_state(b, "locked")?;
    site.wait_for_volumes(b)
}

fn pulled_while_nobody_watched(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    storms::override_unit(vm, "[Service]\nRestart=no")?;
    site.start()?;
    let die = "kill -9 $(systemctl show -P MainPID offsited); until [ $(systemctl is-active offsited) = failed ]; do sleep 0.1; done; systemctl reset-failed offsited";

    // It was mounted when the daemon died, and is away, or somewhere else, when the next one starts.
    for back in [false, true] {
        site.plug(&a.drive)?;
        site.wait_for_volumes(&a)?;
        let holder = site.holder(&a)?;
        vm.sh(die)?;
        vm.unplug(&a.drive)?;
        if back {
            vm.plug_into(&a.drive, 9)?;
            vm.wait_for("the drive's name", SOON, &format!("test -b {} && udevadm settle", a.drive.by_id()))?;
        }
        site.start()?;
        if !back {
            site.wait_for_state(&a, "away")?;
            vm.wait_for("the mount to go", SOON, "! grep ' /srv/offsite/' /proc/mounts")?;
            ensure!(site.torn(&a)?, "nobody noticed that it was torn out");
            site.ensure_absent(&a)?;
            site.plug(&a.drive)?;
        }
        site.wait_for_volumes(&a)?;
        vm.sh("journalctl -u offsited | grep 'was pulled while in use: checking it' && touch /run/write /run/end")?;
        holder.wait(SOON)?;
        site.wait_for_rest()?;
        vm.sh("rm -f /run/held /run/write /run/end")?;
        vm.unplug(&a.drive)?;
        site.wait_for_state(&a, "away")?;
    }

    // It was unlocked, but not mounted.
    vm.sh(die)?;
    site.plug(&a.drive)?;
    vm.sh(&format!(
        "udevadm settle; cryptsetup open --key-file /etc/offsite/key {} offsite-{}",
        a.drive.by_id(),
        a.luks_uuid
    ))?;
    site.start()?;
    vm.wait_for("the drive to be locked", SOON, NOTHING_OPEN)?;
    site.wait_for_volumes(&a)?;
    damaged(&site, &a)
}

/// A filesystem that was torn out is repaired when that is safe, and left to a person when it isn't.
fn damaged(site: &DriveSite<'_>, a: &Magazine) -> Result<()> {
    let vm = site.vm;
    let inside = |commands: &str| {
        let device = a.drive.by_id();
        vm.sh(&format!(
            "set -e; systemctl stop offsited; udevadm settle\n\
             cryptsetup open --key-file /etc/offsite/key {device} inside; udevadm settle\n\
             {commands}\n udevadm settle; cryptsetup close inside; systemctl start offsited"
        ))
    };
    // As a power cut leaves it, with a wrong count of free blocks.
    site.wait_for_rest()?;
    inside(
        "debugfs -w -R 'ssv free_blocks_count 7' /dev/mapper/inside; debugfs -w -R 'ssv state 0' /dev/mapper/inside",
    )?;
    site.wait_for_volumes(a)?;
    vm.sh("journalctl -u offsited | grep 'was not unmounted the last time: checking it'")?;
    site.wait_for_rest()?;
    inside("e2fsck -fn /dev/mapper/inside")?;

    // Without its root directory nothing can be repaired without a question.
    inside("debugfs -w -R 'clri <2>' /dev/mapper/inside; debugfs -w -R 'ssv state 0' /dev/mapper/inside")?;
    let seen = vm.run(&format!("timeout 60 ls {}", a.path()))?;
    ensure!(seen.status == 2 && seen.text.contains("Permission denied"), "{seen:?}");
    site.wait_for_state(a, "refused")?;
    let told = vm.sh("offsite status")?;
    for part in ["NOT USABLE", "can't be repaired safely", "make a copy of the drive, then run e2fsck"] {
        ensure!(told.contains(part), "no {part:?} in {told}");
    }
    vm.sh(NOTHING_OPEN)?;
    let again = vm.run(&format!("timeout 60 ls {}", a.path()))?;
    ensure!(!again.success(), "it is used all the same");

    // The person does so, and it is used again without a command to offsited.
    inside("e2fsck -fy /dev/mapper/inside || [ $? = 1 ]")?;
    vm.wait_for("the drive to be used", SOON, &format!("timeout 30 ls {}", a.path()))?;
    site.wait_for_rest()
}

fn strange_drives(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);

    // A bridge hides its serial, and it was there before the daemon.
    vm.plug_by_usb(&a.drive)?;
    vm.wait_for("a USB disk", SOON, "ls /dev/disk/by-id/usb-* && udevadm settle")?;
    ensure!(!vm.sh("ls /dev/disk/by-id")?.contains(a.drive.serial()), "the bridge hides nothing");
    site.start()?;
    site.wait_for_state(&a, "locked")?;
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()?;
    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;

    // The container is the enrolled one, but not what is in it.
    site.plug(&b.drive)?;
    site.wait_for_state(&b, "locked")?;
    let other = "11111111-2222-4333-8444-555555555555";
    vm.sh(&format!(
        "set -e; cryptsetup open --key-file /etc/offsite/key {} inside; mkfs.ext4 -q -F -U {other} /dev/mapper/inside\n\
         udevadm settle; cryptsetup close inside",
        b.drive.by_id()
    ))?;
    let seen = vm.run(&format!("timeout 60 ls {}", b.path()))?;
    ensure!(seen.status == 2 && seen.text.contains("Permission denied"), "{seen:?}");
    let told = vm.sh("offsite status")?;
    ensure!(
        told.contains(&format!("filesystem {other} in place of the ext4 filesystem"))
            && told.contains("offsite adopt"),
        "{told}"
    );
    vm.sh(NOTHING_OPEN)?;
    vm.unplug(&b.drive)?;

    // A drive in the enrolled one's case, with another container in it.
    let case = b.drive.clone_as("CASE")?;
    vm.plug(&case)?;
    vm.sh(&format!(
        "until [ -b {0} ]; do sleep 0.1; done; cryptsetup -q luksUUID --uuid {other} {0}; udevadm settle",
        case.by_id()
    ))?;
    vm.sh(&format!("udevadm trigger --settle {}", case.by_id()))?;
    site.wait_for_state(&b, "away")?;
    site.ensure_absent(&b)?;
    vm.sh(NOTHING_OPEN)?;
    vm.unplug(&case)?;
    clock_steps(&site, &a)
}

/// Idle is what the monotonic clock says.
fn clock_steps(site: &DriveSite<'_>, a: &Magazine) -> Result<()> {
    let vm = site.vm;
    vm.sh("echo 'idle_seconds = 20' >/run/toml; grep -v idle_seconds /etc/offsite/site.toml >>/run/toml; cp /run/toml /etc/offsite/site.toml; systemctl restart offsited")?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(a)?;
    vm.sh("date -s '+1 day'")?;
    std::thread::sleep(Duration::from_secs(4));
    vm.sh(&format!("grep ' {} ' /proc/mounts", a.path())).context("a clock set forward locks the drive")?;
    vm.sh("date -s '-3 days'")?;
    site.wait_for_rest().context("a clock set back keeps the drive open")?;
    site.wait_for_state(a, "locked")
}

fn supervised(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    let complaints = vm
        .run("systemd-analyze verify --man=no offsited.service offsited-lock.service 2>&1 | grep offsited")?;
    ensure!(complaints.text.is_empty(), "{}", complaints.text);
    // "→ Overall exposure level for offsited.service: 3.9 OK".
    let exposure = vm.sh("systemd-analyze security --no-pager offsited | tail -1")?;
    let score: Option<f64> = exposure.split_whitespace().find_map(|word| word.parse().ok());
    ensure!(score.is_some_and(|score| score < 4.0), "{exposure}");

    // A service with mounts of its own, as bacula-sd may be, that is there before the daemon.
    let early = vm.spawn(&format!(
        "systemd-run --quiet --pipe --wait --uid=bacula --gid=bacula -p PrivateTmp=yes -p ProtectSystem=full \
         sh -c 'until [ -e /run/look ]; do sleep 0.1; done; ls {}'",
        a.path()
    ))?;
    vm.sh("until systemctl list-units --no-legend 'run-u*.service' | grep running; do sleep 0.1; done")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_state(&a, "locked")?;
    vm.sh("touch /run/look")?;
    let seen = early.wait(SOON)?;
    ensure!(seen.success() && seen.text.contains("c0_A_0002"), "bacula-sd wouldn't see the drive: {seen:?}");
    site.wait_for_rest()?;

    let fields =
        vm.sh("journalctl -u offsited OFFSITE_MAGAZINE=A PRIORITY=6 SYSLOG_IDENTIFIER=offsited -o cat")?;
    ensure!(fields.contains("A is mounted") && fields.contains("A is locked"), "{fields}");
    ensure!(!fields.contains("ready"), "what is about no drive names one: {fields}");

    reloaded(&site)?;
    watched(&site, &a)?;
    taken_away(&site, &a)
}

fn reloaded(site: &DriveSite<'_>) -> Result<()> {
    let vm = site.vm;
    vm.sh("cp /etc/offsite/site.toml /run/good; echo 'idle_secnods = 7' >>/etc/offsite/site.toml")?;
    ensure!(!vm.run("systemctl reload offsited")?.success(), "a reload that changed nothing succeeded");
    vm.wait_for(
        "the refusal",
        SOON,
        "journalctl -u offsited PRIORITY=4 -o cat | grep 'keeping the previous configuration: .*idle_sec'",
    )?;
    ensure!(
        vm.sh("offsite status")?.contains("offsited: keeping the previous configuration"),
        "status is silent"
    );
    ensure!(vm.sh("offsite status")?.contains("A  plugged, locked"), "the old one didn't stay");
    vm.sh("cp /run/good /etc/offsite/site.toml && systemctl reload offsited")?;
    ensure!(!vm.sh("offsite status")?.contains("previous configuration"), "it is in force again");
    vm.wait_for("the new one", SOON, "journalctl -u offsited -o cat | grep 'site.toml read: 1 drives'")?;
    Ok(())
}

/// A daemon that hangs is ended and started again; who uses a drive notices nothing.
fn watched(site: &DriveSite<'_>, a: &Magazine) -> Result<()> {
    let vm = site.vm;
    storms::override_unit(vm, "[Service]\nWatchdogSec=5")?;
    vm.sh("systemctl restart offsited")?;
    site.wait_for_volumes(a)?;
    let holder = site.holder(a)?;
    // It feeds the watchdog when nothing else happens.
    std::thread::sleep(Duration::from_secs(8));
    let pid = vm.sh("systemctl show -P MainPID offsited")?;
    ensure!(vm.sh("systemctl show -P NRestarts offsited")? == "0\n", "it doesn't feed its watchdog");
    vm.sh(&format!("kill -STOP {pid}"))?;
    vm.wait_for("the watchdog", SOON, "journalctl -u offsited | grep 'Watchdog timeout'")?;
    vm.wait_for("the next daemon", SOON, &format!("systemctl is-active offsited && [ $(systemctl show -P MainPID offsited) != {} ] && offsite status | grep '^A  in use'", pid.trim()))?;
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's success", SOON, "grep -x 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()
}

/// Somebody unmounts the automount point itself, drive and all.
fn taken_away(site: &DriveSite<'_>, a: &Magazine) -> Result<()> {
    let vm = site.vm;
    for how in ["umount -l /srv/offsite", "umount -l /srv/offsite; true"] {
        site.wait_for_volumes(a)?;
        vm.sh(how)?;
        vm.wait_for("the next automount point", SOON, "grep ' /srv/offsite autofs ' /proc/mounts")?;
    }
    site.wait_for_volumes(a)?;
    site.wait_for_rest()
}
