//! A drive opened for one piece of work (preparing, adopting): unlocked and mounted at a private
//! directory, and put back to rest however the work ends.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use luks_core::{CloseError, CloseMode, Header, MappingStatus, OpenOptions, Secret};
use mount_by_uuid::{MountOptions, MountTable, System, UnmountMode};

use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::filesystems::mount_options;
use crate::base::paths::Root;

/// How long what a killed run started may go on before the next run gives up.
const LAST_USERS_LIMIT: Duration = Duration::from_secs(20);

/// An unlocked container; locked again on [`Unlocked::lock`] or when dropped.
#[derive(Debug)]
pub struct Unlocked {
    name: String,
    path: PathBuf,
    open: bool,
}

impl Unlocked {
    /// Unlocks a container by its header as it was read, under a mapping name of its own.
    pub fn open(header: &Header, name: &str, keys: &[&Secret], read_only: bool) -> Result<Self, Failure> {
        let options = OpenOptions { read_only, ..OpenOptions::default() };
        let opened = header
            .open(name, keys, &options)
            .or_fail(format!("cannot unlock {}", header.device().display()))?;
        Ok(Self { name: name.to_owned(), path: opened.mapping.path().to_owned(), open: true })
    }

    /// The block device that shows the plain data.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks it; nothing of the key stays in the kernel.
    pub fn lock(mut self) -> Result<(), Failure> {
        self.open = false;
        luks_core::close(&self.name, CloseMode::Now)
            .map(drop)
            .or_fail(format!("cannot lock {}", self.path.display()))
    }
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = luks_core::close(&self.name, CloseMode::Deferred)
        {
            eprintln!("warning: {} stays unlocked: {error}", self.path.display());
        }
    }
}

/// A filesystem mounted where nobody else looks.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    mounted: bool,
}

impl Mounted {
    /// Mounts `device` with the safe options.
    pub fn mount(root: &Root, device: &Path, fs_type: &str, read_only: bool) -> Result<Self, Failure> {
        let base = root.join("/run/offsite");
        atomic_file::directory_of(&base, Owner::own(), 0o755)?;
        let at = base.join(format!("work-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&at)
            .or_fail(format!("cannot make {}", at.display()))?;
        let mut guard = Self { at, mounted: false };
        let options = MountOptions { read_only, ..mount_options(fs_type)? };
        mount_by_uuid::mount(device, &guard.at, fs_type, &options)
            .or_fail(format!("cannot mount {}", device.display()))?;
        guard.mounted = true;
        Ok(guard)
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Flushes and unmounts; a failed flush is a failure.
    pub fn unmount(mut self) -> Result<(), Failure> {
        mount_by_uuid::flush(&self.at).or_fail("the filesystem could not be flushed")?;
        mount_by_uuid::unmount(&self.at, UnmountMode::Now).or_fail("cannot unmount")?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = mount_by_uuid::unmount(&self.at, UnmountMode::Lazy)
        {
            eprintln!("warning: {} stays mounted: {error}", self.at.display());
        }
        let _ = std::fs::remove_dir(&self.at); // only ever an empty directory; a mount keeps it
    }
}

/// Puts to rest what an earlier run that was killed has left of `device`: the mapping `name` and what is mounted from it.
///
/// The caller makes sure that the name can belong to nobody else and that the earlier run has ended.
pub fn put_to_rest(root: &Root, name: &str, device: &Path) -> Result<(), Failure> {
    let status = || luks_core::mapping_status(name).or_fail(format!("cannot look at the mapping {name}"));
    let left = status()?;
    let MappingStatus::Active { backing, .. } = left else { return Ok(()) };
    let number = std::fs::metadata(device).or_fail(format!("cannot look at {}", device.display()))?.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let here = u32::try_from(major).ok().zip(u32::try_from(minor).ok());
    if backing.is_some() && !here.is_some_and(|(major, minor)| left.is_backed_by(major, minor)) {
        return Err(Failure::new(Exit::Refused, format!("the mapping {name} reads from another drive"))
            .hint(format!("unplug that one, or close it: cryptsetup close {name}")));
    }
    // Of a drive that was pulled meanwhile nothing can be flushed any more.
    let (unmount, close) = match backing {
        Some(_) => (UnmountMode::Now, CloseMode::Now),
        None => (UnmountMode::Lazy, CloseMode::Force),
    };
    let source = root.join("/dev/mapper").join(name);
    let mounts = MountTable::read(&System::new(root.kernel())).or_fail("cannot see what is mounted")?;
    for mount in mounts.entries().iter().rev().filter(|mount| mount.source == source.as_os_str()) {
        let at = &mount.mount_point;
        mount_by_uuid::unmount(at, unmount)
            .or_exit(Exit::Refused, format!("cannot unmount {}", at.display()))?;
        let _ = std::fs::remove_dir(at); // only ever an empty directory
    }
    let end = Instant::now() + LAST_USERS_LIMIT;
    loop {
        match luks_core::close(name, close) {
            Ok(_) => return Ok(()),
            // A mkfs outlives the run that started it, and udev may be looking.
            Err(CloseError::Busy { .. }) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                return Err(Failure::because(
                    Exit::Refused,
                    format!("cannot lock {}", source.display()),
                    &error,
                )
                .hint("when what the earlier run started has ended, run the same command again"));
            }
        }
    }
}

/// Fails where the kernel can't open LUKS containers.
pub fn require_device_mapper(root: &Root) -> Result<(), Failure> {
    if luks_core::has_device_mapper(root.kernel()) {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "this kernel has no device-mapper, so no encrypted drive can be opened")
        .hint("load it (modprobe dm-crypt), or work on a machine whose kernel has it"))
}
