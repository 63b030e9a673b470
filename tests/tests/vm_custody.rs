//! Keys and headers in a server's hands: a fleet's key exchanged as drives come home, headers damaged and brought back,
//! drives with a partition table and with authenticated encryption, plugged and pulled.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, NOTHING_OPEN, QUICK, SMALL, SOON};
use offsite_tests::vm::{Size, Vm, run_trials, trial};
use serde_json::Value;

fn main() -> ExitCode {
    run_trials(vec![
        trial("a_fleets_key_is_exchanged_as_drives_come_home", fleet),
        trial("a_damaged_header_copy_is_mended_and_told", one_damaged_copy),
        trial("a_ruined_header_is_restored_to_its_own_drive_only", ruined_header),
        trial("a_drive_with_a_partition_table_lives_as_others_do", partition_table),
        trial("a_drive_in_an_enclosure_of_other_sectors_is_told_and_kept", other_sectors),
        trial("a_drive_with_authenticated_encryption_lives_as_others_do", authenticated),
        trial("no_key_byte_is_in_arguments_environment_or_logs", no_key_outside),
    ])
}

/// Whether plain cryptsetup opens the drive with a key file.
fn opens(vm: &Vm, magazine: &Magazine, key: &str) -> Result<bool> {
    let device = magazine.drive.by_id();
    Ok(vm.run(&format!("cryptsetup open --test-passphrase --key-file {key} {device}"))?.success())
}

/// Which roles `offsite key status` tells of a drive, by its backup and by itself.
fn key_status(vm: &Vm, name: &str) -> Result<(String, String)> {
    let output = vm.run("offsite key status --json 2>/run/error; true")?;
    let status: Value = serde_json::from_str(&output.text).with_context(|| format!("{output:?}"))?;
    let drives = status.get("drives").and_then(Value::as_array).context("no drives")?;
    let row = drives.iter().find(|row| row.get("name").and_then(Value::as_str) == Some(name));
    let roles = |place: &str| match row.and_then(|row| row.get(place)) {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => "unknown".to_owned(),
    };
    Ok((roles("backup"), roles("drive")))
}

fn wait_for_keys(vm: &Vm, name: &str, expected: &str) -> Result<()> {
    vm.wait_until(&format!("{name} to take {expected}"), SOON, || {
        let (backup, drive) = key_status(vm, name)?;
        Ok(backup == expected && drive == expected)
    })?;
    Ok(())
}

fn fleet(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", 36, "--luks1")?);
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let (old, new) = ("/etc/offsite/key", "/etc/offsite/key-2");

    // A is in its dock and in use, B in the safe.
    let holder = site.holder(&a)?;
    let said = vm.sh("offsite key rotate")?;
    ensure!(said.contains("/etc/offsite/key-2: the next key"), "{said}");
    wait_for_keys(vm, "A", "current next")?;
    ensure!(opens(vm, &a, old)? && opens(vm, &a, new)?, "not both keys open A");
    ensure!(key_status(vm, "B")? == ("current".into(), "unknown".into()), "{:?}", key_status(vm, "B")?);
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's success", SOON, "grep -x 'write 0' /run/written")?;
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;

    let early = vm.run("offsite key rotate --copy /etc/offsite/key")?;
    ensure!(early.status == 3, "the old key counts as a copy of the new one: {early:?}");
    ensure!(opens(vm, &a, old)?, "the old key was removed before a copy of the new one was proven");
    vm.sh(&format!(
        "mkdir -p /run/stick && cp {new} /run/stick/ && offsite key rotate --copy /run/stick/key-2"
    ))?;
    wait_for_keys(vm, "A", "current")?;
    ensure!(!opens(vm, &a, old)? && opens(vm, &a, new)?, "A doesn't take the new key alone");
    vm.sh("journalctl -u offsited | grep 'takes the key .* no more'")?;
    site.wait_for_volumes(&a)?;

    // The daemon dies while B comes home; the next one finds all it needs in site.toml and on the drive.
    vm.sh("systemctl kill -s KILL offsited")?;
    site.plug(&b.drive)?;
    vm.wait_for("the next daemon", SOON, "systemctl is-active offsited")?;
    site.wait_for_volumes(&b)?;
    wait_for_keys(vm, "B", "current")?;
    ensure!(!opens(vm, &b, old)? && opens(vm, &b, new)?, "B doesn't take the new key alone");
    let said = vm.sh("offsite key rotate")?;
    ensure!(said.contains("No drive takes the old key any more"), "{said}");
    vm.sh("! grep old_key_files /etc/offsite/site.toml")?;
    vm.sh("test $(ls -A /var/lib/offsite/headers | wc -l) = 2")?;
    let copies = vm.sh("offsite key test /run/stick/key-2")?;
    ensure!(copies.contains("A  opens") && copies.contains("B  opens"), "{copies}");
    let c = site.prepared("C", SMALL, QUICK)?;
    ensure!(opens(vm, &c, new)? && !opens(vm, &c, old)?, "a new drive doesn't take the new key");
    site.wait_for_rest()
}

