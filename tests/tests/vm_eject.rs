//! `offsite eject`, `unlock`, `status`: what a person asks for, with and without Bacula at work, and who may ask.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use offsite_tests::guest_drives::{DriveSite, Magazine, NOTHING_OPEN, SMALL, SOON};
use offsite_tests::guest_site::GuestSite;
use offsite_tests::vm::{Drive, Output, Size, Vm, run_trials, trial};

/// Exit codes that docs/administrator.md promises.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const NOT_THERE: i32 = 4;
const TIME_LIMIT: i32 = 5;

fn main() -> ExitCode {
    run_trials(vec![
        trial("an_ejected_drive_stays_locked_until_it_is_plugged_again", ejected_stays_ejected),
        trial("a_drive_in_use_is_not_ejected", in_use),
        trial("a_drive_that_is_not_at_rest_is_not_called_safe", not_at_rest),
        trial("only_root_and_the_group_may_talk_and_only_root_may_act", who_may),
        trial("bacula_lets_go_of_an_ejected_magazine_and_jobs_are_waited_for", with_bacula),
    ])
}

fn ensure_ended(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    ensure!(output.status == status, "ended with {} and not {status}: {}", output.status, output.text);
    for word in words {
        ensure!(output.text.contains(word), "no {word:?} in: {}", output.text);
    }
    Ok(())
}

/// Notes which commands are sent to SCSI devices.
fn trace_commands(vm: &Vm) -> Result<()> {
    vm.sh("mount -t tracefs tracefs /sys/kernel/tracing && echo 1 >/sys/kernel/tracing/events/scsi/scsi_dispatch_cmd_start/enable")
        .map(drop)
}

/// How often a START STOP UNIT with this fifth byte was sent.
fn motor_commands(vm: &Vm, byte: &str) -> Result<usize> {
    let trace = vm.sh("cat /sys/kernel/tracing/trace")?;
    Ok(trace.lines().filter(|line| line.contains(&format!("raw=1b 00 00 00 {byte} 00"))).count())
}

fn ejected_stays_ejected(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    ensure_ended(&vm.run("offsite eject")?, NOT_THERE, &["offsited isn't running"])?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    site.start()?;
    trace_commands(vm)?;
    ensure_ended(&vm.run("offsite eject")?, NOT_THERE, &["no drive is plugged"])?;
    ensure_ended(&vm.run("offsite eject A")?, NOT_THERE, &["A is not plugged"])?;
    ensure_ended(&vm.run("offsite eject Z")?, NOT_THERE, &["no magazine is called"])?;

    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    ensure_ended(&vm.run("offsite eject")?, 0, &["A is locked and stands still; safe to remove"])?;
    ensure!(motor_commands(vm, "00")? == 1, "its motor was not stopped");
    ensure_out(&site, &a)?;
    // Whatever is said again of the drive and whoever starts anew, it stays locked.
    let name = a.drive.by_id();
    vm.sh(&format!(
        "udevadm trigger --settle --action=change {name}; udevadm trigger --settle --action=add {name}"
    ))?;
    ensure_out(&site, &a)?;
    vm.sh("systemctl restart offsited")?;
    ensure_out(&site, &a)?;
    vm.sh("systemctl kill -s KILL offsited; sleep 1")?;
    vm.wait_for("the daemon", SOON, "offsite status | grep -x 'A  ejected.*'")?;
    ensure_out(&site, &a)?;
    ensure_ended(&vm.run("offsite eject A")?, 0, &["safe to remove"])?;
    let json = vm.sh("offsite eject A --json")?;
    ensure!(json.contains("\"magazine\": \"A\"") && json.contains("\"version\": 1"), "{json}");

    ensure_ended(&vm.run("offsite unlock A")?, 0, &["A is mounted at"])?;
    ensure!(motor_commands(vm, "01")? == 1, "its motor was not started");
    site.wait_for_volumes(&a)?;

    site.plug(&b.drive)?;
    site.wait_for_state(&b, "locked")?;
    ensure_ended(&vm.run("offsite eject")?, USAGE, &["several drives are plugged: A, B"])?;
    let twice = vm.spawn("offsite eject A")?;
    ensure_ended(&vm.run("offsite eject A")?, 0, &["safe to remove"])?;
    ensure_ended(&twice.wait(SOON)?, 0, &["safe to remove"])?;
    ensure_out(&site, &a)?;
    // The other one needs no name now, and one that is locked is ejected as well.
    ensure_ended(&vm.run("offsite eject")?, 0, &["B is locked and stands still"])?;

    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    ensure_out(&site, &b)
}

