//! The description of a site's Bacula: the `[bacula]` table of site.toml.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::values::name::{Address, Name};
use crate::values::schedule::Run;
use crate::values::units::{Period, Size};

/// Which files are generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layout {
    /// Whole configurations of all daemons.
    #[default]
    Complete,
    /// Files to be included with one `@` line each by configurations that exist already.
    Include,
    /// Files for Bareos's directories, beside those that its packages install; not tried with its daemons.
    Bareos,
}

/// Everything about Bacula at a site; each table and each key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bacula {
    /// Which files are generated.
    pub layout: Layout,
    /// The Director.
    pub director: Director,
    /// The storage daemon.
    pub storage: Storage,
    /// The file daemon of this machine.
    pub client: Client,
    /// The autochanger and its virtual drives.
    pub autochanger: Autochanger,
    /// The pool of the removable volumes.
    pub pool: Pool,
    /// When jobs run.
    pub schedule: Schedule,
    /// What is backed up; used with the layout `complete` only.
    pub jobs: Vec<BackupJob>,
    /// The job that tells the catalog which volumes are there.
    pub update_slots: UpdateSlots,
    /// The job template for restores; used with the layout `complete` only.
    pub restore: Restore,
    /// The catalog's database.
    pub catalog: Catalog,
    /// The backup of the catalog; used with the layout `complete` only.
    pub catalog_backup: CatalogBackup,
    /// The restricted console that the changer uses.
    pub console: Console,
    /// Where messages go.
    pub messages: Messages,
    /// Directories and programs.
    pub paths: Paths,
    /// Who runs the daemons and owns the files.
    pub accounts: Accounts,
}

/// The Director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Director {
    /// Its name.
    pub name: Name,
    /// Where it listens and consoles find it.
    pub address: Address,
    /// Its TCP port.
    pub port: u16,
    /// How many jobs may run at once.
    pub maximum_concurrent_jobs: u32,
}

/// The storage daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Its name.
    pub name: Name,
    /// Where it listens; the clients have to find it there as well.
    pub address: Address,
    /// Its TCP port.
    pub port: u16,
    /// How many jobs may run at once.
    pub maximum_concurrent_jobs: u32,
}

/// The file daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// Its name.
    pub name: Name,
    /// Where it listens and the Director finds it.
    pub address: Address,
    /// Its TCP port.
    pub port: u16,
    /// How long the names of files stay in the catalog.
    pub file_retention: Period,
    /// How long jobs stay in the catalog.
    pub job_retention: Period,
}

/// The autochanger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Autochanger {
    /// Name of the Autochanger resource.
    pub name: Name,
    /// The drives are called PREFIX-1, PREFIX-2 and so on.
    pub drive_prefix: Name,
    /// Number of virtual drives, 1 to 64: how many volumes may be in use at once.
    pub drives: u8,
    /// Name of the media type.
    pub media_type: Name,
    /// How often a waiting job looks for its volume; Bacula raises less than a minute to one.
    pub poll_interval: Period,
    /// How long the storage daemon waits for the changer.
    pub maximum_changer_wait: Period,
}

/// The pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// How long a volume's content is kept; has to outlast the rotation of the drives.
    pub retention: Period,
    /// How long a volume is written to after its first use.
    pub volume_use_duration: Period,
    /// Size of a volume.
    pub maximum_volume_bytes: Size,
    /// Whether volumes are used again after their retention.
    pub recycle: bool,
    /// Whether the oldest volume that is past its retention is used again when no other is left.
    pub recycle_oldest_volume: bool,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Its name.
    pub name: Name,
    /// Its lines.
    pub runs: Vec<Run>,
    /// How long after its end a job that failed is run again.
    pub repeat_after: Period,
}

