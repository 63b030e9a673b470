//! What a passphrase that somebody chooses must have.

use crate::secret::Secret;

/// Fewer characters are guessed in no time, whatever the stretching.
const SHORTEST: usize = 12;

/// A passphrase that anybody guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the passphrase has {len} characters, at least {SHORTEST} are needed")]
pub struct WeakPassphrase {
    /// Its length in characters.
    pub len: usize,
}

/// Refuses a new passphrase of fewer than 12 characters (bytes, when it is no text).
///
/// # Errors
/// [`WeakPassphrase`] tells its length.
pub fn check_passphrase(passphrase: &Secret) -> Result<(), WeakPassphrase> {
    let bytes = passphrase.expose();
    let len = std::str::from_utf8(bytes).map_or(bytes.len(), |text| text.chars().count());
    if len < SHORTEST { Err(WeakPassphrase { len }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        let check = |bytes: &[u8]| check_passphrase(&Secret::from_bytes(bytes.to_vec()));
        assert_eq!(check(b""), Err(WeakPassphrase { len: 0 }));
        assert_eq!(check("äöüäöüäöüäö".as_bytes()), Err(WeakPassphrase { len: 11 }));
        assert_eq!(check(b"twelve chars"), Ok(()));
        assert_eq!(check(&[0xff; 12]), Ok(()));
    }
}
