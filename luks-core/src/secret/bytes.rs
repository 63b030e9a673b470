//! Bytes that open a container.

use zeroize::Zeroize;

use super::fingerprint::Fingerprint;
use super::locked_pages::LockedPages;

/// Largest secret in bytes: cryptsetup's own default limit for key files (8 MiB, `cryptsetup --help`).
pub(crate) const MAX_LEN: usize = 8 * 1024 * 1024;

/// A key or passphrase in memory of its own: locked where the system allows, left out of core dumps, wiped on drop.
///
/// It has no `Debug`, `Clone`, `PartialEq` or `Serialize`; compare two by [`Secret::fingerprint`].
///
/// ```compile_fail
/// let secret = luks_core::Secret::from_bytes(b"typed".to_vec());
/// println!("{secret:?}");
/// ```
pub struct Secret {
    pages: LockedPages,
}

/// Why a [`Secret`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The asked length is zero or above 8 MiB.
    #[error("a secret of {len} bytes is out of range, 1 to {MAX_LEN} bytes are possible")]
    Length {
        /// The asked length in bytes.
        len: usize,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes: {reason}")]
    NoRandomness {
        /// What getrandom(2) said.
        reason: String,
    },
}

impl Secret {
    /// Makes `len` bytes (1 to 8 MiB) from the kernel's random generator.
    ///
    /// # Errors
    /// [`SecretError::Length`], or [`SecretError::NoRandomness`] on kernels without getrandom(2).
    pub fn random(len: usize) -> Result<Self, SecretError> {
        if len == 0 || len > MAX_LEN {
            return Err(SecretError::Length { len });
        }
        Self::fill(len, getrandom::fill)
            .map_err(|error| SecretError::NoRandomness { reason: error.to_string() })
    }

    /// Takes bytes over and wipes the vector they came in.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Self {
        let mut pages = LockedPages::zeroed(bytes.len());
        pages.bytes_mut().copy_from_slice(&bytes);
        bytes.zeroize();
        Self { pages }
    }

    /// Makes a secret of `len` bytes in place, so that no copy lies elsewhere.
    pub(crate) fn fill<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut pages = LockedPages::zeroed(len);
        fill(pages.bytes_mut())?;
        Ok(Self { pages })
    }

    /// Borrows the bytes; don't copy them into memory that is not wiped.
    pub fn expose(&self) -> &[u8] {
        self.pages.bytes()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// Whether the memory is locked against swapping; `false` when `RLIMIT_MEMLOCK` forbade it.
    pub fn is_memory_locked(&self) -> bool {
        self.pages.is_locked()
    }

    /// A short name of this secret that doesn't reveal it, see [`Fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_secrets_differ_and_have_the_asked_length() {
        let (one, two) = (Secret::random(4096).unwrap(), Secret::random(4096).unwrap());
        assert_eq!(one.len(), 4096);
        assert_ne!(one.expose(), two.expose());
        assert!(matches!(Secret::random(0), Err(SecretError::Length { len: 0 })));
        assert!(matches!(Secret::random(MAX_LEN + 1), Err(SecretError::Length { .. })));
    }

    #[test]
    fn bytes_are_taken_over_and_empty_is_possible() {
        assert_eq!(Secret::from_bytes(b"abc".to_vec()).expose(), b"abc");
        let empty = Secret::from_bytes(Vec::new());
        assert!(empty.is_empty());
    }

    #[test]
    fn secrets_may_move_and_be_shared_between_threads() {
        fn shareable<T: Send + Sync>() {}
        shareable::<Secret>();
    }

    #[test]
    fn pages_are_locked_and_excluded_from_core_dumps() {
        let secret = Secret::random(5000).unwrap();
        let address = secret.expose().as_ptr() as usize;
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = vm_flags(&smaps, address).expect("the secret's mapping is listed");
        assert!(flags.contains(&"dd"), "not excluded from core dumps: {flags:?}");
        if secret.is_memory_locked() {
            assert!(flags.contains(&"lo"), "not locked: {flags:?}");
        }
    }

    /// The `VmFlags` of the mapping that holds `address`, see proc(5).
    fn vm_flags(smaps: &str, address: usize) -> Option<Vec<&str>> {
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            if let Some((from, to)) = range
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return Some(flags.split_whitespace().collect());
            }
        }
        None
    }
}
