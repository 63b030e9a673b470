//! A private, real Bacula: Director with a catalog on SQLite or PostgreSQL, storage daemon, file daemon and console.
//!
//! Everything runs on 127.0.0.1 on free ports and in a directory of its own, from the configuration that `bacula-conf`
//! generates, so that what is shipped is what is tested.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use offsite_tests::bacula::{Bacula, Plan};
//!
//! let bacula = Bacula::start(Plan::new("/usr/bin/vchanger", ["/mnt/one"], ["/etc"]))?;
//! bacula.label_volumes()?;
//! let full = bacula.run_backup("Full")?;
//! assert!(bacula.wait_job(full)?.is_ok());
//! let restored = bacula.wait_job(bacula.restore("/tmp/restored".as_ref())?)?;
//! assert!(restored.is_ok(), "{}", restored.log);
//! bacula.stop()
//! # }
//! ```

mod catalog;
mod console;
mod daemon;
mod disk_changer;
mod dock;
mod plan;
mod postgres;
mod program;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

pub use catalog::{Database, JobId, JobResult, Volume};
pub use disk_changer::DiskChanger;
pub use dock::{Dock, UnstartedDock};
pub use plan::{Account, Plan};
pub use postgres::lacking as lacking_postgresql;
pub use program::{lacking, missing_program};

use catalog::Catalog;
use console::Console;
use daemon::Daemon;
use plan::Installed;
use postgres::Server;

/// How long a job may take unless a test says otherwise.
const JOB_LIMIT: Duration = Duration::from_mins(5);

/// How long the Director may take to ask for a volume.
const QUESTION_LIMIT: Duration = Duration::from_mins(1);

/// How often the catalog is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Running daemons; dropped without [`Bacula::stop`], they end and their directory with the logs stays.
pub struct Bacula {
    /// In the order in which they end.
    daemons: Vec<Daemon>,
    installed: Installed,
    console: Console,
    catalog: Catalog,
    root: Option<TempDir>,
}

