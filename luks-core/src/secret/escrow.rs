//! A key file sealed for the safe: encrypted in the format of age, to a passphrase or to recipients.
//!
//! Format: <https://age-encryption.org/v1>. Whatever opens such files (age, rage) gives the key file's bytes back.

use std::io::{Read, Write};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient};
use zeroize::Zeroizing;

use super::bytes::{MAX_LEN, Secret};
use super::passphrase::{WeakPassphrase, check_passphrase};

/// What a sealed file begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// The most work (2^22 rounds of scrypt, 4 GiB) that a sealed file may ask for.
const MOST_WORK: u8 = 22;
/// What age adds to the key: headers with hundreds of recipients included.
const LONGEST_OVERHEAD: usize = 1 << 20;

/// Why a key was not sealed or not unsealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EscrowError {
    /// Nobody could open it.
    #[error("there is no recipient; give at least one public key of the form age1...")]
    NoRecipient,
    /// The text is no public key of age.
    #[error("'{text}' is no recipient: {reason}; expected a public key of the form age1...")]
    Recipient {
        /// The text.
        text: String,
        /// What age says.
        reason: String,
    },
    /// A passphrase that anybody guesses.
    #[error(transparent)]
    Passphrase(#[from] WeakPassphrase),
    /// A passphrase that age can't take.
    #[error("the passphrase is no text in UTF-8")]
    NoText,
    /// The identities can't be used.
    #[error("these are no identities of age: {reason}; expected lines of the form AGE-SECRET-KEY-1...")]
    Identities {
        /// What age says.
        reason: String,
    },
    /// It is sealed to a passphrase and recipients were offered, or the other way round.
    #[error("it is sealed to {}", if *passphrase { "a passphrase, not to recipients" } else { "recipients, not to a passphrase" })]
    OtherSeal {
        /// Whether a passphrase opens it.
        passphrase: bool,
    },
    /// The passphrase or identity doesn't open it.
    #[error("{} doesn't open it", if *passphrase { "the passphrase" } else { "none of the identities" })]
    WrongKey {
        /// Whether a passphrase was tried.
        passphrase: bool,
    },
    /// The file is damaged or was changed.
    #[error("it is damaged or no sealed key: {reason}")]
    Damaged {
        /// What age says.
        reason: String,
    },
    /// age failed.
    #[error("it can't be sealed: {reason}")]
    Seal {
        /// What age says.
        reason: String,
    },
}

/// Seals a key so that a passphrase (at least 12 characters) opens it; stretched by scrypt for about a second.
///
/// # Errors
/// [`EscrowError::Passphrase`] when it is too short.
pub fn seal_to_passphrase(key: &Secret, passphrase: &Secret) -> Result<Vec<u8>, EscrowError> {
    check_passphrase(passphrase)?;
    seal(key, Encryptor::with_user_passphrase(SecretString::from(text(passphrase)?.to_owned())))
}

