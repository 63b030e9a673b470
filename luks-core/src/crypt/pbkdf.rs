//! Which key derivation suits which secret.

use libcryptsetup_rs::consts::flags::CryptPbkdf;
use libcryptsetup_rs::consts::vals::{CryptKdf, LuksType};
use libcryptsetup_rs::{CryptDevice, CryptPbkdfType, CryptSettingsHandle, LibcryptErr};

use crate::header::version::LuksVersion;

/// Fewest iterations that libcryptsetup accepts for PBKDF2 (`PBKDF2_MIN_ITERATIONS`, src of cryptsetup; RFC 8018 4.2).
const MIN_ITERATIONS: u32 = 1000;

/// Where a secret's strength comes from; decides how much work opening costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Full entropy (a key file, a recovery key): needs no stretching, so PBKDF2 with the minimum of 1000 iterations.
    KeyFile,
    /// Typed by a person: Argon2id for LUKS2, PBKDF2 measured to about two seconds for LUKS1.
    Passphrase,
}

/// PBKDF2 with the fewest iterations, without measuring.
pub(crate) fn minimal() -> CryptPbkdfType {
    CryptPbkdfType {
        type_: CryptKdf::Pbkdf2,
        hash: Some("sha256".to_owned()),
        time_ms: 0,
        iterations: MIN_ITERATIONS,
        max_memory_kb: 0,
        parallel_threads: 0,
        flags: CryptPbkdf::NO_BENCHMARK,
    }
}

/// Makes the next key slot use what suits the secret.
pub(crate) fn choose(
    device: &mut CryptDevice,
    kind: SecretKind,
    version: LuksVersion,
) -> Result<(), LibcryptErr> {
    let pbkdf = match kind {
        SecretKind::KeyFile => minimal(),
        SecretKind::Passphrase => {
            let luks = match version {
                LuksVersion::Luks1 => LuksType::Luks1,
                LuksVersion::Luks2 => LuksType::Luks2,
            };
            CryptSettingsHandle::get_pbkdf_default(&luks)?
        }
    };
    device.settings_handle().set_pbkdf_type(&pbkdf)
}
