//! Names for secrets that reveal nothing about them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::base32;

/// Separates this use of SHA-256 from every other one.
const DOMAIN: &[u8] = b"offsite luks-core: fingerprint of a secret, version 1\0";
const BYTES: usize = 10;
const GROUP: usize = 4;

/// Says which secret is meant without revealing it: 80 bits of a domain-separated SHA-256, printed as four groups of
/// four characters, for example `7ZJ0-QK3M-V8RT-1DXA`.
///
/// Two secrets have the same fingerprint only when they are equal (or by a chance of 2^-80). Reading is tolerant to
/// lower case and to missing hyphens. Give it only to secrets with full entropy (key files, recovery keys): the
/// fingerprint of a short passphrase lets others try guesses quickly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; BYTES]);

/// The text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no key fingerprint, expected four groups of four characters such as 7ZJ0-QK3M-V8RT-1DXA"
)]
pub struct ParseFingerprintError {
    text: String,
}

impl Fingerprint {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(secret);
        let digest = hash.finalize();
        let mut bytes = [0; BYTES];
        for (to, from) in bytes.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::grouped(&base32::encode(&self.0), GROUP))
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let symbols: Option<Vec<u8>> =
            text.chars().filter(|character| *character != '-').map(base32::value).collect();
        symbols
            .and_then(|symbols| base32::decode(&symbols))
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseFingerprintError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = ParseFingerprintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_stable_and_domain_separated() {
        // The value is fixed: a change would make every registered fingerprint wrong.
        assert_eq!(Fingerprint::of(b"abc").to_string(), "HYKV-TTB4-4ZAD-RYMY");
        let plain = Sha256::digest(b"abc");
        assert_ne!(Fingerprint::of(b"abc").0[..], plain[..BYTES]);
    }

    #[test]
    fn rejects_what_is_no_fingerprint() {
        for text in ["", "7ZJ0", "7ZJ0-QK3M-V8RT-1DX", "7ZJ0-QK3M-V8RT-1DXAA", "7ZJ0-QK3M-V8RT-1DX!", "é"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn print_and_parse_are_inverse(secret: Vec<u8>) {
            let fingerprint = Fingerprint::of(&secret);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            prop_assert_eq!(fingerprint.to_string().to_lowercase().replace('-', "").parse(), Ok(fingerprint));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _any = text.parse::<Fingerprint>();
        }
    }
}
