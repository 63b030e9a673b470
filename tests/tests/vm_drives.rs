//! Drives in a server's hands: prepared with every filesystem, plugged and pulled at every moment, foreign,
//! cloned, adopted, half prepared. No Bacula is at work here; each story has a server of its own.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, NOTHING_OPEN, QUICK, SMALL, SOON, prepare_command};
use offsite_tests::vm::{Drive, Vm, run_trials, trial};

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_prepared_drive_is_as_promised_with_every_filesystem", every_filesystem),
        trial("a_drive_is_there_when_plugged_and_locked_when_idle", plugged_and_idle),
        trial("a_drive_torn_out_under_an_open_file_comes_back", torn_out_under_an_open_file),
        trial("a_drive_torn_out_while_written_comes_back", torn_out_while_written),
        trial("a_foreign_drive_is_left_alone", foreign),
        trial("of_a_drive_and_its_clone_none_is_used", cloned),
        trial("a_drive_of_the_tutorial_is_adopted_as_it_is", adopted),
        trial("a_drive_of_the_tutorial_with_its_own_key_is_adopted", adopted_with_its_own_key),
        trial("a_drive_that_was_mounted_when_the_power_went_is_adopted", adopted_after_a_power_cut),
        trial("a_killed_prepare_goes_on_where_it_was", killed_prepare),
        trial("prepare_refuses_what_must_not_be_lost", refusals),
        trial("a_restarted_daemon_keeps_a_busy_drive", restarted_daemon),
        trial("two_drives_at_once_with_one_udev_worker", two_at_once),
    ])
}

fn hash(vm: &Vm, device: &str) -> Result<String> {
    vm.sh(&format!("sha256sum <{device}"))
}

fn every_filesystem(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    for (name, fs_type, mib, options) in [
        ("E", "ext4", SMALL, "--volumes 2"),
        ("X", "xfs", 350, "--fs xfs --skip-wipe --volumes 2"),
        ("B", "btrfs", 130, "--fs btrfs --skip-wipe --volumes 2"),
        ("R", "reiserfs", 56, "--fs reiserfs --verify sample --volumes 2"),
        ("L", "ext4", 32, "--luks1 --verify none --volumes 2"),
    ] {
        let magazine =
            site.prepared(name, mib, options).with_context(|| format!("{options} on {mib} MiB"))?;
        ensure_as_promised(vm, &magazine, fs_type, options.contains("--luks1"))
            .with_context(|| format!("a drive prepared with {options}"))?;
        vm.unplug(&magazine.drive)?;
        if !options.contains("--skip-wipe") {
            let blank = blank_pages(&magazine.drive, 20 << 20)?;
            // The filesystem's own zeros are encrypted, so that no page is blank by chance or on purpose.
            ensure!(blank == 0, "{blank} pages of a drive with {fs_type} are blank");
        }
    }
    Ok(())
}

/// Pages of zeros behind the first bytes, where the LUKS header may have some.
fn blank_pages(drive: &Drive, skip: usize) -> Result<usize> {
    let bytes = fs::read(drive.file())?;
    let behind = bytes.get(skip..).context("a drive smaller than its header")?;
    Ok(behind.chunks(4096).filter(|page| page.iter().all(|byte| *byte == 0)).count())
}

