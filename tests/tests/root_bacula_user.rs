//! Bacula's user stays Bacula's user: it writes commands into whatever it can write, then root does all that an
//! administrator and the daemon do. The real programs and the real console on this machine; no Director is needed,
//! since the console reads its configuration first.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::User;
use offsite_tests::host_daemon::{Daemon, IDLE, is_mounted, list, offsite, try_offsite, wait, write_site};
use offsite_tests::loop_drive::{LoopDrive, lay_volumes, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{host_daemon, own_system, programs};

const CONSOLE: &str = "/etc/bacula/bconsole-offsite.conf";
const WORK: &str = "/var/lib/offsite/c0";

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| {
            User::from_name("bacula").ok().flatten().is_none().then(|| "no user bacula here".to_owned())
        })
        .or_else(|| (!Path::new("/usr/sbin/bconsole").is_file()).then(|| "no bconsole here".to_owned()))
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 5] = [
        ("who_reads_a_generated_file_may_not_write_it", who_reads_a_generated_file_may_not_write_it),
        (
            "a_mount_root_with_something_in_it_is_not_covered",
            a_mount_root_with_something_in_it_is_not_covered,
        ),
        ("an_open_umask_opens_nothing_of_the_daemon", an_open_umask_opens_nothing_of_the_daemon),
        ("what_bacula_writes_is_never_run_by_root", what_bacula_writes_is_never_run_by_root),
        ("a_state_without_end_costs_root_nothing", a_state_without_end_costs_root_nothing),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// A site with one drive and Bacula's generated configuration.
fn site() -> Result<LoopDrive> {
    for left in ["/etc/offsite", "/etc/bacula", "/var/lib/offsite", "/var/log/offsite"] {
        if Path::new(left).exists() {
            fs::remove_dir_all(left)?;
        }
    }
    let drive = LoopDrive::ext4(64)?;
    lay_volumes(&drive, "A", 3)?;
    write_site(IDLE, &[("A", &drive)])?;
    let jobs = "[[bacula.jobs]]\nname = \"Backup\"\npaths = [\"/etc\"]\n";
    File::options().append(true).open("/etc/offsite/site.toml")?.write_all(jobs.as_bytes())?;
    offsite(&["init"])?;
    offsite(&["conf"])?;
    Ok(drive)
}

/// Where planted commands tell as whom they ran.
struct Traces(tempfile::TempDir);

impl Traces {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777))?;
        Ok(Self(directory))
    }

    /// A line of Bacula's configuration language that leaves a trace.
    fn line(&self) -> String {
        format!("@|\"sh -c 'id -u >> {}/$(id -u)'\"\n", self.0.path().display())
    }

    /// The numbers of the users who ran it.
    fn users(&self) -> Result<Vec<String>> {
        let names =
            fs::read_dir(self.0.path())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// Runs a script as Bacula's user, with all its groups.
fn as_bacula(script: &str) -> Result<String> {
    let user = ["--reuid", "bacula", "--regid", "tape", "--groups", "bacula,tape"];
    run(Command::new("/usr/bin/setpriv").args(user).args(["sh", "-c", script]))
}

fn who_reads_a_generated_file_may_not_write_it() -> Result<()> {
    let _drive = site()?;
    let writable = || {
        as_bacula(
            "find /etc /run /srv /var/lib/offsite /usr/lib/systemd -writable ! -type l 2>/dev/null; true",
        )
    };
    let only_its_own = |found: &str| found.lines().all(|path| path.starts_with(WORK));
    let found = writable()?;
    ensure!(only_its_own(&found), "Bacula's user may write:\n{found}");
    ensure!(as_bacula(&format!("cat {CONSOLE}"))?.contains("Console"), "Bacula's user must read it");

    // An installation of before: found by doctor, mended by conf, whatever else is right.
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    chown(CONSOLE, Some(bacula.uid.as_raw()), Some(bacula.gid.as_raw()))?;
    fs::set_permissions("/etc/bacula/bacula-sd.conf", Permissions::from_mode(0o664))?;
    let doctor = try_offsite(&["doctor"])?;
    let doctor = String::from_utf8_lossy(&doctor.stdout);
    for file in ["bconsole-offsite.conf is not root:bacula", "bacula-sd.conf is not root:bacula"] {
        ensure!(doctor.contains(file), "{file}: {doctor}");
    }
    let conf = offsite(&["conf"])?;
    ensure!(conf.matches("protected").count() == 2, "{conf}");
    let found = writable()?;
    ensure!(only_its_own(&found), "Bacula's user may still write:\n{found}");
    ensure!(!offsite(&["conf"])?.contains("protected"), "mended twice");
    Ok(())
}

fn a_mount_root_with_something_in_it_is_not_covered() -> Result<()> {
    let _drive = site()?;
    fs::create_dir_all("/srv/offsite/mine")?;
    fs::write("/srv/offsite/mine/file", "")?;
    let refused = Command::new("/usr/bin/timeout").arg("60").arg(programs::release("offsited")?).output()?;
    fs::remove_dir_all("/srv/offsite/mine")?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains("would hide \"mine\""), "{refused:?}");
    Ok(())
}

