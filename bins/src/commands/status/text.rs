//! The status as a page for a person. All times are local, in one style.

use changer_model::{FinishedJob, Notice};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::confirm::size;
use crate::base::escape;
use crate::protocol::site_status::{
    BackupStatus, DriveState, JobStatus, MagazineStatus, SiteStatus, UnknownDrive,
};

/// Maximum number of jobs that are shown; those that failed come first.
const MOST_JOBS: usize = 20;

/// The whole page.
pub(super) fn page(status: &SiteStatus, zone: &TimeZone) -> String {
    let mut lines = Vec::new();
    if status.magazines.is_empty() {
        lines.push("No drive is enrolled yet: offsite prepare, offsite adopt.".to_owned());
    }
    let width = status.magazines.iter().map(|m| m.name.len()).max().unwrap_or(0);
    for magazine in &status.magazines {
        lines.push(drive(magazine, width, zone));
        let mut below = |text: String| lines.push(format!("{:width$}    {text}", ""));
        if let Some(warning) = &magazine.warning {
            below(format!("warning: {warning}"));
        }
        if magazine.catalog_pending {
            below("Bacula has still to be told of it".to_owned());
        }
        if let Some(problem) = &magazine.problem {
            below(format!("problem: {}", problem.message));
            below(format!("do:      {}", problem.remedy));
        }
    }
    for problem in [&status.outdated, &status.covered].into_iter().flatten() {
        lines.push(format!("offsited: {}", problem.message));
        lines.push(format!("    do: {}", problem.remedy));
    }
    lines.extend(status.notices.iter().flat_map(notice));
    lines.extend(status.unknown_drives.iter().flat_map(unknown));
    lines.extend(jobs(&status.backups));
    match (&status.catalog.last_error, status.catalog.pending) {
        (Some(error), _) => {
            lines.push(format!("Bacula couldn't be told of the drives: {error}; trying again"));
        }
        (None, true) => lines.push("Bacula is being told of the drives".to_owned()),
        (None, false) => {}
    }
    if let Some(error) = &status.bacula.error {
        let answered = status.bacula.answered.map(|at| format!("; it last answered {}", local(at, zone)));
        lines.push(format!("{error}{}", answered.unwrap_or_default()));
    }
    lines.extend(status.waiting.iter().flatten().map(ToString::to_string));
    if status.daemon_pid.is_none() {
        lines.push("offsited isn't running: drives are not unlocked (systemctl start offsited)".to_owned());
    }
    lines.push(String::new());
    lines.iter().map(|line| escape::line(line)).collect::<Vec<_>>().join("\n")
}

fn drive(magazine: &MagazineStatus, width: usize, zone: &TimeZone) -> String {
    let state = match magazine.state {
        DriveState::Away => "away",
        DriveState::Locked => "plugged, locked: safe to pull",
        DriveState::Opening => "being unlocked",
        DriveState::Mounted => "in use: `offsite eject` before you pull it",
        DriveState::Ejected => "ejected: safe to pull",
        DriveState::Refused => "plugged, NOT USABLE",
    };
    let mut line = format!("{:width$}  {state}", magazine.name);
    if let Some(since) = magazine.since {
        let plugged = if magazine.state == DriveState::Away { "" } else { "plugged " };
        line.push_str(&format!(" ({plugged}since {})", local(since, zone)));
    }
    if let Some(volumes) = magazine.volumes {
        line.push_str(&format!(", {volumes} volumes"));
    }
    match (magazine.writable_volumes, magazine.free_bytes) {
        (Some(0), _) => line.push_str(", none can be written"),
        (Some(writable), _) => line.push_str(&format!(", {writable} can be written")),
        (None, Some(free)) => line.push_str(&format!(", {} free", size(free))),
        (None, None) => {}
    }
    if let Some(job) = &magazine.last_job {
        let ended = if job.well { String::new() } else { format!(", {}", ended(job)) };
        line.push_str(&format!(", last backup {} ({}) {}{ended}", job.name, level(job), minute(job)));
    }
    if magazine.torn {
        line.push_str(", was pulled while in use: it will be checked");
    }
    line
}

/// Something that the changer has to say, and what can be done about it.
fn notice(notice: &Notice) -> [String; 2] {
    let about = match &notice.magazine {
        Some(magazine) => format!("drive {magazine}"),
        None => "changer".to_owned(),
    };
    [format!("{about}: {}", notice.message), format!("    do: {}", notice.remedy)]
}

