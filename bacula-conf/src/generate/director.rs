//! bacula-dir.conf, or the part of it that is included.

use super::builder::{Resource, document};
use super::error::GenerateError;
use super::input::Input;
use crate::site::description::BackupJob;
use crate::syntax::tree::Document;
use crate::values::name::Name;

/// What the changer's console may do: tell the catalog about volumes, and wake jobs that wait for one.
const CONSOLE_COMMANDS: [&str; 14] = [
    "update", "label", "status", "mount", "unmount", "release", "list", "llist", "messages", "quit", "exit",
    "version", ".api", ".status",
];

/// Of the jobs of nights without a drive, the first one waits for the drive; the later ones would only repeat it. A limit
/// to the waiting would cancel that one as well, so that nothing runs when the drive comes.
const ALLOW_DUPLICATE: &str = "Allow Duplicate Jobs";

/// How often a job that failed is run again at most; the next night runs it anyway.
const REPEATS: u32 = 5;

pub(super) fn complete(input: &Input<'_>) -> Result<Document, GenerateError> {
    let bacula = input.bacula;
    let mut resources = vec![director(input), catalog(input)];
    resources.extend(messages(input));
    resources.push(client(input));
    resources.push(storage(input));
    resources.push(pool(input));
    resources.push(schedule(input));
    for job in &bacula.jobs {
        resources.push(files_of(job));
        resources.push(backup(input, job));
    }
    resources.push(restore(input));
    if bacula.catalog_backup.enabled {
        resources.extend(catalog_backup(input));
    }
    resources.extend(update_slots(input));
    resources.push(console(input));
    document(resources)
}

pub(super) fn include(input: &Input<'_>) -> Result<Document, GenerateError> {
    let mut resources = vec![storage(input), pool(input), schedule(input)];
    resources.extend(update_slots(input));
    resources.push(console(input));
    document(resources)
}

fn director(input: &Input<'_>) -> Resource {
    let (director, paths) = (&input.bacula.director, &input.bacula.paths);
    Resource::new("Director", &director.name)
        .number("DIRport", director.port)
        .address("DirAddress", &director.address)
        .path("QueryFile", &paths.scripts.join("query.sql"))
        .path("Working Directory", &paths.working)
        .path("Pid Directory", &paths.run)
        .number("Maximum Concurrent Jobs", director.maximum_concurrent_jobs)
        .password(&input.passwords.director)
        .text("Messages", &input.bacula.messages.daemons)
}

fn catalog(input: &Input<'_>) -> Resource {
    let catalog = &input.bacula.catalog;
    Resource::new("Catalog", &catalog.name)
        .text("dbname", &catalog.database)
        .text("dbuser", catalog.user.as_deref().unwrap_or(""))
        .quoted("dbpassword", "")
        .with_some(catalog.address.as_deref(), |resource, address| resource.text("DB Address", address))
        .with_some(catalog.port, |resource, port| resource.number("DB Port", port))
}

fn messages(input: &Input<'_>) -> [Resource; 2] {
    let messages = &input.bacula.messages;
    let bsmtp = input.bacula.paths.bsmtp.display();
    let mail =
        |subject: &str| format!("{bsmtp} -h localhost -f \"\\(Bacula\\) \\<%r\\>\" -s \"{subject}\" %r");
    let log = messages.log.to_string_lossy();
    let standard = Resource::new("Messages", &messages.jobs)
        .with_some(messages.mail.as_deref(), |resource, address| {
            resource
                .quoted("Mail Command", &mail("Bacula: %t %e of %c %l"))
                .quoted("Operator Command", &mail("Bacula: volume needed for %j"))
                .messages("Mail", address, "all, !skipped")
                .messages("Operator", address, "mount")
        })
        .keyword("Console", "all, !skipped, !saved")
        .messages("Append", &log, "all, !skipped")
        .keyword("Catalog", "all");
    let daemon = Resource::new("Messages", &messages.daemons)
        .with_some(messages.mail.as_deref(), |resource, address| {
            resource.quoted("Mail Command", &mail("Bacula daemon message")).messages(
                "Mail",
                address,
                "all, !skipped",
            )
        })
        .keyword("Console", "all, !skipped, !saved")
        .messages("Append", &log, "all, !skipped");
    [standard, daemon]
}

