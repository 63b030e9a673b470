//! Drives made of directories, served to a real Bacula by our own changer: plugging and pulling is renaming.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Group, User, geteuid};
use tempfile::TempDir;

use super::program::run;
use super::{Bacula, Plan};
use crate::programs;

const LIMIT: Duration = Duration::from_mins(3);

/// Drives by the names on their stickers; volumes of drive A are called `c0_A_0001` and so on.
pub struct Dock {
    directory: TempDir,
    program: PathBuf,
    config: PathBuf,
    names: Vec<String>,
}

impl Dock {
    /// Why our own changer can't be used with a real Bacula here.
    pub fn lacking() -> Option<String> {
        super::lacking().or_else(|| programs::release("vchanger").err().map(|error| format!("{error:#}")))
    }

    /// Drives that are not plugged, and what runs a Bacula for them that backs up `paths`.
    ///
    /// # Errors
    /// The changer isn't built, or directories can't be made.
    pub fn plan<P: Into<PathBuf>>(
        names: &[&str],
        paths: impl IntoIterator<Item = P>,
    ) -> Result<(UnstartedDock, Plan)> {
        let directory = TempDir::with_prefix("offsite-dock-")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(directory.path().join("away"))?;
        let program = programs::release("vchanger")?;
        let plan = Plan::new(&program, names.iter().map(|name| directory.path().join(name)), paths);
        for name in names {
            let path = directory.path().join("away").join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750))?;
            give_to_bacula(&path)?;
        }
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Ok((UnstartedDock { directory, program, names }, plan))
    }

    /// The names on the stickers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Plugs a drive; Bacula is not told.
    ///
    /// # Errors
    /// It is plugged already.
    pub fn plug(&self, name: &str) -> Result<()> {
        fs::rename(self.away(name), self.path(name)).with_context(|| format!("cannot plug {name}"))
    }

    /// Pulls a drive; Bacula is not told.
    ///
    /// # Errors
    /// It is not plugged.
    pub fn pull(&self, name: &str) -> Result<()> {
        fs::rename(self.path(name), self.away(name)).with_context(|| format!("cannot pull {name}"))
    }

    /// Whether a drive is plugged.
    pub fn is_plugged(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    /// Where a drive's files are while it is plugged.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn away(&self, name: &str) -> PathBuf {
        self.directory.path().join("away").join(name)
    }

    /// The changer's configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs the changer, and returns what it prints.
    ///
    /// # Errors
    /// It fails, in its own words.
    pub fn changer(&self, arguments: &[&str]) -> Result<String> {
        let said = run(Command::new(&self.program).arg(&self.config).args(arguments), "", LIMIT)?;
        if !said.status.success() {
            bail!("vchanger {arguments:?}: {}", said.stderr.trim());
        }
        Ok(said.stdout)
    }

    /// Tells Bacula, as the daemon does after each plug and pull.
    ///
    /// # Errors
    /// Bacula could not be told.
    pub fn refresh(&self) -> Result<()> {
        self.changer(&["refresh"]).map(drop)
    }

    /// The same, and ends it by SIGKILL after some time, as a power cut may; says whether it was still running.
    ///
    /// # Errors
    /// It can't be started or ended.
    pub fn refresh_killed_after(&self, time: Duration) -> Result<bool> {
        let mut child = self.spawn_refresh()?;
        std::thread::sleep(time);
        let running = child.try_wait()?.is_none();
        child.kill()?;
        child.wait()?;
        Ok(running)
    }

    /// Starts to tell Bacula and doesn't wait.
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn_refresh(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg(&self.config).arg("refresh");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// Makes and labels volumes on a drive that is plugged.
    ///
    /// # Errors
    /// They could not be made or labelled.
    pub fn make_volumes(&self, name: &str, count: u32) -> Result<()> {
        let index = self.names.iter().position(|other| other == name).context("a drive of this dock")?;
        let arguments =
            ["createvols", &index.to_string(), &count.to_string(), "1", "-l", &format!("c0_{name}_")];
        self.changer(&arguments)?;
        let left = fs::read_dir(self.path(name))?
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .filter(|data| data.len() == 0)
            .count();
        ensure!(left == 0, "{left} volumes of drive {name} have no label");
        Ok(())
    }

    /// The sticker's name in a volume's name.
    pub fn drive_of(volume: &str) -> Option<&str> {
        volume.strip_prefix("c0_")?.split_once('_').map(|(drive, _)| drive)
    }

    /// Removes what is on the drives and nothing else.
    ///
    /// # Errors
    /// Files can't be removed.
    pub fn close(self) -> Result<()> {
        Ok(self.directory.close()?)
    }
}

/// Drives before there is a Bacula.
pub struct UnstartedDock {
    directory: TempDir,
    program: PathBuf,
    names: Vec<String>,
}

impl UnstartedDock {
    /// Gives the drives to the Bacula that was started from their plan.
    ///
    /// # Errors
    /// There is no configuration of the changer.
    pub fn with(self, bacula: &Bacula) -> Result<Dock> {
        let Self { directory, program, names } = self;
        Ok(Dock { directory, program, config: bacula.file("vchanger.conf")?, names })
    }
}

/// The storage daemon's user owns the drives where the daemons run as in Debian's packages.
fn give_to_bacula(path: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_name("bacula")?.context("no user bacula")?;
    let group = Group::from_name("bacula")?.context("no group bacula")?;
    Ok(chown(path, Some(user.uid.as_raw()), Some(group.gid.as_raw()))?)
}