/// A drive that isn't enrolled, and what can be done with it.
fn unknown(drive: &UnknownDrive) -> [String; 2] {
    let serial = drive.serial.as_ref().map(|serial| format!("{serial}, ")).unwrap_or_default();
    let (device, size) = (drive.device.display(), size(drive.size_bytes));
    [format!("not enrolled: {device} ({serial}{size}): {}", drive.contents), format!("    {}", drive.remedy)]
}

/// How the jobs ended, those that failed first.
fn jobs(jobs: &[JobStatus]) -> Vec<String> {
    let is_mended = |job: &&JobStatus| job.unmended().is_none();
    let mut sorted: Vec<&JobStatus> = jobs.iter().collect();
    sorted.sort_by_key(is_mended);
    let mut lines: Vec<String> = sorted.iter().take(MOST_JOBS).map(|job| self::job(job)).collect();
    if jobs.len() > MOST_JOBS {
        lines.push(format!("... and {} more jobs: offsite status --json", jobs.len() - MOST_JOBS));
    }
    lines
}

fn job(job: &JobStatus) -> String {
    let good = |backup: &BackupStatus| {
        let on = match backup.magazines.as_slice() {
            [] => String::new(),
            magazines => format!(", on {}", magazines.join(" and ")),
        };
        format!("last good backup {} ({}{on})", minute(&backup.job), level(&backup.job))
    };
    let good = job.last_good.as_ref().map(good);
    match (job.unmended(), good) {
        (Some(failed), good) => {
            let good = good.unwrap_or_else(|| "no good backup is known".to_owned());
            format!("{}: {} {} (JobId {}); {good}", job.job, ended(failed), minute(failed), failed.id)
        }
        (None, good) => format!("{}: {}", job.job, good.unwrap_or_default()),
    }
}

fn ended(job: &FinishedJob) -> &'static str {
    match &*job.status {
        "A" => "CANCELLED",
        _ => "FAILED",
    }
}

fn level(job: &FinishedJob) -> &str {
    match &*job.level {
        "F" => "full",
        "D" => "differential",
        "I" => "incremental",
        other => other,
    }
}

/// When a job started, to the minute: the Director's clock is as good as ours.
fn minute(job: &FinishedJob) -> &str {
    let seconds = job.started.rmatch_indices(':').next().map(|(at, _)| at);
    let minute = seconds.filter(|_| job.started.matches(':').count() == 2);
    minute.and_then(|at| job.started.get(..at)).unwrap_or(&job.started)
}

