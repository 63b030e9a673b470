//! Whether Bacula's daemons run with the configuration that lies on the disk.
//!
//! The Director takes a new configuration by `reload` as well, which a process doesn't show: it says itself when it read
//! its configuration last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bacula_conf::{Program, Settings};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::finding::{Finding, Grade};

/// The daemons that read their configuration only at their start, with their units.
const DAEMONS: [(Program, &str, &str); 2] =
    [(Program::Storage, "bacula-sd", "bacula-sd"), (Program::Client, "bacula-fd", "bacula-fd")];

/// Ticks in a second of `/proc/PID/stat`, the same on every architecture that Linux runs on (`USER_HZ`).
const TICKS: i64 = 100;

/// A start and a change within this many seconds are not told apart.
const SLACK: i64 = 2;

/// What is told of the daemons that run here.
pub(super) fn check(proc: &Path, resources: &[Settings]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (program, name, unit) in DAEMONS {
        let files: BTreeSet<&PathBuf> =
            resources.iter().filter(|resource| resource.program == program).map(|r| &r.file).collect();
        let changed = files.into_iter().filter_map(|file| Some((changed(file)?, file))).max();
        findings.extend(stale(name, unit, started(proc, name), changed));
    }
    findings
}

/// The same of the Director, by its own word of when it read its configuration; one on another server is not judged, for
/// the files that it reads are not these.
pub(super) fn director(proc: &Path, resources: &[Settings], configured: Option<&str>) -> Option<Finding> {
    started(proc, "bacula-dir")?;
    let read = DateTime::strptime("%d-%b-%Y %H:%M:%S", configured?).ok()?;
    let read = read.to_zoned(TimeZone::system()).ok()?.timestamp().as_second();
    let files: BTreeSet<&PathBuf> = resources
        .iter()
        .filter(|resource| resource.program == Program::Director)
        .map(|resource| &resource.file)
        .collect();
    let changed = files.into_iter().filter_map(|file| Some((changed(file)?, file))).max();
    let finding = stale("bacula-dir", "bacula-director", Some(read), changed)?;
    Some(Finding { remedy: Some("`reload` in bconsole; running jobs go on".to_owned()), ..finding })
}

/// A daemon that started before its configuration was changed; times are in seconds since 1970.
fn stale(name: &str, unit: &str, started: Option<i64>, changed: Option<(i64, &PathBuf)>) -> Option<Finding> {
    let (started, (changed, file)) = (started?, changed?);
    if started + SLACK >= changed {
        return None;
    }
    let local = |second| {
        let time = Timestamp::from_second(second).unwrap_or_default();
        time.to_zoned(TimeZone::system()).strftime("%F %H:%M").to_string()
    };
    Some(Finding {
        grade: Grade::Warning,
        message: format!(
            "{name} has run since {} with an older configuration than {}, which was changed {}",
            local(started),
            file.display(),
            local(changed)
        ),
        remedy: Some(format!("when no job runs: systemctl restart {unit}")),
    })
}

fn changed(file: &Path) -> Option<i64> {
    let changed = file.metadata().ok()?.modified().ok()?;
    i64::try_from(changed.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// When the process of that program started that started last.
fn started(proc: &Path, name: &str) -> Option<i64> {
    let boot = boot_time(&std::fs::read_to_string(proc.join("stat")).ok()?)?;
    let processes = proc.read_dir().ok()?.flatten().map(|entry| entry.path());
    let of_program = processes.filter(|process| {
        std::fs::read_link(process.join("exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|file| file == name))
    });
    let ticks = of_program.filter_map(|process| ticks(&std::fs::read_to_string(process.join("stat")).ok()?));
    Some(boot + ticks.max()? / TICKS)
}

/// `btime` of `/proc/stat`.
fn boot_time(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The 22nd field of `/proc/PID/stat`; the second is in brackets and may hold anything.
fn ticks(stat: &str) -> Option<i64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_older_than_its_file_is_told() {
        let file = PathBuf::from("/etc/bacula/bacula-sd.conf");
        let told = |started, changed: Option<i64>| {
            stale("bacula-sd", "bacula-sd", started, changed.map(|second| (second, &file)))
        };
        assert!(told(Some(100), Some(500)).is_some_and(|found| found.message.contains("bacula-sd.conf")));
        assert!(told(Some(500), Some(100)).is_none());
        assert!(told(Some(100), Some(101)).is_none(), "written and started at once");
        assert!(told(None, Some(500)).is_none() && told(Some(100), None).is_none());
    }

    #[test]
    fn a_director_that_did_not_read_a_change_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path().join("proc");
        let file = directory.path().join("bacula-dir.conf");
        let text = "Director {\n Name = d\n Messages = Standard\n QueryFile = /q\n}\n";
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir_all(proc.join("7")).unwrap();
        std::fs::write(proc.join("stat"), "btime 1000\n").unwrap();
        std::fs::write(proc.join("7/stat"), format!("7 (d) S {}500 0\n", "0 ".repeat(18))).unwrap();
        let resources = bacula_conf::settings(&[(file.clone(), text.to_owned())]);
        let local = |second: i64| {
            let time = Timestamp::from_second(changed(&file).unwrap() + second).unwrap();
            time.to_zoned(TimeZone::system()).strftime("%d-%b-%Y %H:%M:%S").to_string()
        };
        let old = local(-60);
        assert!(director(&proc, &resources, Some(&old)).is_none(), "it runs elsewhere");
        std::os::unix::fs::symlink("/usr/sbin/bacula-dir", proc.join("7/exe")).unwrap();
        let told = director(&proc, &resources, Some(&old)).unwrap();
        assert!(told.message.contains("bacula-dir.conf") && told.remedy.unwrap().contains("reload"));
        assert!(director(&proc, &resources, Some(&local(60))).is_none(), "it was reloaded since");
        assert!(director(&proc, &resources, None).is_none());
        assert!(director(&proc, &resources, Some("gestern")).is_none());
    }

    #[test]
    fn a_process_tells_when_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path();
        let process = |number: u32, exe: &str, ticks: u32| {
            let at = proc.join(number.to_string());
            std::fs::create_dir(&at).unwrap();
            std::os::unix::fs::symlink(exe, at.join("exe")).unwrap();
            let zeros = "0 ".repeat(18);
            std::fs::write(at.join("stat"), format!("{number} (odd ) name) S {zeros}{ticks} 0\n")).unwrap();
        };
        std::fs::write(proc.join("stat"), "cpu 1 2\nbtime 1000\nprocesses 7\n").unwrap();
        assert_eq!(started(proc, "bacula-sd"), None);
        process(7, "/usr/sbin/bacula-sd", 500);
        process(8, "/usr/sbin/bacula-sd", 900);
        process(9, "/usr/sbin/other", 9000);
        assert_eq!(started(proc, "bacula-sd"), Some(1009));
    }
}
