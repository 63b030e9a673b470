//! What `offsite status` tells of backups, by the truth of a real catalog on SQLite and on PostgreSQL: the real daemon on
//! the kernel's autofs, a drive made of a loop device.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use bacula_conf::{BackupJob, Name};
use offsite_tests::bacula::{Bacula, Database, Dock, JobId, Plan, lacking_postgresql};
use offsite_tests::host_daemon::{Daemon, at, offsite, wait};
use offsite_tests::loop_drive::{LoopDrive, lay_volumes};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};
use serde_json::Value;

fn main() {
    let lacking = own_system::lacking()
        .or_else(Dock::lacking)
        .or_else(lacking_postgresql)
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 2] = [
        ("backups_are_told_on_sqlite", || backups_are_told(Database::default())),
        ("backups_are_told_on_postgresql", || backups_are_told(Database::Postgresql)),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// Starts a job by its name.
fn queue(bacula: &Bacula, job: &str) -> Result<JobId> {
    let answer = bacula.console(&format!("run job={job} level=Full yes"))?;
    let id = answer.split_once("JobId=").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(JobId(id.context("a number")?.parse()?))
}

fn status() -> Result<Value> {
    Ok(serde_json::from_str(&offsite(&["status", "--json"])?)?)
}

fn wait_for_line(words: &str) -> Result<()> {
    wait(&format!("the status to tell {words:?}"), || Ok(offsite(&["status"])?.contains(words)))
}

fn backups_are_told(database: Database) -> Result<()> {
    let mut a = LoopDrive::ext4(64)?;
    lay_volumes(&a, "A", 3)?;
    let tree = tempfile::tempdir()?;
    fs::write(tree.path().join("file"), vec![7; 3_000_000])?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    let mut plan = Plan::new(programs::release("vchanger")?, [at(&a)], [tree.path()]);
    plan.database = database;
    let data = plan.settings.jobs.first().context("a job")?.clone();
    plan.settings.jobs.push(BackupJob { name: Name::new("BackupCatalog")?, ..data.clone() });
    let mut bacula = Bacula::start(plan)?;
    symlink(bacula.file("vchanger.conf")?, "/etc/offsite/vchanger.conf")?;
    a.plug()?;
    wait_for_line("3 volumes, 3 can be written")?;

    // The catalog's backup comes last each night, and hides nothing.
    for job in [data.name.as_str(), "BackupCatalog"] {
        let ended = bacula.wait_job(queue(&bacula, job)?)?;
        ensure!(ended.is_ok(), "{ended:?}");
    }
    wait_for_line(&format!("last backup {} (full) 20", data.name))?;
    let told = offsite(&["status"])?;
    ensure!(told.contains(&format!("{}: last good backup 20", data.name)), "{told}");
    ensure!(told.contains("(full, on A)") && !told.contains("BackupCatalog"), "{told}");

    // A job that fails before it has written anything is told at once, beside the last good one.
    for volume in bacula.volumes()? {
        bacula.console(&format!("update volume={} volstatus=Used", volume.name))?;
    }
    let job = queue(&bacula, data.name.as_str())?;
    wait_for_line(&format!("plug in the next drive (job {})", data.name))?;
    bacula.cancel(job)?;
    wait_for_line(&format!("{}: CANCELLED 20", data.name))?;
    wait_for_line("3 volumes, none can be written")?;
    let told = status()?;
    let at = |pointer: &str| told.pointer(pointer).cloned().unwrap_or_default();
    ensure!(
        at("/version") == 1
            && at("/backups/0/last_good/magazines") == serde_json::json!(["A"])
            && at("/backups/0/last_failed/status") == "A"
            && at("/backups/1").is_null(),
        "{told}"
    );

    // What is known is told while nobody answers.
    bacula.kill_director()?;
    wait_for_line("Bacula can't be asked")?;
    let told = offsite(&["status"])?;
    ensure!(told.contains("CANCELLED") && told.contains("; it last answered 20"), "{told}");
    bacula.start_director()?;
    wait("Bacula to answer again", || Ok(!offsite(&["status"])?.contains("can't be asked")))?;

    fs::remove_file("/etc/offsite/vchanger.conf")?;
    bacula.stop()
}
