//! `offsite wipe` on drives that fail as real ones do: dead regions, lost writes, refused flushes, silence, false sizes,
//! a pulled cable. And what only a whole system shows: its page cache, its core dumps, who else holds a drive.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::programs;
use offsite_tests::vm::{Drive, Flaky, Size, Vm, run_trials, trial};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_mins(3);
const LONG: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_dead_region_is_named_and_never_a_success", dead_region),
        trial("lost_writes_are_found_by_reading_back", lost_writes),
        trial("a_refused_flush_is_a_failure", refused_flush),
        trial("a_silent_drive_is_shown_as_stalled_and_goes_on", silent_drive),
        trial("a_drive_with_a_false_size_is_found", false_size),
        trial("a_pulled_drive_goes_on_when_it_is_back", pulled_drive),
        trial("what_others_hold_is_refused", held_by_others),
        trial("files_in_memory_stay_there", files_in_memory),
        trial("a_crash_leaves_no_core", no_core),
        trial("smart_is_in_the_report", smart_in_the_report),
    ])
}

/// A plugged blank drive on a server that has the program.
fn plugged(vm: &Vm, serial: &str, mib: u32) -> Result<Drive> {
    vm.put(&programs::release("offsite")?, "/usr/bin/offsite", 0o755)?;
    let drive = vm.blank_drive(serial, Size::mib(mib))?;
    plug(vm, &drive)?;
    Ok(drive)
}

fn plug(vm: &Vm, drive: &Drive) -> Result<()> {
    vm.plug(drive)?;
    vm.wait_for("the drive's name", SOON, &format!("test -b {}", drive.by_id())).map(drop)
}

/// A device-mapper device of these lines over a drive; `DRIVE` stands for it.
fn mapped(vm: &Vm, drive: &Drive, name: &str, table: &str) -> Result<()> {
    let table = table.replace("DRIVE", &drive.by_id());
    let modules = "modprobe -a dm-mod dm-flakey dm-delay";
    vm.sh(&format!("{modules} && dmsetup create {name} <<'END'\n{table}\nEND\nudevadm settle")).map(drop)
}

/// How a wipe ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    report: Value,
    said: String,
}

impl Ended {
    fn number(&self, place: &str) -> Option<u64> {
        self.report.pointer(place).and_then(Value::as_u64)
    }

    fn word(&self, place: &str) -> &str {
        self.report.pointer(place).and_then(Value::as_str).unwrap_or_default()
    }
}

fn command(device: &str, id: &str, options: &str) -> String {
    format!("offsite wipe {device} --yes-destroy {id} --json {options} >/run/report 2>/run/said")
}

/// What a wipe in the guest left behind.
fn ended(vm: &Vm, status: i32) -> Result<Ended> {
    let report = serde_json::from_str(&vm.sh("cat /run/report")?).unwrap_or(Value::Null);
    Ok(Ended { status, report, said: vm.sh("cat /run/said")? })
}

fn wipe(vm: &Vm, device: &str, id: &str, options: &str) -> Result<Ended> {
    let status = vm.run_within(&command(device, id, options), LONG)?.status;
    ended(vm, status)
}

fn dead_region(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "DEAD", 32)?;
    // 24 sectors from sector 20001 on: neither begin nor end fall on anything.
    mapped(vm, &drive, "dead", "0 20001 linear DRIVE 0\n20001 24 error\n20025 45511 linear DRIVE 20025")?;
    let (begin, length) = (20_001 * 512, 24 * 512);
    let stopped = wipe(vm, "/dev/mapper/dead", "dead", "")?;
    ensure!(stopped.status == 1 && stopped.word("/outcome") == "failed", "{stopped:?}");
    ensure!(stopped.said.contains(&format!("can't write 512 bytes at offset {begin}")), "{}", stopped.said);
    for verify in ["full", "none"] {
        let skipped = wipe(vm, "/dev/mapper/dead", "dead", &format!("--bad-sectors skip --verify {verify}"))?;
        ensure!(skipped.status == 1 && skipped.word("/outcome") == "failed", "{skipped:?}");
        let expected = json!([{ "offset": begin, "length": length }]);
        ensure!(skipped.report.get("unwritable") == Some(&expected), "{skipped:?}");
        ensure!(skipped.number("/verification/bytes").is_none_or(|bytes| bytes == 32 << 20), "{skipped:?}");
        ensure!(skipped.report.pointer("/verification/ok") != Some(&json!(true)), "{skipped:?}");
    }
    // All around it is filled, up to the very sectors.
    vm.sh("dmsetup remove dead")?;
    vm.unplug(&drive)?;
    let bytes = std::fs::read(drive.file())?;
    let blank: Vec<usize> = bytes
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().all(|byte| *byte == 0))
        .map(|(index, _)| index)
        .collect();
    ensure!(blank == (20_001..20_025).collect::<Vec<_>>(), "blank sectors: {blank:?}");
    Ok(())
}

