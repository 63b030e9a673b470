//! Storms of device events over a daemon that is killed in their midst.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::guest_drives::{DriveSite, Magazine, QUICK, SMALL, SOON};
use crate::vm::Vm;

/// How a site was after a storm, and after a quiet start on the same drives.
#[derive(Debug)]
pub struct Outcome {
    /// The drives, all plugged.
    pub magazines: Vec<Magazine>,
    /// What `offsite status` told after the storm, and which mounts and mappings there were.
    pub after: Value,
    /// The same after the daemon was started on drives that were there.
    pub quiet: Value,
}

/// Adds something to the daemon's unit and has systemd read it.
///
/// # Errors
/// When the guest refuses.
pub fn override_unit(vm: &Vm, text: &str) -> Result<()> {
    vm.write("/etc/systemd/system/offsited.service.d/test.conf", format!("{text}\n"), 0o644)?;
    vm.sh("systemctl daemon-reload").map(drop)
}

/// Plugs that many prepared drives, one of them held open, and has the kernel and udevd announce each of them `events`
/// times as added, changed and removed in a random order, all at once; the daemon is killed twice meanwhile. The last
/// event of each drive is a change, after which udevd knows it again.
///
/// # Errors
/// When the machine doesn't do what it is told, or when a drive in use was taken away.
pub fn storm(site: &DriveSite<'_>, drives: u32, events: u32) -> Result<Outcome> {
    let vm = site.vm;
    let mut magazines = Vec::new();
    for n in 0..drives {
        magazines.push(site.prepared(&format!("D{n}"), SMALL, QUICK)?);
    }
    site.start()?;
    for magazine in &magazines {
        site.wait_for_state(magazine, "locked")?;
    }
    let held = magazines.first().ok_or_else(|| anyhow::anyhow!("no drives"))?;
    site.wait_for_volumes(held)?;
    let holder = site.holder(held)?;
    let mount = format!("grep ' {} ' /proc/self/mountinfo | cut -d ' ' -f 1", held.path());
    let before = vm.sh(&mount)?;

    let devices: Vec<String> = magazines.iter().map(|m| m.drive.by_id()).collect();
    vm.sh_within(
        &format!(
            "actions=(add change remove change add)\n\
             files=(); for device in {}; do files+=(/sys/class/block/$(basename $(readlink -e $device))/uevent); done\n\
             for file in ${{files[@]}}; do\n\
             {{ for n in $(seq {events}); do echo ${{actions[RANDOM % 5]}} >$file; done; echo change >$file; }} & pids+=($!)\n\
             done\n\
             for n in 1 2; do sleep 0.5; kill -9 $(systemctl show -P MainPID offsited)\n\
             until systemctl is-active offsited && [ $(systemctl show -P MainPID offsited) != 0 ]; do sleep 0.1; done; done\n\
             wait ${{pids[@]}}; udevadm settle --timeout=200",
            devices.join(" ")
        ),
        std::time::Duration::from_mins(5),
    )?;
    ensure!(vm.sh(&mount)? == before, "a drive in use was taken away");
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's success", SOON, "grep -x 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()?;

    let after = look(site)?;
    vm.sh("systemctl restart offsited")?;
    let quiet = look(site)?;
    Ok(Outcome { magazines, after, quiet })
}

/// The state of every drive, without what differs from start to start.
fn look(site: &DriveSite<'_>) -> Result<Value> {
    let mut status: Value = serde_json::from_str(&site.vm.sh("offsite status --json")?)?;
    for magazine in status.get_mut("magazines").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = magazine.as_object_mut() {
            fields.remove("since");
        }
    }
    let system = site.vm.sh("ls /run/offsite/magazines; dmsetup ls; grep -c autofs /proc/mounts; ls /srv/offsite; ls /var/lib/offsite/torn")?;
    Ok(json!({ "magazines": status.get("magazines"), "system": system }))
}