impl Bacula {
    /// Installs the configuration, makes the catalog and starts the daemons.
    ///
    /// # Errors
    /// Says what did not start, with the daemon's own words.
    pub fn start(plan: Plan) -> anyhow::Result<Self> {
        let root = TempDir::with_prefix("offsite-bacula-").context("make a directory for Bacula")?;
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755))?;
        let server =
            (plan.database == Database::Postgresql).then(|| Server::start(root.path())).transpose()?;
        let installed = plan.install(root.path(), server.as_ref())?;
        let catalog = Catalog::create(&installed, server)?;
        let console = Console::new(installed.file("bconsole.conf")?);
        let mut bacula = Self { daemons: Vec::new(), installed, console, catalog, root: Some(root) };
        bacula.start_daemons().with_context(|| format!("logs are in {}", bacula.directory().display()))?;
        Ok(bacula)
    }

    fn start_daemons(&mut self) -> anyhow::Result<()> {
        let settings = &self.installed.settings;
        let (director, storage, client) =
            (settings.director.port, settings.storage.port, settings.client.port);
        for (program, file, port) in [
            ("bacula-sd", "bacula-sd.conf", storage),
            ("bacula-fd", "bacula-fd.conf", client),
            ("bacula-dir", "bacula-dir.conf", director),
        ] {
            let config = self.installed.file(file)?;
            let daemon = Daemon::start(program, &config, &self.installed, port, self.catalog.library())?;
            self.daemons.insert(0, daemon);
        }
        Ok(())
    }

    /// Ends the daemons and removes their directory.
    ///
    /// # Errors
    /// Says which daemon had ended before on its own; the directory then stays.
    pub fn stop(mut self) -> anyhow::Result<()> {
        for daemon in &mut self.daemons {
            daemon.stop()?;
        }
        self.catalog.stop();
        if let Some(root) = self.root.take() {
            root.close().context("remove Bacula's directory")?;
        }
        Ok(())
    }

    /// Ends the Director, as a power cut does.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill_director(&mut self) -> anyhow::Result<()> {
        let at =
            self.daemons.iter().position(|daemon| daemon.is("bacula-dir")).context("no Director runs")?;
        self.daemons.remove(at).kill()
    }

    /// Ends the Director and makes its catalog an empty one, as on a new machine.
    ///
    /// # Errors
    /// It had ended before, or keeps its catalog in a server.
    pub fn lose_catalog(&mut self) -> anyhow::Result<()> {
        self.kill_director()?;
        self.catalog.empty(&self.installed)
    }

    /// Starts the Director again.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_director(&mut self) -> anyhow::Result<()> {
        let config = self.installed.file("bacula-dir.conf")?;
        let port = self.installed.settings.director.port;
        let daemon = Daemon::start("bacula-dir", &config, &self.installed, port, self.catalog.library())?;
        self.daemons.insert(0, daemon);
        Ok(())
    }

    /// Stops the file daemon in the midst of what it does.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause_client(&self) -> anyhow::Result<()> {
        self.client()?.signal(Signal::SIGSTOP)
    }

    /// Lets a file daemon go on that was paused.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume_client(&self) -> anyhow::Result<()> {
        self.client()?.signal(Signal::SIGCONT)
    }

    fn client(&self) -> anyhow::Result<&Daemon> {
        self.daemons.iter().find(|daemon| daemon.is("bacula-fd")).context("no file daemon runs")
    }

    /// The directory that holds configuration, catalog and logs.
    pub fn directory(&self) -> &Path {
        self.root.as_ref().map_or(Path::new("/"), TempDir::path)
    }

    /// A generated file by its name, e.g. `vchanger.conf`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.installed.file(name)
    }

    /// The description that the configuration was generated from.
    pub fn settings(&self) -> &bacula_conf::Bacula {
        &self.installed.settings
    }

    /// The changer's working directory, where its drives' links are.
    pub fn changer_dir(&self) -> &Path {
        &self.installed.changer.work_dir
    }

    /// Says something to the Director's console, one command a line, and returns the answers.
    ///
    /// # Errors
    /// The console did not answer in time, or could not reach the Director.
    pub fn console(&self, commands: &str) -> anyhow::Result<String> {
        self.console.say(commands)
    }

    /// The same as the restricted console that the changer uses.
    ///
    /// # Errors
    /// The console did not answer in time, or could not reach the Director.
    pub fn changer_console(&self, commands: &str) -> anyhow::Result<String> {
        Console::new(self.installed.file("bconsole-offsite.conf")?).say(commands)
    }

    /// Runs `update slots`.
    ///
    /// # Errors
    /// The Director did not look at the changer.
    pub fn update_slots(&self) -> anyhow::Result<String> {
        let answer = self.console(&format!("update slots storage={} drive=0", self.storage()))?;
        if !answer.contains("3306 Issuing autochanger \"slots\" command.") {
            bail!("update slots did not reach the changer: {answer}");
        }
        Ok(answer)
    }

    /// Labels all volumes in the changer that have no label yet, into the pool.
    ///
    /// # Errors
    /// The Director reported a failure.
    pub fn label_volumes(&self) -> anyhow::Result<String> {
        let pool = &self.settings().pool.name;
        let answer = self
            .console(&format!("label barcodes storage={} pool={pool} drive=0\nyes\nyes", self.storage()))?;
        let failures = ["Label command failed", "No slots in changer", "No Volumes found to label"];
        if failures.into_iter().any(|failure| answer.contains(failure)) {
            bail!("labelling failed: {answer}");
        }
        Ok(answer)
    }

    /// Starts the first backup job; `level` is `Full`, `Differential` or `Incremental`.
    ///
    /// # Errors
    /// The Director did not queue the job.
    pub fn run_backup(&self, level: &str) -> anyhow::Result<JobId> {
        let job = self.settings().jobs.first().context("no backup job is configured")?;
        self.queue(&format!("run job={} level={level} yes", job.name))
    }

    /// Starts the Admin job that updates the slots.
    ///
    /// # Errors
    /// The Director did not queue the job.
    pub fn run_update_slots_job(&self) -> anyhow::Result<JobId> {
        self.queue(&format!("run job={} yes", self.settings().update_slots.name))
    }

    /// Starts to restore everything from the newest backups to below a directory.
    ///
    /// # Errors
    /// The Director did not queue the job.
    pub fn restore(&self, target: &Path) -> anyhow::Result<JobId> {
        let client = &self.settings().client.name;
        self.queue(&format!("restore client={client} where={} current select all done yes", target.display()))
    }

    fn queue(&self, command: &str) -> anyhow::Result<JobId> {
        let answer = self.console(command)?;
        let id = answer.split_once("Job queued. JobId=").map(|(_, rest)| rest);
        let digits: String = id.unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        digits.parse().map(JobId).with_context(|| format!("{command:?} started no job: {answer}"))
    }

    /// Waits until the Director asks for a volume in a job's messages, and returns the question.
    ///
    /// # Errors
    /// The job has ended, or a minute has passed.
    pub fn wait_for_question(&self, job: JobId) -> anyhow::Result<String> {
        let deadline = Instant::now() + QUESTION_LIMIT;
        loop {
            let result =
                self.catalog.job(job)?.with_context(|| format!("job {} is not in the catalog", job.0))?;
            if let Some((_, question)) = result.log.split_once("Please mount") {
                return Ok(format!("Please mount{question}"));
            }
            if result.has_ended() || Instant::now() > deadline {
                bail!("job {} asked for no volume: {result:?}", job.0);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The volume that a drive waits for now, by the storage daemon's word.
    ///
    /// # Errors
    /// The console can't be asked.
    pub fn asked_for(&self) -> anyhow::Result<Option<String>> {
        let status = self.console(&format!("status storage={}", self.storage()))?;
        let line = status.lines().find(|line| line.contains("waiting for mount of volume"));
        Ok(line.and_then(|line| line.split('"').nth(1)).map(str::to_owned))
    }

    /// Cancels a job and waits until it has ended.
    ///
    /// # Errors
    /// It does not end.
    pub fn cancel(&self, job: JobId) -> anyhow::Result<JobResult> {
        self.console(&format!("cancel jobid={} yes", job.0))?;
        self.wait_job(job)
    }

    /// Waits until a job has ended, five minutes at most.
    ///
    /// # Errors
    /// It has not ended by then.
    pub fn wait_job(&self, job: JobId) -> anyhow::Result<JobResult> {
        self.wait_job_for(job, JOB_LIMIT)
    }

    /// Waits until a job has ended, or as long as it may take.
    ///
    /// # Errors
    /// It has not ended by then; the error holds what the Director says about it.
    pub fn wait_job_for(&self, job: JobId, limit: Duration) -> anyhow::Result<JobResult> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(result) = self.catalog.job(job)?.filter(JobResult::has_ended) {
                return Ok(result);
            }
            if Instant::now() > deadline {
                let status =
                    self.console(&format!("status dir\nstatus storage={}\nmessages", self.storage()))?;
                bail!("job {} has not ended after {limit:?}: {status}", job.0);
            }
            std::thread::sleep(POLL);
        }
    }

    /// What the catalog says about a job now; `None` if it doesn't know it.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub fn job(&self, job: JobId) -> anyhow::Result<Option<JobResult>> {
        self.catalog.job(job)
    }

    /// All volumes that the catalog knows, by name.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub fn volumes(&self) -> anyhow::Result<Vec<Volume>> {
        self.catalog.volumes()
    }

    /// Lets days go by in the catalog: whatever happened is so much longer ago.
    ///
    /// # Errors
    /// The catalog can't be written.
    pub fn let_days_pass(&self, days: u32) -> anyhow::Result<()> {
        self.catalog.age(days)
    }

    /// Asks the catalog's database; each row is an object.
    ///
    /// # Errors
    /// The query fails.
    pub fn query<Row: serde::de::DeserializeOwned>(&self, sql: &str) -> anyhow::Result<Vec<Row>> {
        self.catalog.query(sql)
    }

    fn storage(&self) -> &str {
        &self.installed.changer.storage_name
    }
}

impl Drop for Bacula {
    fn drop(&mut self) {
        self.daemons.clear();
        // Not stopped: something failed, and the logs say what.
        if let Some(root) = self.root.take() {
            let kept = root.keep();
            eprintln!("Bacula's configuration, catalog and logs are kept in {}", kept.display());
        }
    }
}