fn ensure_out(site: &DriveSite<'_>, magazine: &Magazine) -> Result<()> {
    site.wait_for_state(magazine, "ejected")?;
    site.ensure_absent(magazine)?;
    let mapping = site.vm.run(&format!("dmsetup ls | grep offsite-{}", magazine.luks_uuid))?;
    ensure!(!mapping.success(), "{} is open: {}", magazine.name, mapping.text);
    Ok(())
}

fn in_use(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let shell = vm.spawn(&format!(
        "cd {} && touch /run/sits && until [ -e /run/gets-up ]; do sleep 0.1; done",
        a.path()
    ))?;
    vm.wait_for("the shell", SOON, "test -e /run/sits")?;
    for command in ["eject", "lock A"] {
        let refused = vm.run(&format!("offsite {command}"))?;
        ensure_ended(&refused, REFUSED, &["A is in use: ", "(process ", " stands in /srv/offsite/"])?;
    }
    ensure_ended(&vm.run("offsite eject --wait=5")?, TIME_LIMIT, &["waiting: A is in use", "still"])?;
    // A drive that isn't ejected is used as before.
    site.wait_for_volumes(&a)?;
    let waits = vm.spawn("offsite eject --wait A")?;
    std::thread::sleep(Duration::from_secs(2));
    vm.sh("touch /run/gets-up")?;
    shell.wait(SOON)?;
    ensure_ended(&waits.wait(SOON)?, 0, &["safe to remove"])?;
    ensure_out(&site, &a)?;

    // The mapping itself, in use by something that has nothing mounted.
    vm.sh("offsite unlock A")?;
    let reads =
        vm.spawn(&format!("exec 9</dev/mapper/offsite-{}; touch /run/reads; sleep 4", a.luks_uuid))?;
    vm.wait_for("the reader", SOON, "test -e /run/reads")?;
    let output = vm.run("offsite eject A")?;
    // It is either refused, or came after the reader had gone: it is never called safe while open.
    ensure!(output.success() || output.status == REFUSED, "{output:?}");
    if output.success() {
        vm.sh(NOTHING_OPEN)?;
    }
    reads.wait(SOON).map(drop)
}

/// Unmounted behind the daemon's back while a file is open; pulled while it is ejected.
fn not_at_rest(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    let holder = vm.spawn(&format!(
        "exec 9>{}/held; touch /run/holds; until [ -e /run/lets-go ]; do sleep 0.1; done",
        a.path()
    ))?;
    vm.wait_for("the holder", SOON, "test -e /run/holds")?;
    vm.sh(&format!("umount -l {}", a.path()))?;
    let refused = vm.run("offsite lock A")?;
    ensure_ended(&refused, REFUSED, &["A is unmounted but not free", "/dev/mapper/offsite-"])?;
    vm.sh("touch /run/lets-go")?;
    holder.wait(SOON)?;
    site.wait_for_state(&a, "locked")?;
    ensure_ended(&vm.run("offsite eject A")?, 0, &["safe to remove"])?;
    vm.sh(NOTHING_OPEN)?;

    vm.sh("offsite unlock A")?;
    // The flush takes ten seconds at least.
    vm.slow_down(&a.drive, 1)?;
    vm.sh(&format!("dd if=/dev/zero of={}/volume bs=1M count=12", a.path()))?;
    let eject = vm.spawn("offsite eject A")?;
    std::thread::sleep(Duration::from_secs(3));
    vm.unplug(&a.drive)?;
    let told = eject.wait(SOON)?;
    ensure_ended(&told, FAILED, &["A was pulled before it was flushed; it will be checked"])?;
    site.wait_for_state(&a, "away")?;
    vm.sh("offsite status | grep 'A  away.*was pulled while in use'").map(drop)
}