fn lost_writes(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "LOSES", 24)?;
    let flaky = Flaky::over(vm, &drive.by_id(), "flaky")?;
    for (verify, found) in [("full", true), ("sample", true), ("none", false)] {
        flaky.lose_writes()?;
        let lost = wipe(vm, &flaky.device(), "flaky", &format!("--verify {verify}"))?;
        ensure!((lost.status == 1) == found, "{verify}: {lost:?}");
        ensure!(!found || lost.said.contains("does not hold what was written"), "{}", lost.said);
    }
    flaky.fail_writes()?;
    let failed = wipe(vm, &flaky.device(), "flaky", "--bad-sectors skip")?;
    ensure!(failed.status == 1, "{failed:?}");
    flaky.heal()?;
    let well = wipe(vm, &flaky.device(), "flaky", "")?;
    ensure!(well.status == 0 && well.word("/outcome") == "complete", "{well:?}");
    flaky.remove()
}

fn refused_flush(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "FLUSH", 24)?;
    // dm-delay sends flushes to a device of their own; that one refuses whatever is written.
    mapped(vm, &drive, "refuses", "0 49152 flakey DRIVE 0 0 3600 1 error_writes")?;
    mapped(vm, &drive, "noflush", "0 49152 delay DRIVE 0 0 DRIVE 0 0 /dev/mapper/refuses 0 0")?;
    for verify in ["full", "none"] {
        let refused = wipe(vm, "/dev/mapper/noflush", "noflush", &format!("--verify {verify}"))?;
        ensure!(refused.status == 1 && refused.word("/outcome") == "failed", "{refused:?}");
        ensure!(refused.said.contains("failed to flush"), "{}", refused.said);
    }
    Ok(())
}

fn silent_drive(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "SILENT", 64)?;
    // Every write takes a third of a second, so that there is time to make it silent.
    mapped(vm, &drive, "silent", "0 131072 delay DRIVE 0 0 DRIVE 0 300")?;
    let running =
        vm.spawn(&format!("{}; echo $? >/run/status", command("/dev/mapper/silent", "silent", "")))?;
    vm.wait_for("the first line", SOON, "grep -q writing /run/said")?;
    vm.sh("dmsetup suspend --noflush --nolockfs silent")?;
    vm.wait_for("word of the silence", SOON, "grep -q STALLED /run/said")?;
    vm.sh("pkill -USR1 -x offsite")?;
    vm.wait_for("an answer", SOON, "grep -q 'of 67108864 bytes.*STALLED' /run/said")?;
    vm.sh("dmsetup resume silent")?;
    running.wait(LONG)?;
    let status = vm.sh("cat /run/status")?.trim().parse()?;
    let ended = ended(vm, status)?;
    ensure!(ended.status == 0 && ended.word("/outcome") == "complete", "{ended:?}");
    ensure!(ended.said.lines().last().is_some_and(|line| !line.contains("STALLED")), "{}", ended.said);
    Ok(())
}

fn false_size(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "FAKE", 16)?;
    // It shows twice what it has: later writes overwrite earlier ones.
    mapped(vm, &drive, "fake", "0 32768 linear DRIVE 0\n32768 32768 linear DRIVE 0")?;
    for verify in ["full", "sample"] {
        let fake = wipe(vm, "/dev/mapper/fake", "fake", &format!("--verify {verify}"))?;
        ensure!(fake.status == 1 && fake.said.contains("does not hold what was written"), "{fake:?}");
        ensure!(fake.number("/size_bytes") == Some(32 << 20), "{fake:?}");
    }
    // One that ends early fails where it ends.
    mapped(vm, &drive, "short", "0 32768 linear DRIVE 0\n32768 32768 error")?;
    let short = wipe(vm, "/dev/mapper/short", "short", "--verify none")?;
    ensure!(short.status == 1 && short.said.contains("at offset 16777216 "), "{short:?}");
    Ok(())
}

