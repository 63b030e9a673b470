//! One libcryptsetup handle, used by one thread at a time.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libcryptsetup_rs::consts::vals::EncryptionFormat;
use libcryptsetup_rs::{CryptDevice, CryptInit, Either, LibcryptErr};

use super::log_capture;

/// libcryptsetup keeps process-wide state (its device-mapper log context points to the handle used last), so no two
/// handles may live at once.
static TURN: Mutex<()> = Mutex::new(());

/// A handle and the turn to use it; dropped in this order.
pub(crate) struct Session {
    device: CryptDevice,
    _turn: MutexGuard<'static, ()>,
}

impl Session {
    /// A handle for a device or file; waits until no other handle lives.
    pub(crate) fn init(path: &Path) -> Result<Self, CryptsetupError> {
        Self::new(|| CryptInit::init(path))
    }

    /// A handle for data whose header is in another place, such as a backup.
    pub(crate) fn init_detached(header: &Path, data: &Path) -> Result<Self, CryptsetupError> {
        Self::new(|| CryptInit::init_with_data_device(Either::Right((header, data))))
    }

    /// Has libcryptsetup read the header.
    pub(crate) fn load(&mut self) -> Result<(), CryptsetupError> {
        self.call(|handle| handle.context_handle().load::<()>(None::<EncryptionFormat>, None))
    }

    /// A handle for an active mapping, also when the device behind it has disappeared.
    pub(crate) fn of_mapping(name: &str) -> Result<Self, CryptsetupError> {
        Self::new(|| CryptInit::init_by_name_and_header(name, None))
    }

    fn new(init: impl FnOnce() -> Result<CryptDevice, LibcryptErr>) -> Result<Self, CryptsetupError> {
        let turn = turn();
        let device = logged(init)?;
        Ok(Self { device, _turn: turn })
    }

    /// Calls libcryptsetup and attaches what it logged to the error.
    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(&mut CryptDevice) -> Result<T, LibcryptErr>,
    ) -> Result<T, CryptsetupError> {
        logged(|| call(&mut self.device))
    }

    /// The handle, for calls that can't fail.
    pub(crate) fn device(&mut self) -> &mut CryptDevice {
        &mut self.device
    }
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls libcryptsetup, with what it logged attached to the error.
fn logged<T>(call: impl FnOnce() -> Result<T, LibcryptErr>) -> Result<T, CryptsetupError> {
    log_capture::start();
    call().map_err(|error| CryptsetupError::new(&error, log_capture::take()))
}

/// What libcryptsetup answered: its log text, the errno, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptsetupError {
    errno: Option<i32>,
    text: String,
}

impl CryptsetupError {
    fn new(error: &LibcryptErr, log: String) -> Self {
        let errno = match error {
            LibcryptErr::IOError(error) => error.raw_os_error(),
            _ => None,
        };
        let text = match (log.is_empty(), errno) {
            (false, _) => log,
            (true, Some(number)) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
            (true, None) => error.to_string(),
        };
        Self { errno, text }
    }

    /// What the system answered beside libcryptsetup.
    pub(crate) fn io(error: &std::io::Error) -> Self {
        Self { errno: error.raw_os_error(), text: error.to_string() }
    }

    /// The error number (positive, as in errno(3)), if there was one.
    ///
    /// In libcryptsetup EPERM means a wrong key, ENOENT an empty slot, EINVAL an occupied slot or no LUKS, ENOTBLK an
    /// absent path, and EOPNOTSUPP no device-mapper; the operations of this crate translate them.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    pub(crate) fn is(&self, errno: i32) -> bool {
        self.errno == Some(errno)
    }
}

impl fmt::Display for CryptsetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(f, "{} (libcryptsetup, errno {errno})", self.text),
            None => write!(f, "{} (libcryptsetup)", self.text),
        }
    }
}

impl std::error::Error for CryptsetupError {}
