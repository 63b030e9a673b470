//! The catalog, read beside the Director.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::plan::Installed;
use super::postgres::Server;
use super::program::run;

/// Debian's script that makes the tables.
pub(super) const TABLES: &str = "/usr/share/bacula-director/make_sqlite3_tables";

const LIMIT: Duration = Duration::from_mins(1);

/// Number of a job in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// What the catalog says about a job.
#[derive(Clone, Debug, Deserialize)]
pub struct JobResult {
    /// Its number.
    pub id: JobId,
    /// Bacula's one-letter status: `T` is well, `W` with warnings, `R` running.
    pub status: String,
    /// Level: `F`, `D` or `I`; a blank for jobs without.
    pub level: String,
    /// Files backed up or restored.
    pub files: u64,
    /// Bytes backed up or restored.
    pub bytes: u64,
    /// Number of errors.
    pub errors: u64,
    /// The job's messages.
    pub log: String,
}

impl JobResult {
    /// Whether the job ended without an error.
    pub fn is_ok(&self) -> bool {
        self.status == "T" && self.errors == 0
    }

    /// Whether the job has ended.
    pub fn has_ended(&self) -> bool {
        // src/jcr.h: terminated, with warnings, in error, fatal, cancelled, incomplete, differences.
        matches!(self.status.as_str(), "T" | "W" | "E" | "e" | "f" | "A" | "I" | "D")
    }
}

/// What the catalog says about a volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its slot; 0 when it has none.
    pub slot: u32,
    /// Whether the catalog believes it to be in the changer.
    #[serde(deserialize_with = "from_number")]
    pub in_changer: bool,
    /// `Append`, `Full`, `Used`, `Recycle`, `Error` ...
    pub status: String,
    /// Bytes on it.
    pub bytes: u64,
    /// Whether jobs may use it.
    #[serde(deserialize_with = "from_number")]
    pub enabled: bool,
    /// Whether it may be used again.
    #[serde(deserialize_with = "from_number")]
    pub recycle: bool,
    /// When it was last written; none if never.
    pub last_written: Option<String>,
}

fn from_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(u64::deserialize(deserializer)? != 0)
}

/// What keeps the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// A file in the Director's working directory.
    #[default]
    Sqlite,
    /// A server of its own on a socket.
    Postgresql,
}

pub(super) enum Catalog {
    Sqlite { file: PathBuf },
    Postgresql { server: Server, database: String },
}

impl Catalog {
    /// Makes an empty catalog where the Director looks for it.
    pub(super) fn create(installed: &Installed, server: Option<Server>) -> anyhow::Result<Self> {
        let settings = &installed.settings;
        let (working, name) = (&settings.paths.working, &settings.catalog.database);
        if let Some(server) = server {
            server.make_tables(name)?;
            return Ok(Self::Postgresql { server, database: name.to_string() });
        }
        let file = working.join(format!("{name}.db"));
        let script = fs::read_to_string(TABLES).with_context(|| format!("read {TABLES}"))?;
        let script = script
            .replace("cd /var/lib/bacula", &format!("cd '{}'", working.display()))
            .replace("XXX_DBNAME_XXX", name);
        let said = run(&mut Command::new("/bin/sh"), &script, LIMIT)?;
        if !said.status.success() || !file.exists() {
            bail!("the catalog's tables could not be made ({}): {}{}", said.status, said.stdout, said.stderr);
        }
        installed.give(&file)?;
        Ok(Self::Sqlite { file })
    }

    /// Makes it anew, without anything in it.
    pub(super) fn empty(&mut self, installed: &Installed) -> anyhow::Result<()> {
        let Self::Sqlite { file } = self else { bail!("only SQLite's catalog is made anew") };
        fs::remove_file(&*file).with_context(|| format!("remove {}", file.display()))?;
        *self = Self::create(installed, None)?;
        Ok(())
    }

    /// Where the Director's library for the database is, if that isn't the installed one.
    pub(super) fn library(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgresql { server, .. } => Some(server.library()),
        }
    }

    /// Ends the database's server.
    pub(super) fn stop(&mut self) {
        if let Self::Postgresql { server, .. } = self {
            server.stop();
        }
    }

    pub(super) fn job(&self, JobId(id): JobId) -> anyhow::Result<Option<JobResult>> {
        let joined = match self {
            Self::Sqlite { .. } => "group_concat(LogText, '')",
            Self::Postgresql { .. } => "string_agg(LogText, '')",
        };
        let sql = format!(
            "SELECT JobId AS id, JobStatus AS status, Level AS level, JobFiles AS files, JobBytes AS bytes, \
             JobErrors AS errors, coalesce((SELECT {joined} FROM (SELECT LogText FROM Log \
             WHERE JobId = {id} ORDER BY LogId) AS lines), '') AS log FROM Job WHERE JobId = {id}"
        );
        Ok(self.query(&sql)?.pop())
    }

    pub(super) fn volumes(&self) -> anyhow::Result<Vec<Volume>> {
        let written = match self {
            Self::Sqlite { .. } => "nullif(LastWritten, 0)",
            Self::Postgresql { .. } => "LastWritten",
        };
        self.query(&format!(
            "SELECT VolumeName AS name, Slot AS slot, InChanger AS in_changer, VolStatus AS status, VolBytes AS bytes, \
             Enabled AS enabled, Recycle AS recycle, {written} AS last_written FROM Media ORDER BY name"
        ))
    }

    /// Moves all that happened into the past, as if that many days had gone by since.
    pub(super) fn age(&self, days: u32) -> anyhow::Result<()> {
        let past = |column: &&str| match self {
            // A time that was never set is 0 or NULL.
            Self::Sqlite { .. } => format!(
                "{column} = CASE WHEN {column} LIKE '____-%' THEN datetime({column}, '-{days} days') ELSE {column} END"
            ),
            Self::Postgresql { .. } => format!("{column} = {column} - interval '{days} days'"),
        };
        let shifted = |table: &str, columns: &[&str]| {
            format!("UPDATE {table} SET {};", columns.iter().map(past).collect::<Vec<_>>().join(", "))
        };
        let media = shifted("Media", &["FirstWritten", "LastWritten", "LabelDate"]);
        let jobs = shifted("Job", &["SchedTime", "StartTime", "EndTime", "RealEndTime"]);
        let sql =
            format!("BEGIN; {media} {jobs} UPDATE Job SET JobTDate = JobTDate - {days} * 86400; COMMIT;");
        match self {
            Self::Sqlite { file } => sqlite(file, &["-bail"], &sql).map(drop),
            Self::Postgresql { server, database } => server.sql(database, &sql, false).map(drop),
        }
    }

    pub(super) fn query<Row: DeserializeOwned>(&self, sql: &str) -> anyhow::Result<Vec<Row>> {
        let rows = match self {
            Self::Sqlite { file } => sqlite(file, &["-readonly", "-json"], sql)?,
            Self::Postgresql { server, database } => server.sql(database, sql, true)?,
        };
        if rows.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&rows).with_context(|| format!("read the catalog's answer {rows}"))
    }
}

fn sqlite(file: &Path, options: &[&str], sql: &str) -> anyhow::Result<String> {
    let mut command = Command::new("/usr/bin/sqlite3");
    command.args(options).args(["-cmd", ".timeout 20000"]).arg(file).arg(sql);
    let said = run(&mut command, "", LIMIT)?;
    if !said.status.success() {
        bail!("the catalog refused {sql:?}: {}", said.stderr);
    }
    Ok(said.stdout)
}