fn pulled_drive(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "PULLED", 256)?;
    for phase in ["writing", "verifying"] {
        vm.sh("rm -f /run/said")?;
        let again = if phase == "writing" { "" } else { "--resume" };
        let script = format!("{}; echo $? >/run/status", command(&drive.by_id(), drive.serial(), again));
        let running = vm.spawn(&script)?;
        vm.wait_for(&format!("its {phase}"), SOON, &format!("grep -q {phase} /run/said"))?;
        vm.unplug(&drive)?;
        running.wait(LONG)?;
        let ended = ended(vm, vm.sh("cat /run/status")?.trim().parse()?)?;
        ensure!(ended.status == 1 && ended.word("/outcome") == "failed", "{phase}: {ended:?}");
        ensure!(ended.said.contains("went away; plug it in again, then resume to go on"), "{}", ended.said);
        ensure!(ended.said.contains("hint: to go on: offsite wipe "), "{}", ended.said);
        vm.wait_for("the name to go", SOON, &format!("! test -e {}", drive.by_id()))?;
        plug(vm, &drive)?;
    }
    let line = "$(sed -n 's/^hint: to go on: //p' /run/said) >/run/report 2>/run/said2";
    let status = vm.run_within(&format!("eval \"{line}\""), LONG)?.status;
    let done = ended(vm, status)?;
    ensure!(done.status == 0 && done.word("/outcome") == "complete", "{done:?} {}", vm.sh("cat /run/said2")?);
    // All had been written before it was pulled the second time, with a key that is still there.
    ensure!(done.number("/resumed_from") == Some(256 << 20), "{done:?}");
    ensure!(done.number("/verification/bytes") == Some(256 << 20), "{done:?}");
    ensure!(done.number("/verification/by_checksum_bytes") == Some(0), "{done:?}");
    Ok(())
}

fn held_by_others(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "HELD", 32)?;
    let (name, serial) = (drive.by_id(), drive.serial());
    let short = vm.sh(&format!("basename $(readlink -f {name})"))?.trim().to_owned();
    let md = format!(
        "modprobe raid1 && echo md_held >/sys/module/md_mod/parameters/new_array && cd /sys/block/md_held/md && echo none >metadata_version && \
         echo raid1 >level && echo 2 >raid_disks && cat /sys/block/{short}/dev >new_dev && echo 0 >dev-{short}/slot && \
         echo 30000 >component_size; echo active >array_state"
    );
    for (kind, take, give) in [
        (
            "held",
            format!("dmsetup create inner --table '0 65536 linear {name} 0'"),
            "dmsetup remove inner".to_owned(),
        ),
        // What LVM makes of a logical volume is a device of this kind with this kind of UUID.
        (
            "held",
            format!("dmsetup create vg-lv --uuid LVM-0123456789abcdef --table '0 1024 linear {name} 2048'"),
            "dmsetup remove vg-lv".to_owned(),
        ),
        ("held", md, "echo clear >/sys/block/md_held/md/array_state".to_owned()),
        ("swap", format!("mkswap -q {name} && swapon {name}"), format!("swapoff {name}")),
        ("mounted", format!("mkfs.ext4 -q -F {name} && mount {name} /mnt"), "umount /mnt".to_owned()),
        ("read-only", format!("blockdev --setro {name}"), format!("blockdev --setrw {name}")),
        // Mounted where nobody here sees it: only the kernel knows.
        (
            "busy",
            format!(
                "unshare --mount sh -c 'mount {name} /mnt && touch /run/hidden && exec sleep 600' & echo $! >/run/holder; until [ -e /run/hidden ]; do sleep 0.1; done"
            ),
            "kill $(cat /run/holder); sleep 1".to_owned(),
        ),
    ] {
        vm.sh(&take).with_context(|| format!("cannot make it {kind}"))?;
        let refused = wipe(vm, &name, serial, "")?;
        let seen: Value = serde_json::from_str(&vm.sh(&format!("offsite identify --json {name}"))?)?;
        let kinds: Vec<_> =
            seen.pointer("/0/refusals").and_then(Value::as_array).into_iter().flatten().collect();
        let kinds: Vec<_> = kinds.iter().filter_map(|refusal| refusal.get("kind")?.as_str()).collect();
        ensure!(refused.status == 3 && kinds.contains(&kind), "{take}: {kinds:?} {refused:?}");
        vm.sh(&give)?;
    }
    // Two wipes of one drive: the second one is refused, the first one doesn't notice.
    let running = vm.spawn(&format!("{}; echo $? >/run/status", command(&name, serial, "")))?;
    vm.wait_for("the first one", SOON, "grep -q writing /run/said")?;
    let second = vm.run(&format!("offsite wipe {name} --yes-destroy {serial} --resume"))?;
    ensure!(second.status == 3 && second.text.contains("exclusively"), "{second:?}");
    running.wait(LONG)?;
    let first = ended(vm, vm.sh("cat /run/status")?.trim().parse()?)?;
    ensure!(first.status == 0 && first.word("/outcome") == "complete", "{first:?}");
    // And none is left over from another name.
    let another = wipe(vm, &name, "OTHER", "")?;
    ensure!(another.status == 3, "{another:?}");
    Ok(())
}

