//! The guest's image in the cache: built once for each set of inputs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::build::{Say, build, step};
use super::machine;
use super::{recipe, tool};

/// The files of an image.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    pub(super) disk: PathBuf,
    /// The machine's memory and devices as they were when it had booted.
    pub(super) state: PathBuf,
}

impl Files {
    pub(super) fn below(directory: &Path) -> Self {
        Self {
            kernel: directory.join("vmlinuz"),
            initramfs: directory.join("initramfs.cpio"),
            disk: directory.join("disk.raw"),
            state: directory.join("state"),
        }
    }
}

/// A Debian guest that has booted: machines start from its saved state in a few seconds.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) files: Files,
}

impl Image {
    /// Finds the image below `${XDG_CACHE_HOME:-$HOME/.cache}/offsite/vm`, or builds it, which takes
    /// minutes and needs root. `say` gets a line for each step with its seconds.
    ///
    /// # Errors
    /// When a program is missing, Debian's archive can't be reached or the guest doesn't boot.
    pub fn ready(say: impl Fn(&str)) -> Result<Self> {
        Self::ready_below(&cache()?, &say)
    }

    fn ready_below(cache: &Path, say: Say<'_>) -> Result<Self> {
        let key = recipe::key(&machine::qemu_version()?, &machine::devices());
        let directory = cache.join(&key);
        if directory.is_dir() {
            return Ok(Self { files: Files::below(&directory) });
        }
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let lock = File::create(cache.join("lock")).context("cannot make the lock of the image cache")?;
        let _lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((file, _)) => {
                say("guest image: waiting for another build");
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?
            }
        };
        if !directory.is_dir() {
            sweep(cache)?;
            let building = tempfile::Builder::new().prefix("building-").tempdir_in(cache)?;
            build(building.path(), say)?;
            let files = Files::below(building.path());
            step(say, "first boot, state saved", || machine::boot_and_save(&files))?;
            fs::rename(building.keep(), &directory).context("cannot put the image in its place")?;
        }
        Ok(Self { files: Files::below(&directory) })
    }

    /// Why no machine can run here, if so; a test that needs one is then counted as skipped.
    pub fn lacking() -> Option<String> {
        let missing: Vec<&str> =
            ["qemu-system-x86_64", "debootstrap", "unshare", "setpriv", "mke2fs", "modprobe"]
                .into_iter()
                .filter(|program| !tool::exists(program))
                .collect();
        if !missing.is_empty() {
            return Some(format!("no {}", missing.join(", ")));
        }
        let built = || {
            let key = recipe::key(&machine::qemu_version().ok()?, &machine::devices());
            cache().ok()?.join(key).is_dir().then_some(())
        };
        (!nix::unistd::geteuid().is_root() && built().is_none())
            .then(|| "no image yet; building it needs root".into())
    }
}

/// Removes images of other inputs and what broken builds left. Machines that run keep their open files.
fn sweep(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)?.flatten() {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set: no place for the guest image")?;
    ensure!(base.is_absolute(), "{} isn't an absolute path", base.display());
    Ok(base.join("offsite/vm"))
}
