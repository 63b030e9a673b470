//! What a passphrase that somebody chooses must have.

use super::bytes::Secret;

/// Fewer characters are guessed in no time, whatever the stretching.
const SHORTEST: usize = 12;

/// Fewer different characters are a row of one key, or a pattern of two or three.
const FEWEST_DIFFERENT: usize = 5;

/// A passphrase that anybody guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakPassphrase {
    /// It is too short.
    #[error("the passphrase has {len} characters without blanks at its ends, at least {SHORTEST} are needed")]
    Short {
        /// Its length in characters, without blanks before and behind.
        len: usize,
    },
    /// It repeats the same few characters.
    #[error("the passphrase has {different} different characters, at least {FEWEST_DIFFERENT} are needed")]
    Uniform {
        /// How many.
        different: usize,
    },
}

/// Refuses a new passphrase of fewer than 12 characters (bytes, when it is no text), blanks before and behind not counted,
/// or of fewer than 5 different ones.
///
/// # Errors
/// [`WeakPassphrase`] tells what is too few.
pub fn check_passphrase(passphrase: &Secret) -> Result<(), WeakPassphrase> {
    let bytes = passphrase.expose();
    let (len, different) = match std::str::from_utf8(bytes) {
        Ok(text) => counts(text.trim().chars()),
        Err(_) => counts(bytes.trim_ascii().iter()),
    };
    if len < SHORTEST {
        Err(WeakPassphrase::Short { len })
    } else if different < FEWEST_DIFFERENT {
        Err(WeakPassphrase::Uniform { different })
    } else {
        Ok(())
    }
}

/// The number of items, and of different ones as far as that matters. Nothing but counts is kept of a secret.
fn counts<T: PartialEq>(items: impl Iterator<Item = T> + Clone) -> (usize, usize) {
    let is_first = |(place, item): &(usize, T)| !items.clone().take(*place).any(|earlier| earlier == *item);
    let different = items.clone().enumerate().filter(is_first).take(FEWEST_DIFFERENT).count();
    (items.count(), different)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        let check = |bytes: &[u8]| check_passphrase(&Secret::from_bytes(bytes.to_vec()));
        assert_eq!(check(b""), Err(WeakPassphrase::Short { len: 0 }));
        assert_eq!(check("äöüßéèäöüßé".as_bytes()), Err(WeakPassphrase::Short { len: 11 }));
        assert_eq!(check(b"twelve chars"), Ok(()));
        assert_eq!(check(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4"), Ok(()));
    }

    #[test]
    fn blanks_and_rows_of_one_key_are_no_passphrase() {
        let check = |bytes: &[u8]| check_passphrase(&Secret::from_bytes(bytes.to_vec()));
        for blanks in ["            ", "\t\t\t\t\t\t\t\t\t\t\t\t", "  \u{a0}\u{a0}\u{2003}          "] {
            assert_eq!(check(blanks.as_bytes()), Err(WeakPassphrase::Short { len: 0 }));
        }
        assert_eq!(check(b"   short      "), Err(WeakPassphrase::Short { len: 5 }));
        assert_eq!(check(b"aaaaaaaaaaaaaaaa"), Err(WeakPassphrase::Uniform { different: 1 }));
        assert_eq!(check(b"abcdabcdabcdabcd"), Err(WeakPassphrase::Uniform { different: 4 }));
        assert_eq!(check(&[0xff; 12]), Err(WeakPassphrase::Uniform { different: 1 }));
        assert_eq!(check(b"a b c d e f g"), Ok(()));
    }
}