fn who_may(vm: &Vm) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let a = site.put_away("A", SMALL, "")?;
    site.start()?;
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    ensure!(vm.sh("stat -c '%a %U:%G' /run/offsite/control")? == "660 root:bacula\n", "the socket's rights");
    let member = "runuser -u bacula --";
    site.wait_for_volumes(&a)?;
    ensure_ended(&vm.run(&format!("{member} offsite status"))?, 0, &["A  "])?;
    let json = vm.sh(&format!("{member} offsite status --json"))?;
    ensure!(json.starts_with("{\n  \"version\": 1,"), "{json}");
    for command in ["eject A", "unlock A", "lock A"] {
        ensure_ended(&vm.run(&format!("{member} offsite {command}"))?, REFUSED, &["only root may"])?;
    }
    for command in ["status", "eject A"] {
        let stranger = vm.run(&format!("runuser -u nobody -- offsite {command}"))?;
        ensure_ended(&stranger, FAILED, &["cannot ask offsited", "the group bacula may ask"])?;
    }
    // Each change is shown, here those of a drive that is looked at and lies idle again.
    site.wait_for_state(&a, "locked")?;
    let watch = vm.spawn("timeout 20 offsite status --watch")?;
    site.wait_for_volumes(&a)?;
    let shown = watch.wait(SOON)?.text;
    for state in ["A  in use", "A  plugged, locked"] {
        ensure!(shown.contains(state), "{state} is not shown: {shown}");
    }
    site.wait_for_state(&a, "locked")?;
    let line = vm.run("timeout 3 offsite status --watch --json")?;
    ensure!(line.text.lines().count() == 1 && line.text.contains("\"state\":\"locked\""), "{}", line.text);
    site.wait_for_state(&a, "locked")
}

/// A server with Bacula and one of its magazines plugged.
struct Server<'vm> {
    vm: &'vm Vm,
    site: GuestSite<'vm>,
}

impl Server<'_> {
    fn prepared(&self, name: &str) -> Result<Drive> {
        let drive = self.vm.blank_drive(&format!("DRIVE-{name}"), Size::mib(160))?;
        self.vm.plug(&drive)?;
        self.vm.wait_for("the drive", SOON, &format!("test -b {}", drive.by_id()))?;
        let (device, serial) = (drive.by_id(), drive.serial());
        self.vm.sh(&format!("offsite prepare {device} --name {name} --skip-wipe --yes-destroy {serial}"))?;
        self.vm.unplug(&drive)?;
        Ok(drive)
    }

    /// Starts a job and holds its client while the storage daemon is at work on a volume.
    fn held_job(&self, command: &str, doing: &str) -> Result<u32> {
        let said = self.site.console(command)?;
        let id = said.split("JobId=").nth(1).unwrap_or_default();
        let id = id.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?;
        self.vm.wait_until("the job to be at work", SOON, || {
            let status = self.site.console("status storage=c0")?;
            Ok(status.contains(&format!("{doing}: ")) && status.contains(&format!("JobId={id} Volume=\"c0_")))
        })?;
        self.vm.sh("kill -STOP $(pidof bacula-fd)")?;
        Ok(id)
    }

    fn let_go_on(&self) -> Result<()> {
        self.vm.sh("kill -CONT $(pidof bacula-fd)").map(drop)
    }

    fn wait_for_job(&self, id: u32) -> Result<()> {
        self.vm.wait_until("the job's end", Duration::from_mins(3), || {
            Ok(self.site.catalog(&format!("select JobStatus from Job where JobId={id}"))? == "T")
        })?;
        Ok(())
    }

    fn eject(&self, options: &str) -> Result<Output> {
        self.vm.run_within(&format!("offsite eject {options}"), Duration::from_mins(4))
    }
}

fn with_bacula(vm: &Vm) -> Result<()> {
    let server = Server { vm, site: GuestSite::install(vm)? };
    let (a, b) = (server.prepared("A")?, server.prepared("B")?);
    server.site.start()?;
    server.site.generate_tree()?;
    vm.plug(&a)?;
    server.site.wait_for_catalog("A", Duration::from_mins(3))?;
    during_a_backup(&server)?;

    looking_wakes_nothing(&server, &a)?;

    // No command is typed: the next job has the virtual drive.
    vm.unplug(&a)?;
    vm.plug(&b)?;
    server.site.wait_for_catalog("B", Duration::from_mins(3))?;
    server.site.change_tree()?;
    let job = server.site.backup("Full")?;
    ensure!(job.volumes.iter().all(|v| v.starts_with("c0_B_")), "{job:?}");
    during_a_restore(&server, job.id)?;
    with_a_director_that_is_ill(&server)
}