fn one_damaged_copy(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    for (copy, place) in [("secondary", 16384 + 4100), ("primary", 4100)] {
        site.plug(&a.drive)?;
        site.wait_for_state(&a, "locked")?;
        site.wait_for_rest()?;
        vm.sh(&format!(
            "printf damaged | dd of={} bs=1 seek={place} conv=notrunc,fsync status=none",
            a.drive.by_id()
        ))?;
        site.wait_for_rest()?;
        site.wait_for_volumes(&a)?;
        for command in ["offsite status", "offsite doctor; true", "journalctl -u offsited"] {
            let told = vm.sh(command)?;
            let expected = format!("the {copy} copy of its LUKS header");
            ensure!(told.contains(&expected), "{command}: {told}");
        }
        site.wait_for_rest()?;
        let repaired = vm.sh(&format!("offsite luks repair {}", a.drive.by_id()))?;
        ensure!(repaired.contains("nothing to mend"), "{repaired}");
        vm.sh("rm /var/lib/offsite/headers/*.mended")?;
        ensure!(!vm.sh("offsite status")?.contains("warning"), "the note stays after its file went");
        vm.unplug(&a.drive)?;
        site.wait_for_state(&a, "away")?;
    }
    Ok(())
}

fn ruined_header(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    site.start()?;
    site.plug(&a.drive)?;
    site.plug(&b.drive)?;
    site.wait_for_state(&a, "locked")?;
    let (device_a, device_b) = (a.drive.by_id(), b.drive.by_id());
    let sound = vm.run(&format!("offsite luks restore {device_a} --yes-overwrite DRIVE-A"))?;
    ensure!(sound.status == 3 && sound.text.contains("its header is sound"), "{sound:?}");

    site.wait_for_rest()?;
    for device in [&device_a, &device_b] {
        vm.sh(&format!("dd if=/dev/urandom of={device} bs=1M count=1 conv=notrunc,fsync status=none"))?;
        vm.sh(&format!("udevadm trigger --settle {device}"))?;
    }
    let doctor = vm.run("offsite doctor")?;
    ensure!(doctor.status == 1 && doctor.text.contains("shows no LUKS header"), "{doctor:?}");

    // The header of another drive: told by the serial number, and where that lies, by the data behind it.
    let other = vm.run(&format!("offsite luks restore {device_b} --name A --yes-overwrite DRIVE-B"))?;
    ensure!(other.status == 3 && other.text.contains("it is another drive"), "{other:?}");
    vm.sh("sed -i 's/serial = .*/# &/' /etc/offsite/site.toml")?;
    let before = vm.sh(&format!("sha256sum <{device_b}"))?;
    let lying = vm.run(&format!("offsite luks restore {device_b} --name A --yes-overwrite DRIVE-B"))?;
    ensure!(lying.status == 3 && lying.text.contains("there is no filesystem"), "{lying:?}");
    ensure!(vm.sh(&format!("sha256sum <{device_b}"))? == before, "a refused drive was written to");
    vm.sh("sed -i 's/# serial/serial/' /etc/offsite/site.toml")?;
    vm.sh(NOTHING_OPEN)?;

    let unasked = vm.run(&format!("offsite luks restore {device_a} </dev/null"))?;
    ensure!(unasked.status == 3 && unasked.text.contains("nobody confirmed"), "{unasked:?}");
    for (magazine, device) in [(&a, &device_a), (&b, &device_b)] {
        let said =
            vm.sh(&format!("offsite luks restore {device} --yes-overwrite {}", magazine.drive.serial()))?;
        ensure!(said.contains("is restored, and its key opens it"), "{said}");
        site.wait_for_volumes(magazine)?;
    }
    site.wait_for_rest()
}

