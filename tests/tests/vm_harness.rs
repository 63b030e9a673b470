//! The VM harness itself: a guest that boots, drives that come and go, files both ways, nothing left behind.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::vm::{Flaky, Image, Size, Vm, image_trial, run_trials, trial};

const SOON: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    run_trials(vec![
        image_trial("nothing_is_left_after_a_machine", nothing_is_left_after_a_machine),
        image_trial("a_failure_is_told_with_journal_and_console", a_failure_is_told),
        trial("a_guest_starts_with_the_hosts_time", a_guest_starts_with_the_hosts_time),
        trial("two_drives_come_and_go", two_drives_come_and_go),
        trial("a_drive_comes_back_under_another_name", a_drive_comes_back_under_another_name),
        trial("a_luks_container_opens_on_a_plugged_drive", a_luks_container_opens_on_a_plugged_drive),
        trial("a_mounted_drive_torn_out_gives_errors", a_mounted_drive_torn_out_gives_errors),
        trial("events_can_be_repeated", events_can_be_repeated),
        trial("a_usb_bridge_hides_the_serial", a_usb_bridge_hides_the_serial),
        trial("files_are_the_same_after_both_ways", files_are_the_same_after_both_ways),
        trial("commands_run_side_by_side_and_have_a_limit", commands_run_side_by_side_and_have_a_limit),
        trial("a_failing_command_is_told_with_its_output", a_failing_command_is_told_with_its_output),
        trial("a_slow_and_flaky_drive_fails_and_heals", a_flaky_drive_fails_and_heals),
    ])
}

/// What a call that must fail said.
fn refusal<T>(result: Result<T>) -> Result<String> {
    result.err().map(|error| format!("{error:#}")).context("it succeeded")
}

fn a_guest_starts_with_the_hosts_time(vm: &Vm) -> Result<()> {
    let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let apart = vm.now()?.abs_diff(host);
    ensure!(apart < Duration::from_secs(5), "the clocks are {apart:?} apart");
    let failed = vm.sh("systemctl --failed --no-legend --plain")?;
    ensure!(failed.trim().is_empty(), "failed units: {failed}");
    Ok(())
}

fn two_drives_come_and_go(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(64))?;
    let b = vm.blank_drive("OFFSITE-B", Size::mib(32))?;
    for drive in [&a, &b] {
        vm.plug(drive)?;
        vm.wait_for("udev's name of the drive", SOON, &format!("test -b {}", drive.by_id()))?;
    }
    let sizes = vm.sh(&format!("blockdev --getsize64 {} {}", a.by_id(), b.by_id()))?;
    ensure!(sizes == "67108864\n33554432\n", "sizes are {sizes:?}");
    let serial =
        vm.sh(&format!("udevadm info -q property --value --property=ID_SCSI_SERIAL {}", a.by_id()))?;
    ensure!(serial.trim() == "OFFSITE-A", "udev tells the serial {serial:?}");
    ensure!(vm.plug(&a).is_err(), "a drive can't be plugged twice");
    vm.unplug(&a)?;
    vm.wait_for("the name to go", SOON, &format!("! test -e {}", a.by_id()))?;
    vm.sh(&format!("test -b {}", b.by_id()))?;
    ensure!(vm.unplug(&a).is_err(), "a drive that is away can't be unplugged");
    Ok(())
}

fn a_drive_comes_back_under_another_name(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(32))?;
    let name = || vm.sh(&format!("readlink -f {}", a.by_id()));
    vm.plug_into(&a, 3)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    let first = name()?;
    vm.sh(&format!("echo kept | dd of={} conv=fsync status=none", a.by_id()))?;
    // While somebody holds the old one open its name isn't free.
    let _holder = vm.spawn(&format!("exec 9<{}; touch /run/held; sleep 600", a.by_id()))?;
    vm.wait_for("the holder", SOON, "test -e /run/held")?;
    vm.unplug(&a)?;
    vm.wait_for("the name to go", SOON, &format!("! test -e {}", a.by_id()))?;
    vm.plug_into(&a, 4)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    let second = name()?;
    ensure!(first != second, "{first} both times");
    let kept = vm.sh(&format!("head -c 5 {}", a.by_id()))?;
    ensure!(kept == "kept\n", "the drive lost its contents: {kept:?}");
    Ok(())
}