fn an_open_umask_opens_nothing_of_the_daemon() -> Result<()> {
    let mut drive = site()?;
    if Path::new("/run/offsite").exists() {
        fs::remove_dir_all("/run/offsite")?;
    }
    let starter = tempfile::tempdir()?;
    let script = starter.path().join("start");
    let program = programs::release("offsited")?;
    fs::write(&script, format!("#!/bin/sh\numask 000\nexec {} \"$@\"\n", program.display()))?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let daemon = Daemon::run(&script)?;
    drive.plug()?;
    wait("the drive to be known", || Ok(offsite(&["status"])?.contains("A  plugged")))?;
    let open =
        run(Command::new("find").args(["/run/offsite", "/var/lib/offsite", "/srv"]).args(["-perm", "/002"]))?;
    ensure!(open.is_empty(), "others may write:\n{open}");
    drop(daemon);
    Ok(())
}

fn what_bacula_writes_is_never_run_by_root() -> Result<()> {
    let mut drive = site()?;
    let traces = Traces::new()?;
    // An installation of before: the console's configuration was Bacula's own.
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    chown(CONSOLE, Some(bacula.uid.as_raw()), Some(bacula.gid.as_raw()))?;
    let planted = as_bacula(&format!(
        "line={}\nfind /etc /run /srv /var/lib/offsite /var/log -xdev -type f -writable | while read -r file; do \
           {{ printf '%s' \"$line\"; cat \"$file\"; }} > {1}/new && cat {1}/new > \"$file\" && echo \"$file\"; done; rm -f {1}/new",
        quoted(&traces.line()),
        traces.0.path().display()
    ))?;
    ensure!(
        planted.lines().any(|file| file == CONSOLE),
        "the old installation is like the old ones: {planted}"
    );

    let daemon = Daemon::again()?;
    drive.plug()?;
    wait("the drive to be known", || Ok(offsite(&["status"])?.contains("A  plugged")))?;
    offsite(&["status", "--json"])?;
    list(&host_daemon::at(&drive))?;
    wait("the drive to come to rest", || Ok(!is_mounted(&drive)?))?;
    for arguments in [
        &["doctor"][..],
        &["conf", "--check"],
        &["conf", "--check", "--run-includes"],
        &["conf", "--dry-run"],
        &["eject", "A"],
    ] {
        try_offsite(arguments)?;
    }
    daemon.stop()?;
    try_offsite(&["status"])?;

    let users = traces.users()?;
    ensure!(users.contains(&bacula.uid.to_string()), "nothing planted was run at all: {users:?}");
    ensure!(users == [bacula.uid.to_string()], "planted commands ran as the users {users:?}");
    Ok(())
}

fn a_state_without_end_costs_root_nothing() -> Result<()> {
    let drive = site()?;
    as_bacula(&format!("truncate -s 3G {WORK}/state.json"))?;
    let daemon = Daemon::again()?;
    let status = offsite(&["status"])?;
    ensure!(status.contains("A  away"), "{status}");
    let peak = fs::read_to_string(format!("/proc/{}/status", daemon.pid()?))?;
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(kib < 256 << 10, "the daemon took {kib} KiB");
    drop(daemon);
    drop(drive);
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