fn partition_table(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.prepared("A", SMALL, &format!("{QUICK} --gpt"))?;
    let device = a.drive.by_id();
    let shown =
        vm.sh(&format!("blkid -p -o value -s PTTYPE {device}; blkid -o value -s TYPE {device}-part1"))?;
    ensure!(shown == "gpt\ncrypto_LUKS\n", "{shown}");
    let kind = vm.sh(&format!("lsblk -no PARTTYPE {device}-part1"))?;
    ensure!(kind.trim() == "ca7d7ccb-63ed-4c53-861c-1742536059cc", "{kind}");
    let again = vm.run(&format!("offsite prepare {device} --name B --yes-destroy DRIVE-A {QUICK}"))?;
    ensure!(again.status == 3 && again.text.contains("is the enrolled magazine A"), "{again:?}");
    vm.unplug(&a.drive)?;

    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let status = site.status("A")?;
    let partition = vm.sh(&format!("readlink -e {device}-part1"))?;
    let used = status.get("device").and_then(Value::as_str).unwrap_or_default();
    ensure!(used == partition.trim(), "{status}");
    ensure!(status.get("serial").and_then(Value::as_str) == Some("DRIVE-A"), "{status}");
    site.wait_for_rest()?;
    site.wait_for_state(&a, "locked")?;
    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;
    ensure!(!site.torn(&a)?, "a drive that was idle counts as torn");
    torn_out_in_use(&site, &a)?;

    // Another server takes it as it is.
    vm.sh("systemctl stop offsited && sed -i '/^\\[\\[magazine/,$d' /etc/offsite/site.toml && rm -r /var/lib/offsite/headers")?;
    let said = vm.sh(&format!("offsite adopt {device} --name A"))?;
    ensure!(said.contains("is enrolled as A"), "{said}");
    site.start()?;
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()
}

/// The same drive in an enclosure that counts in sectors of 4096 bytes: its partition isn't seen, and all is well.
fn other_sectors(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let p = site.put_away("P", SMALL, "--gpt")?;
    let w = site.put_away("W", SMALL, "")?;
    site.start()?;
    let plug = |magazine: &Magazine| -> Result<()> {
        vm.plug_with_large_sectors(&magazine.drive)?;
        vm.wait_for("the drive's name", SOON, &format!("test -b {}", magazine.drive.by_id()))?;
        let sector = vm.sh(&format!("blockdev --getss {}", magazine.drive.by_id()))?;
        ensure!(sector == "4096\n", "sectors of {sector}");
        Ok(())
    };
    // One without a partition table is used in either.
    plug(&w)?;
    site.wait_for_volumes(&w)?;
    site.wait_for_rest()?;
    vm.unplug(&w.drive)?;
    site.plug(&w.drive)?;
    site.wait_for_volumes(&w)?;
    site.wait_for_rest()?;
    vm.unplug(&w.drive)?;

    plug(&p)?;
    let device = p.drive.by_id();
    let before = vm.sh(&format!("udevadm settle; sha256sum <{device}"))?;
    ensure!(
        !vm.run(&format!("ls {device}-part1"))?.success(),
        "the partition is seen, so this shows nothing"
    );
    let why = "counts in sectors of 512 bytes, and this enclosure shows 4096";
    let doctor = vm.run("offsite doctor")?.text;
    ensure!(doctor.contains("the header of P is well, at byte 1048576") && doctor.contains(why), "{doctor}");
    ensure!(!doctor.contains("luks restore"), "{doctor}");
    for option in ["", "--unproven"] {
        let said = vm.run(&format!("offsite luks restore {device} --yes-overwrite DRIVE-P {option}"))?;
        ensure!(said.status == 3 && said.text.contains(why), "{said:?}");
    }
    for destroy in ["wipe", "prepare --name New", "luks format --key-file /etc/offsite/key"] {
        let said = vm.run(&format!("offsite {destroy} {device} --yes-destroy DRIVE-P"))?;
        ensure!(said.status == 3 && said.text.contains("the enrolled magazine P"), "{destroy}: {said:?}");
    }
    ensure!(vm.sh(&format!("sha256sum <{device}"))? == before, "the drive was written to");
    vm.unplug(&p.drive)?;
    site.plug(&p.drive)?;
    site.wait_for_volumes(&p)?;
    site.wait_for_rest()?;
    vm.unplug(&p.drive)?;

    // One that was made in such an enclosure is used in it.
    let drive = vm.blank_drive("DRIVE-Q", Size::mib(SMALL))?;
    vm.plug_with_large_sectors(&drive)?;
    vm.wait_for("the drive's name", SOON, &format!("test -b {}", drive.by_id()))?;
    let made = site.prepare(&drive, "Q", &format!("{QUICK} --gpt"))?;
    ensure!(made.success(), "{made:?}");
    let q = site.enrolled(drive, "Q")?;
    site.wait_for_volumes(&q)?;
    site.wait_for_rest()
}