fn ensure_as_promised(vm: &Vm, magazine: &Magazine, fs_type: &str, luks1: bool) -> Result<()> {
    let (device, key) = (magazine.drive.by_id(), "/etc/offsite/key");
    vm.sh(NOTHING_OPEN).context("something was left open")?;
    let dump = vm.sh(&format!("cryptsetup luksDump {device}"))?;
    let slots: Vec<&str> = dump
        .lines()
        .filter(|line| line.contains(": ENABLED") || line.ends_with(": luks2"))
        .map(str::trim)
        .collect();
    let expected = if luks1 { "Key Slot 1: ENABLED" } else { "1: luks2" };
    ensure!(slots == [expected], "key slots: {slots:?}");
    let test = |slot| {
        vm.run(&format!("cryptsetup open --test-passphrase --key-file {key} --key-slot {slot} {device}"))
    };
    ensure!(test(1)?.success() && !test(0)?.success(), "the key file doesn't open slot 1 alone");
    let enrolled = vm.sh("cat /etc/offsite/site.toml")?;
    ensure!(enrolled.matches(&magazine.luks_uuid).count() == 1, "{enrolled}");

    let backup = format!("/var/lib/offsite/headers/{}.img", magazine.luks_uuid);
    ensure!(vm.sh(&format!("stat -c '%a %U' {backup}"))? == "400 root\n", "anyone may read the header");
    vm.sh(&format!("cmp --bytes=$(stat -c %s {backup}) {backup} {device}"))?;

    let look = format!(
        "set -e; cryptsetup open --readonly --key-file {key} {device} look; udevadm settle\n\
         blkid -p -o value -s UUID /dev/mapper/look; blkid -p -o value -s TYPE /dev/mapper/look\n\
         mount -o ro /dev/mapper/look /mnt; stat -c '%U:%G %a' /mnt /mnt/c0_*\n\
         umount /mnt; udevadm settle; cryptsetup close look"
    );
    let volume = "bacula:bacula 640\n";
    let inside = format!("{}\n{fs_type}\nbacula:bacula 750\n{volume}{volume}", magazine.fs_uuid);
    let found = vm.sh(&look)?;
    ensure!(found == inside, "inside is {found}, not {inside}");
    ensure!(enrolled.contains(&format!("fs_type = \"{fs_type}\"")), "{enrolled}");
    vm.sh("test -z \"$(ls /var/lib/offsite/prepare)\"").map(drop)
}

fn plugged_and_idle(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    site.start()?;
    site.ensure_absent(&a)?;

    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let first = vm.sh(&format!("readlink -e {}", a.drive.by_id()))?;
    // In one breath: on a busy machine it may have been locked meanwhile.
    let options = vm.sh(&format!("ls {0} >/run/listed && grep ' {0} ext4 ' /proc/mounts", a.path()))?;
    ensure!(options.contains("rw,nosuid,nodev,noexec"), "mounted with {options}");
    site.wait_for_rest()?;
    site.wait_for_state(&a, "locked")?;

    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;
    ensure!(!site.torn(&a)?, "a drive that was idle counts as torn");
    site.ensure_absent(&a)?;

    // Another drive has its name now, and it hangs on another port.
    site.plug(&b.drive)?;
    site.wait_for_volumes(&b)?;
    vm.plug_into(&a.drive, 7)?;
    site.wait_for_volumes(&a)?;
    let second = vm.sh(&format!("readlink -e {}", a.drive.by_id()))?;
    ensure!(first != second, "{first} both times");
    site.wait_for_rest()
}

fn torn_out_under_an_open_file(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let holder = site.holder(&a)?;

    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;
    ensure!(site.torn(&a)?, "nobody noticed that it was torn out");
    let told = vm.sh("offsite status")?;
    ensure!(told.contains("A  away") && told.contains("was pulled while in use"), "{told}");
    vm.wait_for("the mount to go", SOON, "! grep ' /srv/offsite/' /proc/mounts")?;
    site.ensure_absent(&a)?;
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's error", SOON, "grep -x 'write 1' /run/written")?;

    // The holder lives on while the drive comes back.
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    ensure!(!site.torn(&a)?, "still marked as torn after the check");
    vm.sh("journalctl -u offsited | grep 'was pulled while in use: checking it'")?;
    vm.sh(&format!("echo new >{0}/new && sync {0}/new", a.path()))?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()
}

fn torn_out_while_written(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let magazines = [
        site.put_away("E", SMALL, "--fs ext4")?,
        site.put_away("X", 350, "--fs xfs")?,
        site.put_away("B", 130, "--fs btrfs")?,
        site.put_away("R", 56, "--fs reiserfs")?,
    ];
    site.start()?;
    for magazine in &magazines {
        torn_out_while_this_is_written(&site, magazine)
            .with_context(|| format!("the drive {}", magazine.name))?;
    }
    Ok(())
}

fn torn_out_while_this_is_written(site: &DriveSite<'_>, magazine: &Magazine) -> Result<()> {
    let (vm, at) = (site.vm, magazine.path());
    site.plug(&magazine.drive)?;
    site.wait_for_volumes(magazine)?;
    vm.sh(&format!("echo kept >{at}/kept && sync {at}/kept"))?;
    let write = format!(
        "exec 9>>{at}/held; while dd if=/dev/urandom of={at}/large bs=64k count=64 conv=fsync,notrunc; do touch /run/begun; done; false"
    );
    let writer = vm.unplug_during(&magazine.drive, &write)?;
    ensure!(!writer.success(), "the writer saw no error: {writer:?}");
    site.wait_for_state(magazine, "away")?;
    ensure!(site.torn(magazine)?, "nobody noticed that it was torn out");
    site.wait_for_rest()?;
    site.ensure_absent(magazine)?;

    site.plug(&magazine.drive)?;
    site.wait_for_volumes(magazine)?;
    ensure!(vm.sh(&format!("cat {at}/kept"))? == "kept\n", "what was on the drive before is lost");
    ensure!(!site.torn(magazine)?, "still marked as torn after the check");
    site.wait_for_rest()?;
    vm.unplug(&magazine.drive)
}