fn client(input: &Input<'_>) -> Resource {
    let client = &input.bacula.client;
    Resource::new("Client", &client.name)
        .address("Address", &client.address)
        .number("FDPort", client.port)
        .text("Catalog", &input.bacula.catalog.name)
        .password(&input.passwords.client)
        .line("File Retention", &client.file_retention.to_string())
        .line("Job Retention", &client.job_retention.to_string())
        .yes("AutoPrune")
        .number("Maximum Concurrent Jobs", input.bacula.director.maximum_concurrent_jobs)
}

pub(super) fn storage(input: &Input<'_>) -> Resource {
    let (storage, changer) = (&input.bacula.storage, &input.bacula.autochanger);
    Resource::new("Storage", &input.changer.storage_name)
        .address("Address", &storage.address)
        .number("SDPort", storage.port)
        .password(&input.passwords.storage)
        .text("Device", &changer.name)
        .yes("Autochanger")
        .text("Media Type", &changer.media_type)
        .number("Maximum Concurrent Jobs", changer.drives)
}

pub(super) fn pool(input: &Input<'_>) -> Resource {
    let pool = &input.bacula.pool;
    Resource::new("Pool", &pool.name)
        .keyword("Pool Type", "Backup")
        .text("Storage", &input.changer.storage_name)
        .yes_no("Recycle", pool.recycle)
        .yes("AutoPrune")
        .line("Volume Retention", &pool.retention.to_string())
        .yes_no("Recycle Oldest Volume", pool.recycle_oldest_volume)
        .line("Volume Use Duration", &pool.volume_use_duration.to_string())
        .number("Maximum Volume Bytes", pool.maximum_volume_bytes.as_bytes())
}

pub(super) fn schedule(input: &Input<'_>) -> Resource {
    let schedule = &input.bacula.schedule;
    schedule
        .runs
        .iter()
        .fold(Resource::new("Schedule", &schedule.name), |resource, run| resource.line("Run", run.as_str()))
}

fn file_set_name(job: &BackupJob) -> String {
    format!("{}-files", job.name)
}

pub(super) fn files_of(job: &BackupJob) -> Resource {
    let options = Resource::group("Options")
        .keyword("Signature", "SHA1")
        .yes_no("One FS", job.one_filesystem)
        .yes("No Atime");
    let include = job
        .paths
        .iter()
        .fold(Resource::group("Include").containing(options), |group, path| group.path("File", path));
    let files = Resource::new("FileSet", &file_set_name(job)).containing(include);
    if job.exclude.is_empty() {
        return files;
    }
    files.containing(
        job.exclude.iter().fold(Resource::group("Exclude"), |group, path| group.path("File", path)),
    )
}

/// What all jobs have in common; Bacula demands it even of those that use none of it.
fn job(input: &Input<'_>, name: &str, kind: &'static str, client: &str, files: &str) -> Resource {
    let bacula = input.bacula;
    Resource::new("Job", name)
        .keyword("Type", kind)
        .text("Client", client)
        .text("FileSet", files)
        .text("Storage", &input.changer.storage_name)
        .text("Pool", &bacula.pool.name)
        .text("Messages", &bacula.messages.jobs)
}

pub(super) fn backup(input: &Input<'_>, backup: &BackupJob) -> Resource {
    let bacula = input.bacula;
    let resource = job(input, &backup.name, "Backup", &bacula.client.name, &file_set_name(backup))
        .keyword("Level", "Incremental")
        .text("Schedule", &bacula.schedule.name)
        .number("Priority", backup.priority)
        .no(ALLOW_DUPLICATE)
        .yes_no("Accurate", backup.accurate)
        .path("Write Bootstrap", &bacula.paths.working.join(format!("{}.bsr", backup.name)));
    let resource = repeated(input, resource);
    if bacula.autochanger.drives > 1 {
        // Otherwise a second job waits for the first one's volume, and the other drives idle.
        return resource.no("Prefer Mounted Volumes");
    }
    resource
}

