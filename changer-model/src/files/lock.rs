//! One changer command at a time: `flock` on a file in the work directory.
//!
//! The kernel releases the lock with its holder, however that ends, so nothing is ever left behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why the lock was not obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock's file cannot be used.
    #[error("cannot lock {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another command holds it for too long.
    #[error("{} is held by process {holder} since more than {seconds} s; end that process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// The holder's process id, as it wrote it.
        holder: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// The lock, held while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the lock at most `limit`.
    pub(crate) fn take(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o660)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .map_err(unusable)?;
        if let Some(dir) = path.parent() {
            super::ownership::give_to_owner_of(dir, &file).map_err(unusable)?;
        }
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut held = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => break held,
                Err((mut back, Errno::EWOULDBLOCK)) => {
                    if begun.elapsed() >= limit {
                        return Err(LockError::Busy {
                            path: path.to_owned(),
                            holder: holder(&mut back),
                            seconds: limit.as_secs(),
                        });
                    }
                    thread::sleep(pause.min(limit.saturating_sub(begun.elapsed())));
                    pause = (pause * 2).min(Duration::from_millis(20));
                    file = back;
                }
                Err((back, Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(unusable(errno.into())),
            }
        };
        // who holds it is only for the message above; a full disk must not stop a restore
        let _ = note_holder(&mut held);
        Ok(Self { _file: held })
    }
}

fn note_holder(file: &mut File) -> io::Result<()> {
    let text = format!("{:<10}\n", std::process::id());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

fn holder(file: &mut File) -> String {
    let mut bytes = [0; 10];
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read(&mut bytes)).unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default());
    let digits: String = text.trim().chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() { "unknown".to_owned() } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_a_released_one_is_free() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("lock");
        let first = Lock::take(&path, Duration::ZERO).expect("free");
        let error = Lock::take(&path, Duration::from_millis(30)).expect_err("held");
        let LockError::Busy { holder, .. } = &error else { panic!("{error}") };
        assert_eq!(*holder, std::process::id().to_string());
        drop(first);
        Lock::take(&path, Duration::ZERO).expect("free again");
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("link");
        assert!(matches!(Lock::take(&path, Duration::ZERO), Err(LockError::Unusable { .. })));
        assert!(!dir.path().join("elsewhere").exists());
    }
}