/// Not even the container that our own key would open is opened unless it is enrolled.
fn foreign(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    let drive = site.blank("FOREIGN", 64)?;
    let device = drive.by_id();
    vm.sh(&format!("cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} /etc/offsite/key && udevadm settle"))?;
    vm.unplug(&drive)?;
    let pid = vm.sh("pgrep -P $(systemctl show -P MainPID offsited)")?;
    let trace = vm.spawn(&format!("strace -f -e trace=openat -o /run/trace -p {}", pid.trim()))?;
    vm.wait_for(
        "the tracer",
        SOON,
        &format!("grep -v 'TracerPid:.0$' /proc/{}/status | grep TracerPid", pid.trim()),
    )?;

    let keys_read = || vm.sh("grep -c 'openat.*/etc/offsite/key\"' /run/trace || true");
    site.plug(&drive)?;
    vm.sh("udevadm settle; offsite status; sleep 1")?;
    let keys = keys_read()?;
    ensure!(keys == "0\n", "the key was read {keys} times for a foreign drive");
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    vm.sh("kill $(pidof strace)")?;
    trace.wait(SOON)?;
    ensure!(keys_read()? != "0\n", "the tracer saw nothing");
    let open = vm.sh(&format!("exec 9<{}/c0_A_0001; dmsetup ls", a.path()))?;
    ensure!(open.lines().count() == 1 && open.contains(&a.luks_uuid), "open are {open}");
    let told = vm.sh("offsite status")?;
    ensure!(
        !told.lines().any(|line| line.starts_with("FOREIGN")),
        "the status counts it among our drives: {told}"
    );
    let line = told.lines().find(|line| line.starts_with("not enrolled: ") && line.contains("FOREIGN"));
    ensure!(line.is_some_and(|line| line.ends_with("a LUKS container that is not enrolled here")), "{told}");
    ensure!(
        told.matches("not enrolled: ").count() == 1,
        "what the server itself uses is told as well: {told}"
    );
    let blank = site.blank("BLANK", 64)?;
    vm.wait_for(
        "the blank drive to be told",
        SOON,
        "udevadm settle; offsite status | grep 'not enrolled: .*BLANK.*: blank'",
    )?;
    vm.unplug(&blank)?;
    vm.wait_for("it to be gone", SOON, "! offsite status | grep BLANK")?;
    let said = vm.run(&format!("offsite identify {device}"))?;
    ensure!(said.success() && said.text.contains("LUKS"), "{said:?}");
    Ok(())
}

fn cloned(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    let copy = a.drive.clone_as("COPY")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_state(&a, "locked")?;
    site.plug(&copy)?;
    site.wait_for_state(&a, "refused")?;
    ensure_both_named(&site, &a, &copy)?;
    let seen = vm.run(&format!("timeout 20 ls {}", a.path()))?;
    ensure!(seen.status == 2, "one of the two was opened: {seen:?}");
    vm.sh(NOTHING_OPEN)?;

    // The original alone works; a copy that comes while it is in use takes nothing away from whoever uses it.
    vm.unplug(&copy)?;
    site.wait_for_state(&a, "locked")?;
    site.wait_for_volumes(&a)?;
    let holder = site.holder(&a)?;
    site.plug(&copy)?;
    vm.wait_for("the copy to be noticed", SOON, "offsite status | grep 'problem: .*several devices'")?;
    ensure_both_named(&site, &a, &copy)?;
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's success", SOON, "grep -x 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()?;
    site.wait_for_state(&a, "refused")?;
    ensure!(!site.torn(&a)?, "the copy counts as the original torn out");

    // Whichever stays is used.
    vm.unplug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()
}

fn ensure_both_named(site: &DriveSite<'_>, a: &Magazine, copy: &Drive) -> Result<()> {
    let told = site.vm.sh("offsite status")?;
    for drive in [&a.drive, copy] {
        let device = site.vm.sh(&format!("readlink -e {}", drive.by_id()))?;
        ensure!(told.contains(device.trim()), "the status doesn't name {device}: {told}");
    }
    Ok(())
}

