//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Owner may read, nobody else anything.
pub(crate) const OWNER_READ: u32 = 0o400;

/// A not yet visible file beside its later place; removed again unless published.
pub(crate) struct Draft {
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Chooses a random, unused name beside `target`; nothing is created yet.
    pub(crate) fn beside(target: &Path) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path doesn't name a file"))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::from)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}.new", u64::from_ne_bytes(random)));
        Ok(Self { temporary: target.with_file_name(temporary), target: target.to_owned() })
    }

    /// Where the contents go before they are published.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Creates the draft with mode 0400, open for writing.
    pub(crate) fn create(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_READ)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.temporary)
    }

    /// Gives the written file its name, on stable storage before this returns.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; nothing is overwritten.
    pub(crate) fn publish(self) -> io::Result<()> {
        File::open(&self.temporary)?.sync_all()?;
        match self.rename_unless_taken() {
            // Not every filesystem has it. A second name must do then, which a kill between the two calls leaves.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                fs::hard_link(&self.temporary, &self.target)?;
                fs::remove_file(&self.temporary)?;
            }
            renamed => renamed?,
        }
        self.sync_directory()
    }

    #[cfg(target_env = "gnu")]
    fn rename_unless_taken(&self) -> Result<(), Errno> {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        renameat2(AT_FDCWD, &self.temporary, AT_FDCWD, &self.target, RenameFlags::RENAME_NOREPLACE)
    }

    #[cfg(not(target_env = "gnu"))]
    fn rename_unless_taken(&self) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// As [`Draft::publish`], but takes the place of what has the name.
    pub(crate) fn replace(self) -> io::Result<()> {
        File::open(&self.temporary)?.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published drafts are gone already; one that can't be removed stays as a hidden file of mode 0400.
        let _gone_or_left = fs::remove_file(&self.temporary);
    }
}
