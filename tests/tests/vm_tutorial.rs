//! What the tutorial's own set-up does with a drive that is plugged and pulled: the facts that ours is measured by.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use offsite_tests::tutorial::Tutorial;
use offsite_tests::vm::{Drive, Size, Vm, run_trials, trial};

const SOON: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_plugged_drive_is_listed_within_seconds", a_plugged_drive_is_listed_within_seconds),
        trial("with_no_other_worker_free_the_rule_waits_for_itself", the_rule_waits_for_itself),
        trial("a_mounted_drive_pulled_out_leaves_a_stale_mapping", a_mounted_drive_leaves_a_stale_mapping),
    ])
}

/// A drive prepared as the tutorial says, away again, and its filesystem's UUID.
fn prepared(vm: &Vm) -> Result<(Tutorial<'_>, Drive, String)> {
    let tutorial = Tutorial::install(vm)?;
    let drive = vm.blank_drive("OFFSITE-A", Size::mib(64))?;
    vm.plug(&drive)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", drive.by_id()))?;
    let uuid = tutorial.prepare(&drive)?;
    vm.unplug(&drive)?;
    vm.wait_for("the drive to go", SOON, "! ls /dev/sd* && udevadm settle")?;
    tutorial.unlock_by_udev()?;
    Ok((tutorial, drive, uuid))
}

fn a_plugged_drive_is_listed_within_seconds(vm: &Vm) -> Result<()> {
    let (tutorial, drive, uuid) = prepared(vm)?;
    let took = tutorial.plug_to_listing(&drive, &uuid)?;
    ensure!(took < SOON, "{took:?} from the plug to the first listing");
    let mounted = vm.sh(&format!("findmnt -n -o FSTYPE,OPTIONS --mountpoint {}", Tutorial::path(&uuid)))?;
    ensure!(mounted.contains("ext4") && mounted.contains("sync"), "{mounted}");
    Ok(())
}

/// Why the tutorial's author waited 180 seconds: cryptsetup waits for an event that udevd can't handle
/// before the worker in which cryptsetup runs is free.
fn the_rule_waits_for_itself(vm: &Vm) -> Result<()> {
    let (_, drive, uuid) = prepared(vm)?;
    vm.limit_udev_workers(1)?;
    vm.plug(&drive)?;
    vm.wait_for("cryptsetup in the worker", SOON, "pgrep -x cryptsetup")?;
    std::thread::sleep(Duration::from_secs(30));
    vm.sh(&format!("pgrep -x cryptsetup && ! test -e /dev/disk/by-uuid/{uuid}"))?;
    // Another worker, and it goes on at once.
    vm.limit_udev_workers(8)?;
    vm.wait_for("the filesystem", SOON, &format!("test -e /dev/disk/by-uuid/{uuid}"))?;
    Ok(())
}

fn a_mounted_drive_leaves_a_stale_mapping(vm: &Vm) -> Result<()> {
    let (tutorial, drive, uuid) = prepared(vm)?;
    tutorial.plug_to_listing(&drive, &uuid)?;
    vm.unplug(&drive)?;
    vm.wait_for("the drive to go", SOON, "! ls /dev/sd* && udevadm settle")?;
    vm.sh(&format!("dmsetup info sda && mountpoint {}", Tutorial::path(&uuid)))?;
    Ok(())
}