/// The commands are the tutorial's own, but for the names of the drive and the key file, and with the options that
/// stand for what its author typed: `-q`, `--key-file` for the passphrase, `-f -f`, and the LUKS1 of its time.
fn adopted(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let drive = site.blank("TUTORIAL", 56)?;
    let device = drive.by_id();
    vm.sh(&format!(
        "set -e; key=/etc/offsite/key\n\
         echo \"tempvolpassphrase\" | cryptsetup -v luksFormat --type luks1 {device}\n\
         echo \"tempvolpassphrase\" | cryptsetup -v luksAddKey {device} $key\n\
         cryptsetup -q -v luksKillSlot {device} 0 --key-file $key\n\
         cryptsetup -v luksOpen --key-file=$key {device} tempcontainer\n\
         mkreiserfs -f -f /dev/mapper/tempcontainer\n\
         mount /dev/mapper/tempcontainer /mnt; chown bacula:bacula /mnt; echo kept >/mnt/c0_T_0002; umount /mnt\n\
         udevadm settle; cryptsetup -v luksClose tempcontainer"
    ))?;
    let before = hash(vm, &device)?;
    let said = vm.sh(&format!("offsite adopt {device} --name T"))?;
    ensure!(said.contains("enrolled as T, reiserfs filesystem"), "{said}");
    ensure!(hash(vm, &device)? == before, "adopting changed the drive");
    vm.sh(NOTHING_OPEN)?;
    let magazine = site.enrolled(drive, "T")?;
    let backup = format!("/var/lib/offsite/headers/{}.img", magazine.luks_uuid);
    ensure!(vm.sh(&format!("stat -c '%a %U' {backup}"))? == "400 root\n", "anyone may read the header");
    vm.sh(&format!("cmp --bytes=$(stat -c %s {backup}) {backup} {device}"))?;
    let again = vm.run(&format!("offsite adopt {device} --name T2"))?;
    ensure!(!again.success(), "one drive was enrolled under two names");

    vm.unplug(&magazine.drive)?;
    site.start()?;
    site.plug(&magazine.drive)?;
    site.wait_for_volumes(&magazine)?;
    ensure!(vm.sh(&format!("cat {}/c0_T_0002", magazine.path()))? == "kept\n", "the volume changed");
    site.wait_for_rest()
}

/// As the tutorial leaves a drive on the server that used it: its key isn't the site's, and there is a volume on it.
fn adopted_with_its_own_key(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let drive = site.blank("TUTORIAL", 72)?;
    let device = drive.by_id();
    let key = "/etc/bacula/include/Bacula_Key_File";
    vm.sh(&format!(
        "set -e; mkdir -p /etc/bacula/include /mnt/temp\n\
         dd if=/dev/urandom of={key} bs=4096 count=1; chown root:root {key}; chmod 400 {key}\n\
         echo \"tempvolpassphrase\" | cryptsetup -q -v luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device}\n\
         echo \"tempvolpassphrase\" | cryptsetup -v luksAddKey --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} {key}\n\
         cryptsetup -q -v luksKillSlot {device} 0 --key-file {key}\n\
         cryptsetup -v luksOpen --key-file={key} {device} tempcontainer\n\
         mkreiserfs -f -f /dev/mapper/tempcontainer\n\
         mount -t reiserfs /dev/mapper/tempcontainer /mnt/temp\n\
         echo kept >/mnt/temp/c0_0001_0002; chown -R bacula:bacula /mnt/temp; chmod 750 /mnt/temp\n\
         umount /mnt/temp; udevadm settle; cryptsetup -v luksClose tempcontainer"
    ))?;
    let before = hash(vm, &device)?;
    let refused = vm.run(&format!("offsite adopt {device}"))?;
    ensure!(refused.status == 1 && refused.text.contains("no key of this site opens"), "{refused:?}");
    ensure!(hash(vm, &device)? == before, "a refused drive was written to");
    // What the hint says is what is typed.
    let hint = refused.text.lines().find_map(|line| line.split_once("adopt it: ")).context("no hint")?.1;
    vm.sh(&hint.replace("ITS-KEY", key))?;
    let said = vm.sh(&format!("offsite adopt {device}"))?;
    ensure!(said.contains("is enrolled as 0001, reiserfs filesystem"), "{said}");
    vm.sh(NOTHING_OPEN)?;
    let magazine = site.enrolled(drive, "0001")?;
    vm.unplug(&magazine.drive)?;
    site.start()?;
    site.plug(&magazine.drive)?;
    let listed = format!("timeout 30 ls {}/c0_0001_0002", magazine.path());
    vm.wait_for("the volume", SOON, &listed)?;
    ensure!(vm.sh(&format!("cat {}/c0_0001_0002", magazine.path()))? == "kept\n", "the volume changed");
    site.wait_for_rest()?;
    ensure!(vm.run(&format!("cryptsetup open --test-passphrase --key-file {key} {device}"))?.success());
    Ok(())
}

