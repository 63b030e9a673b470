//! What is to be run, and its installation in a directory.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bacula_conf::{BackupJob, ChangerInput, Input, Name, Password, Passwords, generate};
use nix::unistd::{Group, User, geteuid};

use super::catalog::Database;
use super::postgres::{self, Server};

/// As whom the daemons run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// As whoever runs the test.
    Current,
    /// As Debian does: Director and storage daemon as user bacula, the latter with group tape. Needs root.
    Packaged,
}

/// What is to be run.
pub struct Plan {
    /// The site; ports, directories and accounts are replaced when it is installed.
    pub settings: bacula_conf::Bacula,
    /// The changer program.
    pub changer_program: PathBuf,
    /// Directories of the magazines, in the order of their slots.
    pub magazines: Vec<PathBuf>,
    /// As whom the daemons run.
    pub account: Account,
    /// What keeps the catalog.
    pub database: Database,
}

impl Plan {
    /// A site with small volumes that backs up some paths; the account is the packaged one where that is possible.
    pub fn new<P: Into<PathBuf>, M: Into<PathBuf>>(
        changer_program: impl Into<PathBuf>,
        magazines: impl IntoIterator<Item = M>,
        back_up: impl IntoIterator<Item = P>,
    ) -> Self {
        let mut settings = bacula_conf::Bacula::default();
        settings.pool.maximum_volume_bytes = bacula_conf::Size::bytes(10_000_000);
        settings.catalog_backup.enabled = false;
        settings.jobs = vec![BackupJob {
            paths: back_up.into_iter().map(Into::into).collect(),
            one_filesystem: false,
            ..BackupJob::default()
        }];
        let root = geteuid().is_root();
        Self {
            settings,
            changer_program: changer_program.into(),
            magazines: magazines.into_iter().map(Into::into).collect(),
            account: if root { Account::Packaged } else { Account::Current },
            database: Database::default(),
        }
    }

    /// Writes the generated files below a directory.
    pub(super) fn install(self, root: &Path, server: Option<&Server>) -> anyhow::Result<Installed> {
        let Self { mut settings, changer_program, magazines, account, database: _ } = self;
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        if account == Account::Current {
            let user = User::from_uid(geteuid())?.context("the user who runs the test has no name")?;
            let group =
                Group::from_gid(user.gid)?.context("the group of the user who runs the test has no name")?;
            settings.accounts.user = Name::new(user.name)?;
            settings.accounts.group = Name::new(group.name.clone())?;
            settings.accounts.storage_group = Name::new(group.name)?;
        }
        let owner = Owner::of(&settings.accounts.user, &settings.accounts.group)?;
        let directory = |name: &str| {
            let path = root.join(name);
            fs::create_dir(&path)
                .and_then(|()| owner.give(&path))
                .with_context(|| format!("make {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        settings.paths.configuration = directory("etc")?;
        settings.paths.working = directory("working")?;
        settings.paths.run = directory("run")?;
        settings.messages.log = directory("log")?.join("bacula.log");
        settings.restore.target = root.join("restored");
        if let Some(server) = server {
            settings.catalog.user = Some(settings.accounts.user.clone());
            settings.catalog.address = Some(server.socket().display().to_string());
            settings.catalog.port = Some(postgres::PORT);
        }
        let [director, storage, client] = free_ports()?;
        settings.director.port = director;
        settings.storage.port = storage;
        settings.client.port = client;

        let changer = ChangerInput {
            work_dir: directory("changer")?,
            log_file: settings.paths.working.join("changer.log"),
            config_path: settings.paths.configuration.join("vchanger.conf"),
            command: changer_program,
            ..ChangerInput::new(magazines)
        };
        let source = root.join("site.toml");
        let passwords = passwords()?;
        let input = Input { source: &source, bacula: &settings, passwords: &passwords, changer: &changer };
        for file in generate(&input)? {
            fs::write(&file.path, &file.text)?;
            fs::set_permissions(&file.path, fs::Permissions::from_mode(file.mode))?;
            if account == Account::Packaged {
                Owner::of(&file.owner, &file.group)?.give(&file.path)?;
            }
        }
        Ok(Installed { settings, changer, account, root: root.to_owned() })
    }
}

/// A site whose files are in place.
pub(super) struct Installed {
    pub(super) settings: bacula_conf::Bacula,
    pub(super) changer: ChangerInput,
    pub(super) account: Account,
    pub(super) root: PathBuf,
}

impl Installed {
    pub(super) fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.settings.paths.configuration.join(name);
        if !path.exists() {
            bail!("{} was not generated", path.display());
        }
        Ok(path)
    }

    /// Where a daemon's output goes.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(name)
    }

    /// Hands a file to the user that runs Director and storage daemon.
    pub(super) fn give(&self, path: &Path) -> anyhow::Result<()> {
        let accounts = &self.settings.accounts;
        Ok(Owner::of(&accounts.user, &accounts.group)?.give(path)?)
    }
}

struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    fn of(user: &str, group: &str) -> anyhow::Result<Self> {
        let uid = User::from_name(user)?.with_context(|| format!("there is no user {user}"))?.uid.as_raw();
        let gid =
            Group::from_name(group)?.with_context(|| format!("there is no group {group}"))?.gid.as_raw();
        Ok(Self { uid, gid })
    }

    fn give(&self, path: &Path) -> std::io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }
}

/// Three ports on which nobody listens now.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).context("find a free port");
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn passwords() -> anyhow::Result<Passwords> {
    let password = || Ok::<_, anyhow::Error>(Password::new(uuid::Uuid::new_v4().to_string())?);
    Ok(Passwords { director: password()?, storage: password()?, client: password()?, console: password()? })
}
