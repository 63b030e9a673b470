//! The first tags of a container with authenticated encryption.
//!
//! dm-integrity can't read a sector that was never written: its tag is wrong. So every sector is written once.
#![expect(unsafe_code, reason = "the callback is called from C with a pointer to what the caller gave")]

use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::flags::{CryptActivate, CryptDeactivate, CryptWipe};
use libcryptsetup_rs::consts::vals::CryptWipePattern;

use super::load_error::LoadError;
use super::loaded::Container;
use crate::crypt::session::{CryptsetupError, Session};
use crate::crypt::udev_sync;
use crate::secret::bytes::Secret;

/// Bytes written at once.
const BLOCK: usize = 1 << 20;

/// Called with the bytes written so far and the bytes in all; `false` stops the work.
pub type TagProgress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Why the tags were not written; formatting has to be done again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The container has no authenticated encryption.
    #[error("{} was made without authenticated encryption", device.display())]
    NotAuthenticated {
        /// The container.
        device: PathBuf,
    },
    /// The caller stopped the work.
    #[error("writing the tags of {} was stopped; format it again", device.display())]
    Stopped {
        /// The container.
        device: PathBuf,
    },
    /// libcryptsetup failed.
    #[error("cannot write the tags of {}: {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
}

impl Container {
    /// Writes every sector of a new container with authenticated encryption once, so that each has a valid tag.
    ///
    /// Takes as long as writing the whole device does, and longer. Needs root, dm-crypt and dm-integrity.
    ///
    /// # Errors
    /// [`TagError::Stopped`] when `progress` returned `false`.
    pub fn write_tags(&self, root: &Path, key: &Secret, progress: TagProgress<'_>) -> Result<(), TagError> {
        if !self.is_authenticated() {
            return Err(TagError::NotAuthenticated { device: self.device.clone() });
        }
        let failed = |source| TagError::Failed { device: self.device.clone(), source };
        let name = format!("luks-core-tags-{}", self.uuid());
        let mut session = self.header()?.session_to_change()?;
        udev_sync::set(false);
        // Nothing of what is written is worth a journal yet, and nobody else is to look at it.
        let flags = CryptActivate::PRIVATE | CryptActivate::NO_JOURNAL;
        session
            .call(|device| {
                device.activate_handle().activate_by_passphrase(Some(&name), None, key.expose(), flags)
            })
            .map_err(failed)?;
        let mut work = Work { progress, stopped: false };
        let written = wipe(&mut session, &root.join("dev/mapper").join(&name), &mut work);
        let closed =
            session.call(|device| device.activate_handle().deactivate(&name, CryptDeactivate::empty()));
        if work.stopped {
            return Err(TagError::Stopped { device: self.device.clone() });
        }
        written.and(closed).map_err(failed)
    }
}

struct Work<'a> {
    progress: TagProgress<'a>,
    stopped: bool,
}

fn wipe(session: &mut Session, mapping: &Path, work: &mut Work<'_>) -> Result<(), CryptsetupError> {
    session.call(|device| {
        device.wipe_handle().wipe(
            mapping,
            CryptWipePattern::Zero,
            0,
            0,
            BLOCK,
            CryptWipe::empty(),
            Some(callback),
            Some(work),
        )
    })
}

unsafe extern "C" fn callback(size: u64, offset: u64, user: *mut c_void) -> c_int {
    // SAFETY: `wipe` passes a `Work` that outlives the call, and libcryptsetup hands its address back unchanged.
    let Some(work) = (unsafe { user.cast::<Work<'_>>().as_mut() }) else { return 1 };
    work.stopped |= !(work.progress)(offset, size);
    c_int::from(work.stopped)
}