/// Pulled while a file on it is open, nothing of it stays, and plugged again it works.
fn torn_out_in_use(site: &DriveSite<'_>, a: &Magazine) -> Result<()> {
    let vm = site.vm;
    site.plug(&a.drive)?;
    site.wait_for_volumes(a)?;
    let holder = site.holder(a)?;
    vm.unplug(&a.drive)?;
    site.wait_for_state(a, "away")?;
    ensure!(site.torn(a)?, "nobody noticed that it was torn out");
    site.ensure_absent(a)?;
    vm.sh("touch /run/write")?;
    vm.wait_for("the holder's error", SOON, "grep -x 'write 1' /run/written")?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(a)?;
    ensure!(!site.torn(a)?, "still marked as torn after the check");
    vm.sh("touch /run/end")?;
    holder.wait(SOON)?;
    site.wait_for_rest()
}

fn authenticated(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    vm.sh("modprobe dm-integrity")?;
    let a = site.prepared("A", 96, &format!("{QUICK} --authenticated"))?;
    let device = a.drive.by_id();
    let dump = vm.sh(&format!("cryptsetup luksDump {device}"))?;
    ensure!(dump.contains("integrity: hmac(sha256)"), "{dump}");
    let open = format!("cryptsetup open --readonly --key-file /etc/offsite/key {device} look");
    vm.sh(&format!(
        "{open} && dd if=/dev/mapper/look of=/dev/null bs=1M && udevadm settle && cryptsetup close look"
    ))
    .context("plain cryptsetup can't read every sector")?;
    vm.unplug(&a.drive)?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()?;
    vm.unplug(&a.drive)?;
    torn_out_in_use(&site, &a)?;

    // Data that somebody changed are an error, not other data.
    let volume = format!("{}/c0_A_0001", a.path());
    vm.sh(&format!("dd if=/dev/urandom of={volume} bs=64k count=64 conv=fsync status=none"))?;
    site.wait_for_rest()?;
    vm.sh(&format!(
        "for at in $(seq 40 2 80); do printf changed | dd of={device} bs=1M seek=$at conv=notrunc,fsync status=none; done"
    ))?;
    let damaged = vm.run(&format!(
        "{open}; dd if=/dev/mapper/look of=/dev/null bs=64k; status=$?; cryptsetup close look; exit $status"
    ))?;
    ensure!(!damaged.success(), "changed data were read: {damaged:?}");
    Ok(())
}

/// The key's first bytes, as text that could appear anywhere, are looked for in all that the system keeps.
fn no_key_outside(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    vm.sh("set -e; offsite key rotate --without-copy\n\
         printf 'a passphrase for the safe\\n' | offsite key export /run/sealed --passphrase\n\
         offsite key export /run/share --split 2/3\n\
         offsite key test /etc/offsite/key-2 || true")?;
    wait_for_keys(vm, "A", "current")?;
    let pid = vm.sh("pgrep -P $(systemctl show -P MainPID offsited)")?;
    vm.write("/run/look.pl", LOOK, 0o700)?;
    let found = vm.sh("perl /run/look.pl")?;
    ensure!(found == "64 needles\n", "{found}");
    let limits = vm.sh(&format!("grep core /proc/{}/limits", pid.trim()))?;
    ensure!(limits.split_whitespace().nth(4) == Some("0"), "offsited may leave a core file: {limits}");
    Ok(())
}

/// Looks for parts of both keys, as they are and in hexadecimal, in what every process was started with and in what
/// lies on the system's disk.
const LOOK: &str = r#"
sub slurp { open(my $f, '<:raw', $_[0]) or return ''; local $/; my $all = <$f>; defined $all ? $all : '' }
my %needle;
for my $key (map { slurp($_) } '/etc/offsite/key', '/etc/offsite/key-2') {
    $needle{substr($key, $_ * 128, 16)} = 1 for 0 .. length($key) / 128 - 1;
}
print scalar(keys %needle), " needles\n";
my @places = (glob('/proc/[0-9]*/cmdline'), glob('/proc/[0-9]*/environ'), '/run/sealed', glob('/run/share.*'));
chomp(my @files = `find /var/log /var/lib/offsite /etc/bacula /run/log /tmp -type f 2>/dev/null`);
push @places, @files;
for my $place (@places, '/etc/offsite/site.toml') {
    next if -s $place && -s $place > 4 << 20; # header backups are large, and encrypted
    my $data = slurp($place);
    for my $needle (keys %needle) {
        print "a key is in $place\n" if index($data, $needle) >= 0 or index(lc $data, substr(unpack('H*', $needle), 0, 24)) >= 0;
    }
}
"#;
