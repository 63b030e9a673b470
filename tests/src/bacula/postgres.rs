//! A private PostgreSQL server for a catalog, and the Director's library for it.
//!
//! Debian's packages of Bacula for SQLite and for PostgreSQL exclude each other, but differ in one library only.
//! `scripts/setup test` unpacks the other one into the cache, and the Director finds it by `LD_LIBRARY_PATH`, which
//! wins over its RUNPATH.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use super::program::{Said, run};

const LIMIT: Duration = Duration::from_mins(1);
/// The server's only user, and the port that names its socket.
const USER: &str = "bacula";
pub(super) const PORT: u16 = 5432;

/// Where the packages' files are below the cache.
const UNPACKED: &str = "offsite/bacula-postgresql";
const LIBRARY: &str = "usr/lib/bacula/libbaccats-postgresql-9.6.7.so";
const TABLES: &str = "usr/share/bacula-director/make_postgresql_tables";

/// Why no catalog on PostgreSQL can be made here.
pub fn lacking() -> Option<String> {
    programs().and_then(|_| unpacked()).err().map(|error| format!("{error:#}"))
}

/// A running server.
pub(super) struct Server {
    child: Child,
    programs: PathBuf,
    socket: PathBuf,
    /// Holds Bacula's library under the name that the Director looks for.
    library: PathBuf,
}

impl Server {
    /// Makes a server below a directory and starts it on a socket of its own.
    pub(super) fn start(root: &Path) -> Result<Self> {
        let programs = programs()?;
        let (data, socket, library) = (root.join("postgres"), root.join("socket"), root.join("library"));
        for directory in [&data, &socket, &library] {
            fs::create_dir(directory)?;
        }
        // No link: the Director's user can't look into the cache of root.
        fs::copy(unpacked()?.join(LIBRARY), library.join("libbaccats-9.6.7.so"))?;
        let account = account()?;
        for directory in [&data, &socket] {
            chown(directory, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o755))?;
        let as_account = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw()).current_dir("/");
            command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
            command
        };
        let mut initdb = as_account("initdb");
        initdb.args(["--auth=trust", "--encoding=SQL_ASCII", "--no-locale", "--no-sync", "-U", USER, "-D"]);
        checked(run(initdb.arg(&data), "", LIMIT)?)?;
        let log = fs::File::create(root.join("postgres.log"))?;
        let child = as_account("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&socket)
            .args(["-p", &PORT.to_string(), "-c", "listen_addresses=", "-c", "fsync=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start postgres")?;
        let server = Self { child, programs, socket, library };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.psql("postgres", "select 1", false)?.status.success() {
            ensure!(Instant::now() < deadline, "postgres takes no connection after {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Makes a database with Bacula's tables.
    pub(super) fn make_tables(&self, database: &str) -> Result<()> {
        let create = format!("create database {database} encoding 'SQL_ASCII' template template0");
        checked(self.psql("postgres", &create, false)?)?;
        let script = fs::read_to_string(unpacked()?.join(TABLES)).context("read Bacula's tables")?;
        let script = script.replace("XXX_DBNAME_XXX", database);
        let mut shell = Command::new("/bin/sh");
        shell.env("PGHOST", &self.socket).env("PGUSER", USER).env("PGPORT", PORT.to_string());
        checked(run(&mut shell, &script, LIMIT)?).map(drop)
    }

    /// Runs SQL; a query's rows come as one JSON array.
    pub(super) fn sql(&self, database: &str, sql: &str, rows: bool) -> Result<String> {
        checked(self.psql(database, sql, rows)?).with_context(|| format!("the catalog refused {sql:?}"))
    }

    fn psql(&self, database: &str, sql: &str, rows: bool) -> Result<Said> {
        let sql =
            if rows { format!("select coalesce(json_agg(t), '[]') from ({sql}) t") } else { sql.to_owned() };
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XqtA", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-c", &sql]);
        psql.arg("-h").arg(&self.socket).args(["-p", &PORT.to_string()]);
        run(&mut psql, "", LIMIT)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn library(&self) -> &Path {
        &self.library
    }
}

impl Server {
    /// Ends the server by its fast shutdown.
    pub(super) fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && matches!(self.child.try_wait(), Ok(None))
        {
            // It has not been waited for, so the number is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server refuses to run as root.
fn account() -> Result<User> {
    let user = if geteuid().is_root() { User::from_name("postgres")? } else { User::from_uid(geteuid())? };
    user.context("no user postgres")
}

fn checked(said: Said) -> Result<String> {
    if !said.status.success() || said.stderr.contains("ERROR") {
        bail!("{}: {}{}", said.status, said.stdout, said.stderr);
    }
    Ok(said.stdout)
}

/// Where the newest server's programs are.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("PostgreSQL isn't installed")?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    programs.filter(|path| path.join("postgres").exists()).max().context("PostgreSQL isn't installed")
}

/// Where the files of Bacula's packages for PostgreSQL are.
fn unpacked() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let path = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join(UNPACKED);
    ensure!(path.join(LIBRARY).exists(), "no {}: scripts/setup test", path.join(LIBRARY).display());
    Ok(path)
}