fn a_luks_container_opens_on_a_plugged_drive(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(64))?;
    vm.plug(&a)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    vm.sh("head -c 4096 /dev/urandom >/root/key")?;
    let quick = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";
    vm.sh(&format!("cryptsetup luksFormat -q {quick} {} /root/key", a.by_id()))?;
    vm.sh(&format!(
        "cryptsetup open --key-file /root/key {} inside && mkfs.ext4 -q /dev/mapper/inside",
        a.by_id()
    ))?;
    vm.sh("mount /dev/mapper/inside /mnt && echo here >/mnt/file && umount /mnt && cryptsetup close inside")?;
    vm.unplug(&a)?;
    let header = fs::read(a.file())?;
    ensure!(header.starts_with(b"LUKS\xba\xbe"), "the host sees no LUKS header in the drive's file");
    Ok(())
}

fn a_mounted_drive_torn_out_gives_errors(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(64))?;
    vm.plug(&a)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    vm.sh(&format!("mkfs.ext4 -q {0} && mount {0} /mnt", a.by_id()))?;
    let writer = "while echo line >>/mnt/file && sync /mnt/file; do touch /run/begun; done; echo ended; wc -l </mnt/file";
    let ended = vm.unplug_during(&a, writer)?;
    ensure!(ended.text.contains("rror") && ended.text.contains("ended"), "the writer saw {ended:?}");
    vm.sh("mountpoint -q /mnt && umount -l /mnt")?;
    Ok(())
}

fn events_can_be_repeated(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(32))?;
    ensure!(vm.repeat_event(&a, "add", 1).is_err(), "a drive that is away was announced");
    vm.plug(&a)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    vm.limit_udev_workers(1)?;
    let _monitor = vm.spawn("stdbuf -oL udevadm monitor --udev --subsystem-match=block >/run/seen")?;
    vm.wait_for("the monitor's first words", SOON, "test -s /run/seen")?;
    vm.repeat_event(&a, "change", 40)?;
    vm.wait_for("40 events", Duration::from_mins(2), "test $(grep -c change /run/seen) = 40")?;
    vm.sh(&format!("udevadm settle && test -b {}", a.by_id()))?;
    Ok(())
}

fn a_usb_bridge_hides_the_serial(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(32))?;
    vm.plug_by_usb(&a)?;
    vm.wait_for("a USB disk", Duration::from_mins(1), "ls /dev/disk/by-id/usb-*")?;
    let shown = vm.sh("ls /dev/disk/by-id; cat /sys/block/sd*/size")?;
    ensure!(!shown.contains("OFFSITE-A") && shown.contains("65536"), "{shown}");
    vm.unplug(&a)
}

fn files_are_the_same_after_both_ways(vm: &Vm) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("large");
    let bytes: Vec<u8> =
        (0..12_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&path, &bytes)?;
    let started = std::time::Instant::now();
    vm.put(&path, "/opt/a dir/it's here", 0o750)?;
    let mode = vm.sh("stat -c '%a %U %s' \"/opt/a dir/it's here\"")?;
    ensure!(mode == format!("750 root {}\n", bytes.len()), "{mode}");
    ensure!(vm.fetch("/opt/a dir/it's here")? == bytes, "what came back differs");
    ensure!(started.elapsed() < Duration::from_secs(20), "12 MiB both ways took {:?}", started.elapsed());
    vm.write("/etc/offsite/site.toml", "a = 'ä'\n", 0o600)?;
    ensure!(vm.fetch("/etc/offsite/site.toml")? == "a = 'ä'\n".as_bytes(), "text differs");
    ensure!(vm.fetch("/nowhere").is_err(), "a file that isn't there was fetched");
    Ok(())
}

fn commands_run_side_by_side_and_have_a_limit(vm: &Vm) -> Result<()> {
    let waits = vm.spawn("until test -e /run/go; do sleep 0.1; done; echo gone")?;
    let both = vm.run("echo out; echo err >&2; touch /run/go; exit 7")?;
    ensure!(both.status == 7 && both.text == "out\nerr\n", "{both:?}");
    ensure!(waits.wait(SOON)?.text == "gone\n", "the first one saw something else");
    let error = refusal(vm.run_within("echo begun; sleep 60", Duration::from_secs(2)))?;
    ensure!(error.contains("not done after 2 s") && error.contains("begun"), "{error}");
    Ok(())
}

