//! A daemon that is restarted in the midst of a job, as an upgrade does, and what a shutdown leaves: real Bacula, real drives.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use offsite_tests::guest_drives::NOTHING_OPEN;
use offsite_tests::guest_site::GuestSite;
use offsite_tests::vm::{Size, Vm, run_trials, trial};

/// Many times what is needed on a busy machine.
const LONG: Duration = Duration::from_mins(4);

fn main() -> ExitCode {
    run_trials(vec![trial("a_job_does_not_notice_restarts_of_the_daemon", restarts)])
}

fn restarts(vm: &Vm) -> Result<()> {
    let site = GuestSite::install(vm)?;
    site.generate_tree()?;
    let a = vm.blank_drive("DRIVE-A", Size::mib(192))?;
    vm.plug(&a)?;
    vm.wait_for("the drive's name", LONG, &format!("test -b {}", a.by_id()))?;
    site.prepare(&a, "A")?;
    site.start()?;
    site.wait_for_catalog("A", LONG)?;

    // From the first byte on the drive to the end of the job; not so fast that systemd refuses.
    let restarts = vm.spawn(
        "until grep -q ' /srv/offsite/[^ ]* ext4' /proc/mounts && ls -l /proc/$(pidof bacula-sd)/fd | grep -q /srv/offsite/; do sleep 0.1; done\n\
         for n in 1 2 3 4; do systemctl restart offsited || exit 1; sleep 3; done",
    )?;
    let job = site.backup("Full")?;
    ensure!(job.volumes.len() > 2, "too few volumes to have been disturbed between two: {job:?}");
    let restarted = restarts.wait(LONG)?;
    ensure!(restarted.success(), "{restarted:?}");
    ensure!(vm.sh("systemctl is-active offsited")? == "active\n", "the unit failed");
    let complaints = vm.run("journalctl -u offsited -p warning -o cat --no-pager")?;
    ensure!(complaints.text.trim().is_empty(), "a restart is no reason to complain: {}", complaints.text);
    let failures = vm.run("journalctl -o cat --no-pager | grep -E 'offsited.*(Failed|failed with)'")?;
    ensure!(failures.text.trim().is_empty(), "{}", failures.text);

    // A shutdown stops the units in this order, and leaves nothing unlocked.
    vm.sh(&format!("ls /srv/offsite/$({FS_UUID}) >/dev/null"))?;
    vm.sh_within("systemctl stop bacula-director bacula-sd bacula-fd && systemctl stop offsited", LONG)?;
    ensure!(!vm.run(NOTHING_OPEN)?.success(), "the stop alone has locked the drive");
    vm.sh_within("systemctl stop offsited-lock", LONG)?;
    vm.sh(NOTHING_OPEN)?;
    let failed = vm.run("systemctl is-failed offsited offsited-lock")?;
    ensure!(!failed.text.contains("failed"), "{failed:?}");
    Ok(())
}

/// Prints the UUID of the only drive's filesystem.
const FS_UUID: &str = "sed -n 's/^fs_uuid = \"\\(.*\\)\"/\\1/p' /etc/offsite/site.toml";
