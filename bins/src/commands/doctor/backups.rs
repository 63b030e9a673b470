//! What `offsite doctor` says of backups: whether they are made, where they can go, and whether anybody hears of them.
//!
//! Each check is a function of what was gathered; nothing here asks or reads.

use bacula_conf::{Program, Settings};
use changer_model::{CatalogVolume, Notice};
use jiff::tz::TimeZone;

use super::finding::{Finding, Grade};
use crate::protocol::site_status::{JobStatus, MagazineStatus};
use crate::records::key_copies::Copies;

/// Maximum number of volumes that are named.
const NAMED: usize = 3;

fn finding(grade: Grade, message: String, remedy: String) -> Finding {
    Finding { grade, message, remedy: Some(remedy) }
}

/// Jobs whose last run did not save everything.
pub(super) fn failed(jobs: &[JobStatus]) -> Vec<Finding> {
    let unmended = jobs.iter().filter_map(|job| Some((job, job.unmended()?)));
    let told = unmended.map(|(job, run)| {
        let good = match &job.last_good {
            Some(good) => format!("its last good backup started {}", good.job.started),
            None => "no good backup of it is known".to_owned(),
        };
        let how = if run.status == "A" { "was cancelled" } else { "failed" };
        finding(
            Grade::Error,
            format!("job {} {how}, begun {} (JobId {}); {good}", job.job, run.started, run.id),
            format!("`list joblog jobid={}` in bconsole says why; run the job again unless `status dir` shows that Bacula does", run.id),
        )
    });
    told.collect()
}

/// Enrolled drives on which the changer knows no volume: nothing is ever written to them.
pub(super) fn empty_drives(magazines: &[MagazineStatus]) -> Vec<Finding> {
    let empty = magazines.iter().enumerate().filter(|(_, magazine)| magazine.volumes == Some(0));
    let told = empty.map(|(index, magazine)| {
        finding(
            Grade::Warning,
            format!("magazine {} has no volume: no backup is ever written to it", magazine.name),
            format!(
                "plug it in, then make some, e.g. 10: vchanger /etc/offsite/vchanger.conf createvols {index} 10"
            ),
        )
    });
    told.collect()
}

/// What the changer has to say of itself and its volumes.
pub(super) fn notices(notices: &[Notice]) -> Vec<Finding> {
    let told = notices.iter().map(|notice| {
        let about = notice.magazine.as_ref().map(|name| format!("magazine {name}: ")).unwrap_or_default();
        finding(Grade::Warning, format!("{about}{}", notice.message), notice.remedy.clone())
    });
    told.collect()
}

/// Volumes that stay closed, or were given up, until somebody changes their status.
pub(super) fn closed_volumes(volumes: &[CatalogVolume]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |is: fn(&CatalogVolume) -> bool, what: &str, remedy: &str| {
        let names: Vec<&str> = volumes.iter().filter(|v| is(v)).map(|v| v.name.as_str()).collect();
        let Some(first) = names.first() else { return };
        let mut list = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > NAMED {
            list.push_str(&format!(" and {} more", names.len() - NAMED));
        }
        let count = names.len();
        let message = format!("{count} volumes {what}: {list}");
        findings.push(finding(Grade::Warning, message, remedy.replace("NAME", first)));
    };
    tell(
        |volume| volume.stuck,
        "are Read-Only, and not because their drive is away",
        "unless that is meant: update volume=NAME volstatus=Used, in bconsole, for each",
    );
    tell(
        |volume| volume.status == "Error",
        "are in Error and are not written any more",
        "once the drive was checked: update volume=NAME volstatus=Append where nothing is on it, else volstatus=Used",
    );
    findings
}

/// Whether Bacula's messages are sent to anybody.
pub(super) fn mail(resources: &[Settings]) -> Option<Finding> {
    const MAIL: [&str; 4] = ["Mail", "Mail On Error", "Mail On Success", "Operator"];
    let mut messages = directors(resources, "Messages").peekable();
    messages.peek()?;
    if messages.any(|resource| MAIL.iter().any(|key| has(resource, key))) {
        return None;
    }
    Some(finding(
        Grade::Warning,
        "no Messages resource of the Director sends mail: nobody hears of a backup that fails".to_owned(),
        "set `mail` below [bacula.messages] in site.toml, or `mail on error` in the Messages resource"
            .to_owned(),
    ))
}