/// What a burnt server leaves: a drive whose filesystem was mounted and written when the power went.
fn adopted_after_a_power_cut(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    for (name, mib, fs_type) in [("E", SMALL, "ext4"), ("R", 56, "reiserfs")] {
        let lost = site.prepared(name, mib, &format!("{QUICK} --fs {fs_type}"))?;
        adopted_unclean(&site, &lost, fs_type).with_context(|| format!("a drive with {fs_type}"))?;
    }
    Ok(())
}

fn adopted_unclean(site: &DriveSite<'_>, lost: &Magazine, fs_type: &str) -> Result<()> {
    let vm = site.vm;
    let device = lost.drive.by_id();
    vm.sh(&format!(
        "set -e; cryptsetup open --key-file /etc/offsite/key {device} burnt; mount /dev/mapper/burnt /mnt\n\
         echo kept >/mnt/c0_{0}_0002; mkdir /mnt/d; sync; touch /mnt/d/1",
        lost.name
    ))?;
    vm.unplug(&lost.drive)?;
    vm.sh("umount -l /mnt; udevadm settle; dmsetup remove --force burnt || ! dmsetup info burnt")?;
    // The new server knows nothing of the drive but its key.
    vm.sh("sed -i '/^\\[\\[magazine/,$d' /etc/offsite/site.toml && rm -rf /var/lib/offsite/headers")?;
    site.plug(&lost.drive)?;
    let before = hash(vm, &device)?;
    let dry = vm.sh(&format!("offsite adopt {device} --name {} --dry-run", lost.name))?;
    ensure!(dry.contains("would be enrolled") && dry.contains("was not unmounted"), "{dry}");
    ensure!(hash(vm, &device)? == before, "the dry run wrote to it");
    let said = vm.sh(&format!("offsite adopt {device}"))?;
    ensure!(said.contains(&format!("is enrolled as {}", lost.name)), "{said}");
    ensure!(said.contains("was not unmounted the last time; it is checked at its next use"), "{said}");
    vm.sh(NOTHING_OPEN)?;
    ensure!(site.torn(lost)?, "nothing says that it has to be checked");
    site.start()?;
    site.wait_for_volumes(lost)?;
    ensure!(vm.sh(&format!("cat {}/c0_{}_0002", lost.path(), lost.name))? == "kept\n", "the volume changed");
    ensure!(!site.torn(lost)?, "still to be checked after its use");
    // The others replay their logs at the mount.
    if fs_type == "ext4" {
        vm.sh("journalctl -u offsited | grep 'was pulled while in use: checking it'")?;
    }
    site.wait_for_rest()?;
    vm.sh("systemctl stop offsited; journalctl --rotate --vacuum-time=1s -q")?;
    vm.unplug(&lost.drive)
}