fn during_a_backup(server: &Server<'_>) -> Result<()> {
    let job = server.held_job("run job=Backup level=Full yes", "Writing")?;
    let who = format!("job Backup (JobId {job}) writes c0_A_");
    let second = server.vm.spawn("offsite eject")?;
    ensure_ended(&server.eject("A")?, REFUSED, &[&who, "offsite eject --wait A"])?;
    ensure_ended(&second.wait(SOON)?, REFUSED, &[&who])?;
    ensure_ended(&server.eject("--wait=3 A")?, TIME_LIMIT, &[&format!("waiting: A is not free: {who}")])?;
    let waits = server.vm.spawn("offsite eject --wait --json")?;
    std::thread::sleep(Duration::from_secs(2));
    server.let_go_on()?;
    let output = waits.wait(Duration::from_mins(4))?;
    ensure_ended(&output, 0, &["safe to remove", "\"released_drives\": [\n    0\n  ]", "\"warnings\": []"])?;
    server.wait_for_job(job)?;
    server.vm.sh("! test -L /var/lib/offsite/c0/0")?;
    server.vm.wait_for(
        "the last backup",
        SOON,
        "offsite status | grep '^A .* last backup Backup (full) 20'",
    )?;
    server.site.wait_for_empty_changer(Duration::from_mins(1))
}

/// After a job its volume stays loaded, and whoever looks must not have the drive unlocked for that.
fn looking_wakes_nothing(server: &Server<'_>, a: &Drive) -> Result<()> {
    let vm = server.vm;
    vm.unplug(a)?;
    vm.plug(a)?;
    server.site.wait_for_catalog("A", Duration::from_mins(3))?;
    server.site.backup("Incremental")?;
    vm.sh("readlink /var/lib/offsite/c0/0 | grep ^/srv/offsite/")?;
    vm.wait_for(
        "the drive to be locked",
        Duration::from_mins(3),
        "offsite status | grep '^A  plugged, locked'",
    )?;
    let unlocked = || vm.sh("journalctl -u offsited -o cat | grep -c 'A is mounted'");
    let before = unlocked()?;
    for look in [
        "offsite status",
        "offsite status --json",
        "timeout 15 offsite status --watch; true",
        "offsite doctor; true",
        "offsite conf --check /etc/bacula; true",
        "vchanger /etc/offsite/vchanger.conf refresh",
    ] {
        vm.sh(look)?;
        vm.sh(NOTHING_OPEN)?;
        ensure!(unlocked()? == before, "{look} unlocked the drive");
    }
    ensure!(
        vm.sh("offsite status")?.contains("A  plugged, locked: safe to pull"),
        "the drive is not told to be locked"
    );
    vm.sh("offsite eject A").map(drop)
}

fn during_a_restore(server: &Server<'_>, of: u32) -> Result<()> {
    let command = format!("restore jobid={of} client=backup-fd where=/restored all done yes");
    let job = server.held_job(&command, "Reading")?;
    let who = format!("(JobId {job}) reads c0_B_");
    ensure_ended(&server.eject("")?, REFUSED, &[&who])?;
    server.let_go_on()?;
    server.wait_for_job(job)?;
    ensure_ended(&server.eject("--wait B")?, 0, &["safe to remove"])?;
    server.vm.sh("offsite unlock B").map(drop)
}

/// Down, hanging, and hanging while the storage daemon writes.
fn with_a_director_that_is_ill(server: &Server<'_>) -> Result<()> {
    let vm = server.vm;
    vm.sh("systemctl stop bacula-director")?;
    ensure_ended(&server.eject("B")?, 0, &["warning: Bacula is told later", "safe to remove"])?;
    vm.sh("systemctl start bacula-director; offsite unlock B")?;
    server.site.wait_for_catalog("B", Duration::from_mins(2))?;

    vm.sh("kill -STOP $(pidof bacula-dir)")?;
    ensure_ended(&server.eject("B")?, 0, &["cut off after 15 s", "safe to remove"])?;
    vm.sh("kill -CONT $(pidof bacula-dir); offsite unlock B")?;
    server.site.wait_for_catalog("B", Duration::from_mins(3))?;

    server.held_job("run job=Backup level=Full yes", "Writing")?;
    vm.sh("kill -STOP $(pidof bacula-dir)")?;
    ensure_ended(&server.eject("B")?, REFUSED, &["B is in use: bacula-sd (process "])
}