/// Whether a job writes to the pool of the drives.
pub(super) fn writers(resources: &[Settings], files: &[String], pool: &str) -> Option<Finding> {
    const POOLS: [&str; 5] =
        ["Pool", "Full Backup Pool", "Incremental Backup Pool", "Differential Backup Pool", "Next Pool"];
    let is_ours = |text: Option<String>| text.is_some_and(|text| text == pool);
    let names = |resource: &Settings| POOLS.iter().any(|key| is_ours(resource.text(key)));
    let writes = |job: &Settings| {
        let kind = job.text("Type").unwrap_or_default().to_ascii_lowercase();
        matches!(&*kind, "backup" | "copy" | "migrate") && job.yes("Enabled") != Some(false) && names(job)
    };
    directors(resources, "Job").next()?;
    if directors(resources, "Job").any(writes)
        || directors(resources, "Pool").any(|other| is_ours(other.text("Next Pool")))
        || files.iter().any(|text| runs_into(text, pool))
    {
        return None;
    }
    Some(finding(
        Grade::Error,
        format!("no job writes to the pool {pool}: the drives stay as they are"),
        format!("say `Pool = {pool}` in the jobs that are to be backed up to the drives"),
    ))
}

/// Whether a schedule's `Run` line names the pool.
fn runs_into(text: &str, pool: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let run = line.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("run"));
        let squeezed: String = line.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
        let wanted: String = format!("pool={pool}").chars().filter(|c| !c.is_whitespace()).collect();
        run && squeezed.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
    })
}

/// Whether there is a copy of the key that opens the drives, as far as it was made or tested by `offsite`.
pub(super) fn key_copies(copies: Copies) -> Finding {
    let test = "`offsite key test COPY` proves it, with the drives away";
    match copies {
        Copies { tested: Some(at), .. } => Finding {
            grade: Grade::Ok,
            message: format!("a copy of the key was proven on {}", at.to_zoned(TimeZone::system()).date()),
            remedy: None,
        },
        Copies { exported: Some(at), .. } => finding(
            Grade::Warning,
            format!(
                "the copy of the key that was made on {} was never tested: nobody knows that it opens the drives",
                at.to_zoned(TimeZone::system()).date()
            ),
            test.to_owned(),
        ),
        Copies { .. } => finding(
            Grade::Warning,
            "no copy of the key was made or tested: when this server burns, nothing on the drives can be read".to_owned(),
            format!("`offsite key export` makes one, or keep the key file's own copy; {test}"),
        ),
    }
}

/// What cryptsetup's version, as `cryptsetup --version` prints it, lets through.
pub(super) fn cryptsetup(said: &str) -> Option<Finding> {
    const SOUND: [u32; 3] = [2, 8, 1];
    let version = said.split_whitespace().nth(1)?;
    let digits =
        |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().ok();
    let numbers: Vec<u32> = version.split('.').map_while(digits).collect();
    if numbers.len() < 2 || numbers.as_slice() >= SOUND.as_slice() {
        return None;
    }
    Some(Finding {
        grade: Grade::Ok,
        message: format!(
            "cryptsetup is {version}: before 2.8.1 it opens a drive whose header was forged to need no key; offsite refuses such a header, `cryptsetup open` by hand does not"
        ),
        remedy: None,
    })
}

fn directors<'a>(resources: &'a [Settings], kind: &str) -> impl Iterator<Item = &'a Settings> {
    resources.iter().filter(move |resource| resource.program == Program::Director && resource.kind == kind)
}

