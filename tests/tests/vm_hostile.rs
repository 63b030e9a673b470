//! What a stranger who had a drive, or an account on the server, can do to it: the real kernel, device-mapper, Bacula's
//! accounts.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use offsite_tests::guest_drives::{DriveSite, SMALL, SOON};
use offsite_tests::vm::{Vm, run_trials, trial};

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_filesystem_that_asks_for_a_panic_leaves_the_server_alone", no_panic),
        trial("nobody_in_a_loop_of_stat_keeps_no_drive_unlocked", nobody_polls),
        trial("a_drive_whose_udev_record_is_lost_is_here_all_the_same", record_lost),
        trial("a_drive_that_a_container_uses_survives_restarts_of_the_daemon", a_container_uses_it),
    ])
}

/// A superblock with `errors=panic`, state clean, and a directory whose only block is junk.
fn no_panic(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.prepared("A", SMALL, "--skip-wipe --volumes 2")?;
    let mapping = "/dev/mapper/forged";
    vm.sh(&format!(
        "set -e; cryptsetup open --key-file /etc/offsite/key {} forged\n\
         tune2fs -e panic {mapping} >/dev/null\n\
         debugfs -w -R 'mkdir bad' {mapping} >/dev/null 2>&1\n\
         block=$(debugfs -R 'blocks bad' {mapping} 2>/dev/null | tr -d ' ')\n\
         dd if=/dev/urandom of={mapping} bs=$(dumpe2fs -h {mapping} 2>/dev/null | awk '/^Block size:/ {{ print $3 }}') seek=$block count=1 conv=notrunc status=none\n\
         dumpe2fs -h {mapping} 2>/dev/null | grep -E 'state|behavior'; cryptsetup close forged",
        a.drive.by_id()
    ))?;
    site.start()?;
    site.wait_for_volumes(&a)?;
    // At the base the kernel panics here.
    vm.run(&format!("ls {}/bad", a.path()))?;
    ensure!(vm.sh("dmesg")?.contains("Remounting filesystem read-only"), "the error was not met");
    vm.sh("touch /run/alive").map(drop)
}

fn nobody_polls(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    ensure!(vm.sh("stat -c '%a %U:%G' /srv/offsite")? == "750 bacula:bacula\n", "the mount root's rights");
    site.plug(&a.drive)?;
    site.wait_for_state(&a, "locked")?;
    let loops = vm.spawn(&format!(
        "runuser -u nobody -- sh -c 'until [ -e /run/enough ]; do stat {0}; stat -f {0}; ls {0}; done' >/dev/null 2>&1",
        a.path()
    ))?;
    // Past the mode by a capability, it is known by its number.
    let stranger = vm.run(&format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search ls {}",
        a.path()
    ))?;
    ensure!(!stranger.success(), "nobody was let in: {stranger:?}");
    vm.wait_for("the journal's word", SOON, "journalctl -u offsited | grep 'user 65534 .* was refused A'")?;
    vm.sh("! dmsetup ls | grep offsite-")?;
    ensure!(
        vm.sh(&format!("runuser -u bacula -- ls {}", a.path()))?.contains("c0_A_0001"),
        "Bacula can't use it"
    );
    site.wait_for_state(&a, "locked")?;
    vm.sh("touch /run/enough")?;
    loops.wait(SOON).map(drop)
}

/// As after a full /run.
fn record_lost(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let holder = site.holder(&a)?;
    let device = vm.sh(&format!("readlink -f {}", a.drive.by_id()))?.trim().to_owned();
    let lose = format!(
        "udevadm trigger --settle --action=remove {device}; ! udevadm info {device} | grep ID_FS_UUID"
    );
    vm.sh(&lose)?;
    // An open drive stays, whatever is looked at.
    vm.sh("systemctl reload offsited; sleep 3; ! dmsetup table | grep error; touch /run/write")?;
    vm.wait_for("its user to write", SOON, "grep 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_state(&a, "locked")?;
    site.wait_for_volumes(&a)?;
    site.wait_for_state(&a, "locked")?;
    vm.sh(&format!("systemctl stop offsited; {lose}"))?;
    site.wait_for_state(&a, "locked")?; // by looking, without the daemon
    site.start()?;
    site.wait_for_state(&a, "locked")?;
    site.wait_for_volumes(&a)
}

fn a_container_uses_it(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let container = vm.spawn(&format!(
        "mkdir -p /run/inside; ls {0}/. && unshare --mount --propagation private sh -c '\n\
         mount --bind {0} /run/inside && exec 9>/run/inside/written && touch /run/contained\n\
         until [ -e /run/end ]; do echo more >&9; sleep 0.1; done'",
        a.path()
    ))?;
    vm.wait_for("the container", SOON, "test -e /run/contained")?;
    let named = "offsite status | grep 'problem: .*it is mounted at /run/inside for sh (process '";
    vm.wait_for("its user to be named", SOON, named)?;
    for restart in ["systemctl restart offsited", "systemctl kill -s KILL offsited; sleep 3"] {
        vm.sh(restart)?;
        vm.wait_for("its user to be named again", SOON, named)?;
        vm.sh("! offsite status | grep 'safe to pull'")?;
        // Who looks gets the same filesystem, and nobody's writing fails.
        site.wait_for_volumes(&a)?;
        vm.sh(&format!("test -s {}/written && ! dmsetup table | grep error", a.path()))?;
        vm.wait_for("the mount to go", SOON, &format!("! grep ' {} ' /proc/mounts", a.path()))?;
    }
    vm.sh("touch /run/end")?;
    let ended = container.wait(SOON)?;
    ensure!(!ended.text.contains("rror"), "its writes failed: {ended:?}");
    site.wait_for_state(&a, "locked")?;
    vm.sh(&format!("grep -c more {}/written", a.path()))?;
    ensure!(!site.torn(&a)?, "taken for torn out");
    Ok(())
}