/// Seals a key so that each of the recipients (public keys of the form `age1...`) opens it alone.
///
/// # Errors
/// [`EscrowError::Recipient`] for a text that is no public key.
pub fn seal_to_recipients(key: &Secret, recipients: &[String]) -> Result<Vec<u8>, EscrowError> {
    let parsed = recipients
        .iter()
        .map(|text| {
            text.parse::<age::x25519::Recipient>()
                .map_err(|reason| EscrowError::Recipient { text: text.clone(), reason: reason.to_owned() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if parsed.is_empty() {
        return Err(EscrowError::NoRecipient);
    }
    let encryptor = Encryptor::with_recipients(parsed.iter().map(|recipient| recipient as &dyn Recipient))
        .map_err(|error| EscrowError::Seal { reason: error.to_string() })?;
    seal(key, encryptor)
}

fn seal(key: &Secret, encryptor: Encryptor) -> Result<Vec<u8>, EscrowError> {
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(key.expose())?;
        writer.finish().map(drop)
    });
    written.map_err(|error| EscrowError::Seal { reason: error.to_string() })?;
    Ok(sealed)
}

/// Whether these bytes begin as a sealed key does.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether a passphrase opens a sealed key; otherwise an identity does.
///
/// # Errors
/// [`EscrowError::Damaged`] when the bytes are no sealed key.
pub fn is_sealed_to_passphrase(sealed: &[u8]) -> Result<bool, EscrowError> {
    decryptor(sealed).map(|decryptor| decryptor.is_scrypt())
}

/// Opens a key that was sealed to a passphrase.
///
/// # Errors
/// [`EscrowError::WrongKey`] for a wrong passphrase.
pub fn unseal_by_passphrase(sealed: &[u8], passphrase: &Secret) -> Result<Secret, EscrowError> {
    let decryptor = decryptor(sealed)?;
    if !decryptor.is_scrypt() {
        return Err(EscrowError::OtherSeal { passphrase: false });
    }
    let mut identity = age::scrypt::Identity::new(SecretString::from(text(passphrase)?.to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    unseal(decryptor, &[&identity], sealed.len())
}

/// Opens a key that was sealed to recipients, by the contents of an identity file as `age-keygen` writes it.
///
/// # Errors
/// [`EscrowError::WrongKey`] when it was sealed to none of them.
pub fn unseal_by_identities(sealed: &[u8], identities: &Secret) -> Result<Secret, EscrowError> {
    let decryptor = decryptor(sealed)?;
    if decryptor.is_scrypt() {
        return Err(EscrowError::OtherSeal { passphrase: true });
    }
    let unusable = |reason: String| EscrowError::Identities { reason };
    let identities = IdentityFile::from_buffer(identities.expose())
        .map_err(|error| unusable(error.to_string()))?
        .into_identities()
        .map_err(|error| unusable(error.to_string()))?;
    let borrowed: Vec<&dyn Identity> =
        identities.iter().map(|identity| &**identity as &dyn Identity).collect();
    unseal(decryptor, &borrowed, sealed.len())
}

fn decryptor(sealed: &[u8]) -> Result<Decryptor<&[u8]>, EscrowError> {
    if sealed.len() > MAX_LEN + LONGEST_OVERHEAD {
        return Err(EscrowError::Damaged { reason: "it is longer than any sealed key".to_owned() });
    }
    Decryptor::new_buffered(sealed).map_err(|error| EscrowError::Damaged { reason: one_line(&error) })
}

fn unseal(
    decryptor: Decryptor<&[u8]>,
    identities: &[&dyn Identity],
    most: usize,
) -> Result<Secret, EscrowError> {
    let passphrase = decryptor.is_scrypt();
    let mut reader = decryptor.decrypt(identities.iter().copied()).map_err(|error| match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => {
            EscrowError::WrongKey { passphrase }
        }
        // A passphrase that is wrong shows as a file key that can't be decrypted.
        DecryptError::DecryptionFailed => EscrowError::WrongKey { passphrase },
        other => EscrowError::Damaged { reason: one_line(&other) },
    })?;
    // As long as the sealed bytes, so that no half-filled buffer is left behind by growing.
    let mut key = Zeroizing::new(Vec::with_capacity(most));
    reader.read_to_end(&mut key).map_err(|error| EscrowError::Damaged { reason: error.to_string() })?;
    Ok(Secret::from_bytes(std::mem::take(&mut key)))
}

fn one_line(error: &DecryptError) -> String {
    error.to_string().replace('\n', " ")
}

fn text(passphrase: &Secret) -> Result<&str, EscrowError> {
    std::str::from_utf8(passphrase.expose()).map_err(|_| EscrowError::NoText)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;
    use proptest::prelude::*;

    use super::*;

    fn key() -> Secret {
        Secret::random(4096).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::from_bytes(text.as_bytes().to_vec())
    }

    fn identity() -> (String, Secret) {
        let identity = age::x25519::Identity::generate();
        (identity.to_public().to_string(), secret(identity.to_string().expose_secret()))
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed() {
        let (key, passphrase) = (key(), secret("twelve letters and more"));
        let sealed = seal_to_passphrase(&key, &passphrase).unwrap();
        assert!(is_sealed(&sealed) && is_sealed_to_passphrase(&sealed).unwrap());
        assert!(unseal_by_passphrase(&sealed, &passphrase).unwrap().expose() == key.expose());
        let wrong = unseal_by_passphrase(&sealed, &secret("twelve letters and less")).err();
        assert!(matches!(wrong, Some(EscrowError::WrongKey { passphrase: true })), "{wrong:?}");
        let other = unseal_by_identities(&sealed, &identity().1).err();
        assert!(matches!(other, Some(EscrowError::OtherSeal { passphrase: true })), "{other:?}");
        let short = seal_to_passphrase(&key, &secret("short")).err();
        assert!(
            matches!(short, Some(EscrowError::Passphrase(WeakPassphrase::Short { len: 5 }))),
            "{short:?}"
        );
    }

    #[test]
    fn each_recipient_opens_alone() {
        let key = key();
        let (one, two, three) = (identity(), identity(), identity());
        let sealed = seal_to_recipients(&key, &[one.0, two.0]).unwrap();
        for identity in [&one.1, &two.1] {
            assert!(unseal_by_identities(&sealed, identity).unwrap().expose() == key.expose());
        }
        let wrong = unseal_by_identities(&sealed, &three.1).err();
        assert!(matches!(wrong, Some(EscrowError::WrongKey { passphrase: false })), "{wrong:?}");
        let other = unseal_by_passphrase(&sealed, &secret("twelve letters and more")).err();
        assert!(matches!(other, Some(EscrowError::OtherSeal { passphrase: false })), "{other:?}");
        assert!(matches!(seal_to_recipients(&key, &[]), Err(EscrowError::NoRecipient)));
        for text in ["", "age1", "ssh-rsa AAAA", "AGE-SECRET-KEY-1"] {
            let result = seal_to_recipients(&key, &[text.to_owned()]);
            assert!(matches!(result, Err(EscrowError::Recipient { .. })), "{text}");
        }
        assert!(matches!(unseal_by_identities(&sealed, &secret("x")), Err(EscrowError::Identities { .. })));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at: prop::sample::Index, change in 1_u8..) {
            let (public, private) = identity();
            let mut sealed = seal_to_recipients(&Secret::from_bytes(vec![7; 64]), &[public]).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= change;
            prop_assert!(unseal_by_identities(&sealed, &private).is_err());
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..600), magic: bool) {
            let bytes = if magic { [MAGIC, &bytes].concat() } else { bytes };
            prop_assert!(unseal_by_identities(&bytes, &identity().1).is_err());
        }
    }
}