fn files_in_memory(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "CACHE", 192)?;
    vm.sh("head -c 24M /dev/urandom >/root/file && sync")?;
    // In a room of 96 MiB, what passes through the page cache pushes the file out.
    let within = |work: &str| -> Result<u64> {
        let script = format!(
            "cat /root/file >/dev/null; {work} >/run/out 2>&1 || exit 1; fincore -nbo RES /root/file"
        );
        vm.sh("echo 1 >/proc/sys/vm/drop_caches")?;
        let run = format!("systemd-run --quiet --wait --pipe -p MemoryMax=96M sh -c '{script}'");
        Ok(vm.sh_within(&run, LONG)?.trim().parse()?)
    };
    let ours = within(&format!("offsite wipe {} --yes-destroy {}", drive.by_id(), drive.serial()))?;
    let dd = within(&format!("dd if=/dev/zero of={} bs=1M count=192 conv=fsync", drive.by_id()))?;
    ensure!(ours == 24 << 20, "{ours} bytes of the file are left in memory");
    ensure!(dd < ours, "dd through the page cache leaves {dd} bytes: this test can't fail");
    Ok(())
}

fn no_core(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "CORE", 64)?;
    vm.sh("mkdir /run/cores && echo /run/cores/%e >/proc/sys/kernel/core_pattern")?;
    vm.run("ulimit -c unlimited; sleep 600 & sleep 1; kill -ABRT $!; wait $!")?;
    let cores = vm.sh("ls /run/cores")?;
    ensure!(cores == "sleep\n", "this test can't fail: {cores:?}");
    mapped(vm, &drive, "slow", "0 131072 delay DRIVE 0 0 DRIVE 0 300")?;
    let running = vm.spawn(&format!("ulimit -c unlimited; {}", command("/dev/mapper/slow", "slow", "")))?;
    vm.wait_for("the first line", SOON, "grep -q writing /run/said")?;
    vm.sh("grep VmLck: /proc/$(pidof offsite)/status | grep -v ' 0 kB' && pkill -ABRT -x offsite")?;
    ensure!(running.wait(SOON)?.status == 128 + 6, "it didn't crash");
    ensure!(vm.sh("ls /run/cores")? == "sleep\n", "{}", vm.sh("ls /run/cores")?);
    let resumed = wipe(vm, "/dev/mapper/slow", "slow", "--resume --verify none")?;
    ensure!(resumed.status == 0, "{resumed:?}");
    Ok(())
}

fn smart_in_the_report(vm: &Vm) -> Result<()> {
    let drive = plugged(vm, "SMART", 16)?;
    // QEMU's SCSI disks keep no account of their health, and smartctl says so.
    let real = wipe(vm, &drive.by_id(), drive.serial(), "")?;
    for when in ["/health/before", "/health/after"] {
        ensure!(real.report.pointer(&format!("{when}/smartctl/version")).is_some(), "{real:?}");
        ensure!(real.word(&format!("{when}/serial_number")) == "SMART", "{real:?}");
    }
    // A smartctl of the site's own speaks of a drive that gets worse.
    let answer = r#"{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","raw":{"value":'$n'}}]}}"#;
    let fake =
        format!("#!/bin/sh\necho \"$@\" >>/run/asked\nn=$(wc -l </run/asked)\necho '{answer}'\nexit 64\n");
    vm.write("/opt/site/usr/sbin/smartctl", &fake, 0o755)?;
    let page = vm.sh(&format!(
        "offsite --root /opt/site wipe {} --yes-destroy {} 2>/dev/null",
        drive.by_id(),
        drive.serial()
    ))?;
    ensure!(page.contains("SMART before   passed, Reallocated_Sector_Ct 1\n"), "{page}");
    ensure!(page.contains("SMART after    passed, Reallocated_Sector_Ct 2 (was 1)\n"), "{page}");
    ensure!(page.contains("Writing over the drive"), "{page}");
    let asked = vm.sh("cat /run/asked")?;
    ensure!(asked.lines().all(|line| line.starts_with("--json --all /dev/sd")), "{asked}");
    Ok(())
}