/// The power doesn't fail here, so what the killed run had open stays open as well.
fn killed_prepare(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let drive = site.blank("DRIVE-A", 96)?;
    let written =
        format!("$(awk '{{ print $7 }}' /sys/class/block/$(basename $(readlink -e {}))/stat)", drive.by_id());
    let options = "--verify sample --volumes 2000";
    let moments = [
        ("the fill", format!("[ {written} -gt 60000 ]")),
        ("the filesystem", "compgen -G '/dev/mapper/offsite-*' >/dev/null".to_owned()),
        ("the volumes", "compgen -G '/run/offsite/work-*/c0_A_0100' >/dev/null".to_owned()),
    ];
    for (step, moment) in &moments {
        let command = prepare_command(&drive, "A", options);
        let killed = vm.sh(&format!(
            "{command} & pid=$!; until {moment}; do kill -0 $pid || exit 9; done; kill -9 $pid; wait $pid; echo killed by $?"
        ));
        let killed = killed.with_context(|| format!("kill during {step}"))?;
        ensure!(killed.contains("killed by 137"), "not killed during {step}: {killed}");
        let enrolled = vm.sh("cat /etc/offsite/site.toml")?;
        ensure!(!enrolled.contains("[[magazine]]"), "enrolled before {step} was done: {enrolled}");
    }
    ensure!(!vm.run(NOTHING_OPEN)?.success(), "the killed run left nothing open, so this shows nothing");

    let last = site.prepare(&drive, "A", options)?;
    ensure!(last.success(), "the last run: {last:?}");
    for done in ["filled with random data", "LUKS2 container", "ext4 filesystem"] {
        ensure!(!last.text.contains(done), "{done} once more: {}", last.text);
    }
    let magazine = site.enrolled(drive, "A")?;
    let dump = vm.sh(&format!("cryptsetup luksUUID {}", magazine.drive.by_id()))?;
    ensure!(dump.trim() == magazine.luks_uuid, "the container is {dump}");
    vm.sh(NOTHING_OPEN)?;
    vm.sh("test -z \"$(ls /var/lib/offsite/prepare)\" && test $(ls /var/lib/offsite/headers | wc -l) = 1")?;
    site.start()?;
    site.wait_for_volumes(&magazine)?;
    let volumes = vm.sh(&format!("ls {} | grep -c ^c0_A_", magazine.path()))?;
    ensure!(volumes == "2000\n", "{volumes} volumes");
    Ok(())
}

fn refusals(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let refused = |drive: &Drive, options: &str, why: &str| -> Result<()> {
        let said = vm.run(&format!("offsite prepare {} --name N {options}", drive.by_id()))?;
        ensure!(said.status == 3 && said.text.contains(why), "{why}: {said:?}");
        Ok(())
    };
    let used = site.blank("USED", 32)?;
    let device = used.by_id();
    vm.sh(&format!("mkfs.ext4 -q {device} && mount {device} /mnt && touch /mnt/file"))?;
    refused(&used, "--yes-destroy USED", "mounted")?;
    vm.sh("test -e /mnt/file && umount /mnt")?;
    let before = hash(vm, &device)?;
    refused(&used, "--yes-destroy OTHER", "has the id \"USED\"")?;
    refused(&used, "", "nobody confirmed")?;
    ensure!(hash(vm, &device)? == before, "a refused drive was written to");

    let a = site.prepared("A", 64, QUICK)?;
    let before = hash(vm, &a.drive.by_id())?;
    refused(&a.drive, "--yes-destroy DRIVE-A", "is the enrolled magazine A")?;
    ensure!(hash(vm, &a.drive.by_id())? == before, "an enrolled drive was written to");
    site.start()?;
    site.wait_for_volumes(&a)?;
    refused(&a.drive, "--yes-destroy DRIVE-A", "")?;
    let taken = site.prepare(&used, "A", QUICK)?;
    ensure!(taken.status == 3 && taken.text.contains("is enrolled already"), "{taken:?}");
    site.wait_for_volumes(&a)
}

fn restarted_daemon(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let holder = site.holder(&a)?;
    let mount = || vm.sh(&format!("grep ' {} ' /proc/self/mountinfo | cut -d ' ' -f 1", a.path()));
    let first = mount()?;
    for end in ["systemctl restart offsited", "kill -9 $(systemctl show -P MainPID offsited)"] {
        let before = vm.sh("systemctl show -P MainPID offsited")?;
        vm.sh(end)?;
        vm.wait_until("the next daemon", SOON, || {
            let now = vm.sh("systemctl show -P MainPID offsited")?;
            Ok(now != before && now != "0\n" && vm.run("systemctl is-active offsited")?.success())
        })?;
        ensure!(mount()? == first, "{end} took the mount away");
        site.wait_for_state(&a, "mounted")?;
        site.wait_for_volumes(&a)?;
    }
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's success", SOON, "grep -x 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()?;
    site.wait_for_volumes(&a)
}

fn two_at_once(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    vm.limit_udev_workers(1)?;
    site.start()?;
    vm.plug(&a.drive)?;
    vm.plug(&b.drive)?;
    let list = format!("timeout 50 ls {} {} | grep -c 'c0_[AB]_0002' | grep -x 2", a.path(), b.path());
    vm.wait_for("the volumes of both", SOON, &list)?;
    site.wait_for_rest()
}