/// One backup job with its set of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupJob {
    /// Its name; the set of files is called NAME-files.
    pub name: Name,
    /// What is backed up: absolute paths.
    pub paths: Vec<PathBuf>,
    /// What is left out: absolute paths.
    pub exclude: Vec<PathBuf>,
    /// Whether other filesystems mounted below a path are left out.
    pub one_filesystem: bool,
    /// Whether deleted and renamed files are noticed.
    pub accurate: bool,
    /// Jobs with a lower number run first.
    pub priority: u32,
}

/// The Admin job that updates the slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateSlots {
    /// Its name.
    pub name: Name,
    /// Lower than the priority of the backup jobs, so that it runs before them.
    pub priority: u32,
    /// Name of the client and the set of files that Bacula demands for the job and never uses.
    pub placeholder: Name,
}

/// The template for restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restore {
    /// Its name.
    pub name: Name,
    /// Where restored files go unless something else is asked for.
    pub target: PathBuf,
}

/// The catalog's database: SQLite below the working directory, or whatever Bacula was built for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// Name of the resource.
    pub name: Name,
    /// Name of the database.
    pub database: Name,
    /// User of the database; none for SQLite.
    pub user: Option<Name>,
    /// Directory of the database's socket, or its host.
    pub address: Option<String>,
    /// Port of the database.
    pub port: Option<u16>,
}

/// The backup of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogBackup {
    /// Whether there is one.
    pub enabled: bool,
    /// The job's name.
    pub name: Name,
    /// The job's priority: higher than that of the backup jobs, so that it runs after them.
    pub priority: u32,
}

/// The restricted console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Its name.
    pub name: Name,
}

/// Messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messages {
    /// Name of the resource for the messages of jobs.
    pub jobs: Name,
    /// Name of the resource for the messages of daemons.
    pub daemons: Name,
    /// Who gets mail; nobody where this is left out.
    pub mail: Option<String>,
    /// The Director's log file.
    pub log: PathBuf,
}

/// Directories and programs of Bacula; the defaults are Debian's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Configuration.
    pub configuration: PathBuf,
    /// Working files, and the database of SQLite.
    pub working: PathBuf,
    /// Process ids.
    pub run: PathBuf,
    /// Bacula's own scripts and query.sql.
    pub scripts: PathBuf,
    /// Bacula's plugins.
    pub plugins: PathBuf,
    /// The console program.
    pub bconsole: PathBuf,
    /// The mail program.
    pub bsmtp: PathBuf,
}

/// Accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// The user that runs Director and storage daemon.
    pub user: Name,
    /// The group that may read their configuration.
    pub group: Name,
    /// The group as which the storage daemon, and so the changer, runs.
    pub storage_group: Name,
}

impl Default for Bacula {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            director: Director::default(),
            storage: Storage::default(),
            client: Client::default(),
            autochanger: Autochanger::default(),
            pool: Pool::default(),
            schedule: Schedule::default(),
            jobs: vec![BackupJob::default()],
            update_slots: UpdateSlots::default(),
            restore: Restore::default(),
            catalog: Catalog::default(),
            catalog_backup: CatalogBackup::default(),
            console: Console::default(),
            messages: Messages::default(),
            paths: Paths::default(),
            accounts: Accounts::default(),
        }
    }
}

impl Bacula {
    /// With Bareos's directories and accounts in the place of Bacula's defaults, where the layout is Bareos's.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.layout != Layout::Bareos {
            return self;
        }
        let (usual, paths) = (Paths::default(), &mut self.paths);
        let settle = |path: &mut PathBuf, usual: PathBuf, bareos: &str| {
            if *path == usual {
                *path = PathBuf::from(bareos);
            }
        };
        settle(&mut paths.configuration, usual.configuration, "/etc/bareos");
        settle(&mut paths.working, usual.working, "/var/lib/bareos");
        settle(&mut paths.scripts, usual.scripts, "/usr/lib/bareos/scripts");
        settle(&mut paths.plugins, usual.plugins, "/usr/lib/bareos/plugins");
        settle(&mut paths.bconsole, usual.bconsole, "/usr/bin/bconsole");
        settle(&mut paths.bsmtp, usual.bsmtp, "/usr/bin/bsmtp");
        if self.accounts == Accounts::default() {
            let bareos = || Name::known("bareos");
            self.accounts = Accounts { user: bareos(), group: bareos(), storage_group: bareos() };
        }
        if self.client.name == Client::default().name {
            self.client.name = Name::known("bareos-fd");
        }
        if self.director.name == Director::default().name {
            self.director.name = Name::known("bareos-dir");
        }
        self
    }
}