fn a_failing_command_is_told_with_its_output(vm: &Vm) -> Result<()> {
    let error = refusal(vm.sh("logger from the journal; echo from the output; false"))?;
    for part in ["exit status 1", "from the output", "from the journal"] {
        ensure!(error.contains(part), "no {part:?} in: {error}");
    }
    let error = refusal(vm.wait_for("the impossible", Duration::from_secs(1), "false"))?;
    ensure!(error.contains("the impossible: not after 1 s"), "{error}");
    Ok(())
}

fn a_flaky_drive_fails_and_heals(vm: &Vm) -> Result<()> {
    let a = vm.blank_drive("OFFSITE-A", Size::mib(32))?;
    vm.plug(&a)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    let time = |reads: u32| -> Result<f64> {
        let said = vm.sh(&format!(
            "s=$EPOCHREALTIME; dd if={} of=/dev/null iflag=direct bs=512 count={reads} status=none; echo $s $EPOCHREALTIME | awk '{{ print $2 - $1 }}'",
            a.by_id()
        ))?;
        Ok(said.trim().parse()?)
    };
    vm.slow_down(&a, 5)?;
    let took = time(10)?;
    ensure!(took > 1.0, "ten reads of five a second took only {took} s");
    vm.slow_down(&a, 0)?;
    let flaky = Flaky::over(vm, &a.by_id(), "flaky")?;
    let write = |word: &str| {
        vm.run(&format!(
            "echo {word} | dd of={} oflag=sync,direct bs=512 conv=sync status=none",
            flaky.device()
        ))
    };
    let read =
        || vm.run(&format!("dd if={} iflag=direct bs=512 count=1 status=none | head -c 5", flaky.device()));
    ensure!(write("first")?.success(), "a well drive refuses to be written");
    flaky.lose_writes()?;
    ensure!(write("other")?.success() && read()?.text == "first", "the write wasn't lost");
    flaky.fail_writes()?;
    ensure!(!write("other")?.success() && read()?.text == "first", "the write didn't fail");
    flaky.fail()?;
    ensure!(read()?.text.contains("rror"), "reading didn't fail");
    flaky.slow_down(Duration::from_millis(700))?;
    let took = vm.sh(&format!(
        "s=$EPOCHREALTIME; head -c 512 {} >/dev/null; echo $s $EPOCHREALTIME | awk '{{ print $2 - $1 }}'",
        flaky.device()
    ))?;
    ensure!(took.trim().parse::<f64>()? > 0.6, "reading took only {took} s");
    flaky.heal()?;
    ensure!(write("third")?.success() && read()?.text == "third", "the drive isn't well again");
    flaky.remove()
}

fn nothing_is_left_after_a_machine(image: &Image) -> Result<()> {
    let vm = Vm::start(image)?;
    let process = format!("/proc/{}", vm.pid().unwrap_or_default());
    let directory = vm.console_path().parent().map(Path::to_owned).unwrap_or_default();
    let command = fs::read_to_string(format!("{process}/cmdline"))?;
    ensure!(command.starts_with("qemu-system") && directory.is_dir(), "{process} is {command}");
    drop(vm);
    ensure!(!Path::new(&process).exists(), "QEMU still runs as {process}");
    ensure!(!directory.exists(), "{} is still there", directory.display());
    Ok(())
}

fn a_failure_is_told(image: &Image) -> Result<()> {
    let vm = Vm::start(image)?;
    let directory = vm.console_path().parent().map(Path::to_owned).unwrap_or_default();
    let told = refusal(vm.told(|vm| {
        vm.sh("logger the cause is here")?;
        ensure!(vm.sh("echo 1")? == "2\n", "one isn't two");
        Ok(())
    }))?;
    for part in ["one isn't two", "the cause is here", "console.log"] {
        ensure!(told.contains(part), "no {part:?} in: {told}");
    }
    ensure!(directory.is_dir(), "{} went", directory.display());
    Ok(fs::remove_dir_all(directory)?)
}