/// Whether a directive stands in a resource, whether or not its value is understood.
fn has(resource: &Settings, key: &str) -> bool {
    resource.is_set(key) || resource.unknown.iter().any(|name| bacula_conf::same_key(name, key))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn resources(text: &str) -> Vec<Settings> {
        bacula_conf::settings(&[(PathBuf::from("/etc/bacula/bacula-dir.conf"), text.to_owned())])
    }

    fn job(good: Option<i64>, failed: Option<i64>) -> JobStatus {
        let run = |ended: Option<i64>, well: bool| {
            ended.map(|ended| {
                json!({
                    "id": ended, "name": "J", "level": "F", "started": "2026-11-24 02:14:19", "ended": ended,
                    "well": well, "status": if well { "T" } else { "E" }, "volumes": [], "magazines": [],
                })
            })
        };
        let job = json!({ "job": "J", "last_good": run(good, true), "last_failed": run(failed, false) });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn only_a_failure_that_nothing_mended_is_told() {
        assert!(failed(&[job(Some(2), Some(1)), job(Some(1), None)]).is_empty());
        let told = failed(&[job(Some(1), Some(2)), job(None, Some(3))]);
        assert_eq!(told.len(), 2);
        assert!(told[0].message.contains("(JobId 2); its last good backup started 2026"), "{told:?}");
        assert!(told[1].message.contains("no good backup"), "{told:?}");
    }

    #[test]
    fn a_drive_without_a_volume_is_told_unless_nothing_is_known() {
        let drive = |volumes: Option<usize>| {
            let drive =
                json!({ "name": "A", "fs_uuid": "u", "state": "away", "torn": false, "volumes": volumes });
            serde_json::from_value(drive).unwrap()
        };
        assert_eq!(empty_drives(&[drive(Some(3)), drive(None)]).len(), 0);
        let told = empty_drives(&[drive(Some(3)), drive(Some(0))]);
        assert!(told[0].remedy.as_ref().unwrap().ends_with("createvols 1 10"), "{told:?}");
    }

    #[test]
    fn what_the_changer_says_is_a_warning_with_its_remedy() {
        let notice = json!({ "magazine": "A", "message": "1 file(s) can't be read: b", "remedy": "chown" });
        let told = notices(&[serde_json::from_value(notice).unwrap()]);
        assert_eq!((told[0].grade, told[0].remedy.as_deref()), (Grade::Warning, Some("chown")));
        assert_eq!(told[0].message, "magazine A: 1 file(s) can't be read: b");
    }

    #[test]
    fn closed_volumes_are_counted_and_few_are_named() {
        let volume = |name: &str, status: &str, stuck: bool| -> CatalogVolume {
            let volume = json!({ "name": name, "status": status, "writable": false, "stuck": stuck });
            serde_json::from_value(volume).unwrap()
        };
        assert!(closed_volumes(&[volume("a", "Read-Only", false), volume("b", "Full", false)]).is_empty());
        let many: Vec<_> = (0..5).map(|n| volume(&format!("v{n}"), "Read-Only", true)).collect();
        let told = closed_volumes(&many);
        assert!(
            told[0].message.ends_with(
                "5 volumes are Read-Only, and not because their drive is away: v0, v1, v2 and 2 more"
            ),
            "{told:?}"
        );
        assert_eq!(closed_volumes(&[volume("e", "Error", false)]).len(), 1);
    }

    #[test]
    fn some_messages_resource_has_to_send_mail() {
        let director = "Director {\n Name = d\n Messages = Standard\n QueryFile = /q\n}\n";
        let messages =
            |line: &str| resources(&format!("{director}Messages {{\n Name = Standard\n {line}\n}}\n"));
        assert!(mail(&messages("console = all")).is_some());
        for line in [
            "mail = root@localhost = all, !skipped",
            "Mail On Error = root = all",
            "mailonerror = root = all",
            "operator = root = mount",
        ] {
            assert!(mail(&messages(line)).is_none(), "{line}");
        }
        assert!(
            mail(&resources("Pool {\n Name = P\n Pool Type = Backup\n}\n")).is_none(),
            "no configuration here"
        );
    }

    #[test]
    fn some_job_has_to_write_to_the_pool() {
        let pool = |text: &str| writers(&resources(text), &[text.to_owned()], "Offsite");
        let job = |lines: &str| format!("Job {{\n Name = J\n Type = Backup\n {lines}\n}}\n");
        assert!(pool(&job("Pool = File")).is_some());
        assert!(pool(&job("Pool = Offsite")).is_none());
        assert!(pool(&job("Pool = File\n Full Backup Pool = Offsite")).is_none());
        assert!(pool(&job("Pool = Offsite\n Enabled = no")).is_some());
        assert!(pool(&job("Pool = Offsite").replace("Backup", "Restore")).is_some());
        let defaults =
            "JobDefs {\n Name = D\n Type = Backup\n Pool = Offsite\n}\nJob {\n Name = J\n JobDefs = D\n}\n";
        assert!(pool(defaults).is_none());
        let run = format!(
            "{}Schedule {{\n Name = S\n Run = Full Pool = \"Offsite\" sun at 23:05\n}}\n",
            job("Pool = File")
        );
        assert!(pool(&run).is_none());
        let copies = format!(
            "{}Pool {{\n Name = File\n Pool Type = Backup\n Next Pool = Offsite\n}}\n",
            job("Pool = File")
        );
        assert!(pool(&copies).is_none());
        assert!(pool("").is_none(), "no configuration here");
    }

    #[test]
    fn a_key_without_a_tested_copy_is_told() {
        let at = Some(jiff::Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(key_copies(Copies::default()).grade, Grade::Warning);
        let untested = key_copies(Copies { exported: at, tested: None });
        assert!(
            untested.grade == Grade::Warning && untested.message.contains("never tested"),
            "{untested:?}"
        );
        assert_eq!(key_copies(Copies { exported: None, tested: at }).grade, Grade::Ok);
    }

    #[test]
    fn an_old_cryptsetup_is_told_with_what_it_lets_through() {
        for old in [
            "cryptsetup 2.6.1 flags: UDEV BLKID",
            "cryptsetup 2.8.0",
            "cryptsetup 2.7.5-rc1",
            "cryptsetup 1.7",
        ] {
            assert!(cryptsetup(old).is_some(), "{old}");
        }
        for sound in ["cryptsetup 2.8.1 flags: UDEV", "cryptsetup 2.8.2", "cryptsetup 3.0", "", "cryptsetup"]
        {
            assert!(cryptsetup(sound).is_none(), "{sound}");
        }
    }
}