impl Default for Director {
    fn default() -> Self {
        Self {
            name: Name::known("backup-dir"),
            address: Address::known("127.0.0.1"),
            port: 9101,
            maximum_concurrent_jobs: 20,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            name: Name::known("backup-sd"),
            address: Address::known("127.0.0.1"),
            port: 9103,
            maximum_concurrent_jobs: 20,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            name: Name::known("backup-fd"),
            address: Address::known("127.0.0.1"),
            port: 9102,
            file_retention: Period::weeks(13),
            job_retention: Period::weeks(26),
        }
    }
}

impl Default for Autochanger {
    fn default() -> Self {
        Self {
            name: Name::known("eSATA-Changer"),
            drive_prefix: Name::known("eSATA"),
            drives: 1,
            media_type: Name::known("Offsite-File"),
            poll_interval: Period::seconds(60),
            maximum_changer_wait: Period::seconds(300),
        }
    }
}

impl Default for Pool {
    /// Ten gibibytes a volume as in the tutorial; seven weeks fit six drives that are swapped weekly, one swap late.
    fn default() -> Self {
        Self {
            name: Name::known("Offsite-eSATA"),
            retention: Period::weeks(7),
            volume_use_duration: Period::hours(2),
            maximum_volume_bytes: Size::gib(10),
            recycle: true,
            recycle_oldest_volume: true,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        let runs = ["Level=Full sun at 23:05", "Level=Incremental mon-sat at 23:05"];
        Self {
            name: Name::known("WeeklyToOffsiteDisk"),
            runs: runs.into_iter().filter_map(|run| run.parse().ok()).collect(),
            repeat_after: Period::seconds(600),
        }
    }
}

impl Default for BackupJob {
    fn default() -> Self {
        Self {
            name: Name::known("BackupServer"),
            paths: ["/etc", "/home", "/root"].map(PathBuf::from).to_vec(),
            exclude: Vec::new(),
            one_filesystem: true,
            accurate: true,
            priority: 10,
        }
    }
}

impl Default for UpdateSlots {
    fn default() -> Self {
        Self { name: Name::known("UpdateSlots"), priority: 8, placeholder: Name::known("None") }
    }
}

impl Default for Restore {
    fn default() -> Self {
        Self { name: Name::known("RestoreFiles"), target: PathBuf::from("/var/tmp/bacula-restores") }
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            name: Name::known("MyCatalog"),
            database: Name::known("bacula"),
            user: None,
            address: None,
            port: None,
        }
    }
}

impl Default for CatalogBackup {
    fn default() -> Self {
        Self { enabled: true, name: Name::known("BackupCatalog"), priority: 11 }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self { name: Name::known("offsite") }
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            jobs: Name::known("Standard"),
            daemons: Name::known("Daemon"),
            mail: None,
            log: PathBuf::from("/var/log/bacula/bacula.log"),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            configuration: PathBuf::from("/etc/bacula"),
            working: PathBuf::from("/var/lib/bacula"),
            run: PathBuf::from("/run/bacula"),
            scripts: PathBuf::from("/etc/bacula/scripts"),
            plugins: PathBuf::from("/usr/lib/bacula"),
            bconsole: PathBuf::from("/usr/sbin/bconsole"),
            bsmtp: PathBuf::from("/usr/sbin/bsmtp"),
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self { user: Name::known("bacula"), group: Name::known("bacula"), storage_group: Name::known("tape") }
    }
}
