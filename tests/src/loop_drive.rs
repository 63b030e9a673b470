//! A removable drive made of a file: a loop device is attached to plug it, detached to unplug it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::User;
use tempfile::TempDir;
use uuid::Uuid;

/// A drive with an ext4 filesystem; unplugged when dropped.
#[derive(Debug)]
pub struct LoopDrive {
    directory: TempDir,
    uuid: Uuid,
    device: Option<PathBuf>,
}

impl LoopDrive {
    /// Makes a drive of `mib` MiB that holds an empty ext4 filesystem.
    ///
    /// # Errors
    /// When mkfs fails.
    pub fn ext4(mib: u64) -> Result<Self> {
        Self::ext4_below(&std::env::temp_dir(), mib)
    }

    /// Makes the same with its file below a directory.
    ///
    /// # Errors
    /// When mkfs fails.
    pub fn ext4_below(directory: &Path, mib: u64) -> Result<Self> {
        let directory = TempDir::with_prefix_in("offsite-drive-", directory)?;
        let uuid = Uuid::new_v4();
        let drive = Self { directory, uuid, device: None };
        std::fs::File::create_new(drive.file())?.set_len(mib << 20)?;
        run(Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-U", &uuid.to_string()])
            .arg(drive.file()))?;
        Ok(drive)
    }

    /// The filesystem's UUID.
    pub fn uuid(&self) -> String {
        self.uuid.to_string()
    }

    /// The file behind it.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("drive")
    }

    /// Its block device, while it is plugged in.
    pub fn device(&self) -> Option<&Path> {
        self.device.as_deref()
    }

    /// Whether it is plugged in.
    pub fn is_plugged(&self) -> bool {
        self.device.is_some()
    }

    /// Plugs it in, and returns its block device.
    ///
    /// # Errors
    /// When no loop device can be had.
    pub fn plug(&mut self) -> Result<&Path> {
        ensure!(self.device.is_none(), "it is plugged already");
        let said = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(self.file()))?;
        Ok(self.device.insert(PathBuf::from(said.trim())))
    }

    /// Waits until nothing uses it, then unplugs it.
    ///
    /// # Errors
    /// When it is still in use after `limit`.
    pub fn unplug(&mut self, limit: Duration) -> Result<()> {
        let device = self.device.clone().context("it isn't plugged")?;
        let end = Instant::now() + limit;
        while mounted(&device)? {
            if Instant::now() > end {
                bail!("{} is still mounted after {limit:?}", device.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.device = None;
        run(Command::new("/usr/sbin/losetup").arg("-d").arg(device)).map(drop)
    }
}

impl Drop for LoopDrive {
    fn drop(&mut self) {
        if let Some(device) = self.device.take()
            && let Err(error) = run(Command::new("/usr/sbin/losetup").arg("-d").arg(device))
        {
            eprintln!("{error:#}");
        }
    }
}

fn mounted(device: &Path) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mounts")?;
    let device = device.to_string_lossy();
    Ok(table.lines().any(|line| line.split(' ').next() == Some(&*device)))
}

/// Lays volumes on a drive, as `offsite prepare` does, and gives them to Bacula.
///
/// # Errors
/// When the drive can't be mounted or written.
pub fn lay_volumes(drive: &LoopDrive, name: &str, count: u32) -> Result<()> {
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    let (user, group) = (Some(bacula.uid.as_raw()), Some(bacula.gid.as_raw()));
    let at = tempfile::tempdir()?;
    run(Command::new("mount").args(["-o", "loop"]).arg(drive.file()).arg(at.path()))?;
    let lay = || {
        chown(at.path(), user, group)?;
        std::fs::set_permissions(at.path(), std::fs::Permissions::from_mode(0o750))?;
        for number in 1..=count {
            let path = at.path().join(format!("c0_{name}_{number:04}"));
            std::fs::write(&path, "")?;
            chown(&path, user, group)?;
        }
        anyhow::Ok(())
    };
    let laid = lay();
    run(Command::new("umount").arg(at.path()))?;
    laid
}

/// Runs a program to its end; fails with its output unless it succeeds.
///
/// # Errors
/// When it can't be started or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{} ended with {}: {text}{}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