/// `2026-11-24 02:14`
fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%F %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn site(changes: &Value) -> SiteStatus {
        let mut site = json!({
            "version": 1, "daemon_pid": 7, "mount_root": "/srv", "magazines": [],
            "catalog": { "pending": false, "last_error": null },
        });
        site.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(site).unwrap()
    }

    fn shown(changes: &Value) -> String {
        // Three hours ahead of UTC.
        page(&site(changes), &TimeZone::fixed(jiff::tz::offset(3)))
    }

    fn backup(id: u32, level: &str, started: &str, ended: i64, status: &str, magazines: &[&str]) -> Value {
        json!({
            "id": id, "name": "Data", "level": level, "started": started, "ended": ended, "status": status,
            "well": status == "T", "volumes": [], "magazines": magazines,
        })
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_a_line_of_its_own(name in escape::tests::hostile(), other in escape::tests::hostile()) {
            let page = |name: &str, other: &str| {
                let job = json!({
                    "id": 1, "name": name, "level": name, "started": name, "ended": 5, "status": name,
                    "well": true, "volumes": [], "magazines": [other],
                });
                let magazine = json!({
                    "name": name, "fs_uuid": name, "state": "refused", "torn": false, "last_job": job,
                    "catalog_pending": true, "warning": other, "problem": { "message": other, "remedy": other },
                });
                shown(&json!({
                    "magazines": [magazine],
                    "catalog": { "pending": true, "last_error": other },
                    "waiting": [{ "volume": name, "magazine": other, "here": false }],
                    "bacula": { "answered": null, "error": other },
                    "backups": [{ "job": name, "last_good": job, "last_failed": null }],
                    "notices": [{ "magazine": name, "message": other, "remedy": other }],
                }))
            };
            let (plain, hostile) = (page("A", "words"), page(&name, &other));
            proptest::prop_assert!(escape::tests::is_plain(&hostile), "{hostile:?}");
            proptest::prop_assert_eq!(plain.matches('\n').count(), hostile.matches('\n').count(), "{}", hostile);
        }
    }

    #[test]
    fn a_drive_is_one_line_in_local_time() {
        let magazine = json!({
            "name": "A", "fs_uuid": "u", "state": "mounted", "torn": false, "since": "2026-11-28T22:05:07Z",
            "volumes": 25, "free_bytes": 262_000_000, "writable_volumes": 3,
            "last_job": backup(1, "I", "2026-11-28 23:05:09", 5, "T", &[]),
        });
        assert_eq!(
            shown(&json!({ "magazines": [magazine] })),
            "A  in use: `offsite eject` before you pull it (plugged since 2026-11-29 01:05), 25 volumes, 3 can be written, \
             last backup Data (incremental) 2026-11-28 23:05\n"
        );
    }

    #[test]
    fn room_counts_only_where_volumes_can_be_written() {
        let line = |more: Value| {
            let mut magazine =
                json!({ "name": "A", "fs_uuid": "u", "state": "mounted", "torn": false, "volumes": 2 });
            magazine.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            shown(&json!({ "magazines": [magazine] }))
        };
        let none = line(json!({ "free_bytes": 262_000_000, "writable_volumes": 0 }));
        assert!(none.contains("2 volumes, none can be written") && !none.contains("free"), "{none}");
        assert!(line(json!({ "free_bytes": 262_000_000 })).contains("262.0 MB free"));
    }

    #[test]
    fn each_job_tells_its_last_good_backup_and_a_later_failure() {
        let good = backup(3, "F", "2026-11-27 23:05:09", 30, "T", &["A", "B"]);
        let failed = |ended, status| backup(4, "I", "2026-11-28 23:05:02", ended, status, &[]);
        let job = |name: &str, good: &Value, failed: &Value| json!({ "job": name, "last_good": good, "last_failed": failed });
        let page = shown(&json!({ "magazines": [], "backups": [
            job("Data", &good, &failed(20, "E")),
            job("Home", &good, &failed(40, "E")),
            job("New", &Value::Null, &failed(40, "A")),
        ]}));
        let lines: Vec<&str> = page.lines().skip(1).collect();
        let good = "last good backup 2026-11-27 23:05 (full, on A and B)";
        assert_eq!(
            lines,
            [
                &format!("Home: FAILED 2026-11-28 23:05 (JobId 4); {good}"),
                "New: CANCELLED 2026-11-28 23:05 (JobId 4); no good backup is known",
                &format!("Data: {good}"),
            ]
        );
    }

    #[test]
    fn a_drive_that_is_not_enrolled_stands_below_the_others() {
        let drive = json!({
            "device": "/dev/sdc", "serial": "WD-1", "size_bytes": 64_000_000, "contents": "vfat \"KEYS\"",
            "remedy": "do",
        });
        let page = shown(&json!({ "unknown_drives": [drive] }));
        assert!(page.contains("\nnot enrolled: /dev/sdc (WD-1, 64.0 MB): vfat \"KEYS\"\n    do\n"), "{page}");
    }

    #[test]
    fn what_the_changer_has_to_say_is_shown_with_what_to_do() {
        let page = shown(&json!({ "notices": [
            { "magazine": "A", "message": "1 volume(s) have a damaged label: b", "remedy": "put them back" },
            { "magazine": null, "message": "it can't write its log", "remedy": "make room" },
        ] }));
        assert!(
            page.ends_with(
                "\ndrive A: 1 volume(s) have a damaged label: b\n    do: put them back\n\
                 changer: it can't write its log\n    do: make room\n"
            ),
            "{page}"
        );
    }

    #[test]
    fn a_silent_bacula_is_told() {
        let bacula = json!({ "answered": "2026-11-28T22:05:07Z", "error": "Bacula can't be asked: no" });
        let page = shown(&json!({ "bacula": bacula }));
        assert!(page.contains("\nBacula can't be asked: no; it last answered 2026-11-29 01:05\n"), "{page}");
    }

    #[test]
    fn an_older_daemon_is_understood() {
        let site = site(&json!({}));
        assert!(site.backups.is_empty() && site.notices.is_empty());
    }
}