fn restore(input: &Input<'_>) -> Resource {
    let bacula = input.bacula;
    let files = bacula.jobs.first().map(file_set_name).unwrap_or_default();
    job(input, &bacula.restore.name, "Restore", &bacula.client.name, &files)
        .path("Where", &bacula.restore.target)
}

fn catalog_backup(input: &Input<'_>) -> [Resource; 2] {
    let bacula = input.bacula;
    let backup = &bacula.catalog_backup;
    let files_name = format!("{}-files", backup.name);
    let dump = bacula.paths.working.join(format!("{}.sql", bacula.catalog.database));
    let files = Resource::new("FileSet", &files_name).containing(
        Resource::group("Include")
            .containing(Resource::group("Options").keyword("Signature", "SHA1"))
            .path("File", &dump),
    );
    let scripts = bacula.paths.scripts.display();
    let job = job(input, &backup.name, "Backup", &bacula.client.name, &files_name)
        .keyword("Level", "Full")
        .text("Schedule", &bacula.schedule.name)
        .number("Priority", backup.priority)
        .no(ALLOW_DUPLICATE)
        .short(
            "Run Before Job",
            &format!("{scripts}/make_catalog_backup.pl {}", argument(&bacula.catalog.name)),
        )
        .short("Run After Job", &format!("{scripts}/delete_catalog_backup"))
        .path("Write Bootstrap", &bacula.paths.working.join(format!("{}.bsr", backup.name)));
    [files, repeated(input, job)]
}

/// Runs a job again that failed, as it does when its drive is pulled; without a drive the new run waits for one.
///
/// The Director compares the new run with the one that failed, which it takes for queued: without `Cancel Queued
/// Duplicates` it cancels the new one as a duplicate. Since a queued Full must not give way to the next night's
/// Incremental, the lower level is the one that is cancelled.
fn repeated(input: &Input<'_>, job: Resource) -> Resource {
    job.yes("Reschedule On Error")
        .line("Reschedule Interval", &input.bacula.schedule.repeat_after.to_string())
        .number("Reschedule Times", REPEATS)
        .yes("Cancel Queued Duplicates")
        .yes("Cancel Lower Level Duplicates")
}

/// A name as an argument of a command: in quotes if it holds a blank.
fn argument(name: &Name) -> String {
    if name.contains(' ') { format!("\"{name}\"") } else { name.to_string() }
}

/// The Admin job, and the client and set of files that Bacula demands for it: `None` is no keyword.
pub(super) fn update_slots(input: &Input<'_>) -> [Resource; 3] {
    let bacula = input.bacula;
    let admin = &bacula.update_slots;
    let client = Resource::new("Client", &admin.placeholder)
        .comment("Never contacted: an Admin job can't do without a client and a set of files.")
        .keyword("Address", "127.0.0.1")
        .quoted("Password", "unused")
        .text("Catalog", &bacula.catalog.name)
        .no("AutoPrune");
    let files = Resource::new("FileSet", &admin.placeholder).containing(
        Resource::group("Include").containing(Resource::group("Options").keyword("Signature", "MD5")),
    );
    let command = format!("update slots storage={} drive=0", argument(&input.changer.storage_name));
    let script = Resource::group("RunScript")
        .keyword("RunsWhen", "Before")
        // The default is yes, and an Admin job has no client: the script would silently not run.
        .no("RunsOnClient")
        .no("Fail Job On Error")
        .quoted("Console", &command);
    let job = job(input, &admin.name, "Admin", &admin.placeholder, &admin.placeholder)
        .text("Schedule", &bacula.schedule.name)
        .number("Priority", admin.priority)
        .no(ALLOW_DUPLICATE)
        .containing(script);
    [client, files, job]
}

pub(super) fn console(input: &Input<'_>) -> Resource {
    let all = "*all*";
    Resource::new("Console", &input.bacula.console.name)
        .password(&input.passwords.console)
        .texts("CommandACL", CONSOLE_COMMANDS)
        .text("StorageACL", &input.changer.storage_name)
        .text("PoolACL", &input.bacula.pool.name)
        .text("CatalogACL", &input.bacula.catalog.name)
        .text("JobACL", all)
        .text("ClientACL", all)
        .text("FileSetACL", all)
        .text("ScheduleACL", all)
        .text("WhereACL", all)
}
