//! Keys in memory and in files: locked memory, key files, recovery keys, escrow.

pub(crate) mod base32;
pub(crate) mod bytes;
#[cfg(feature = "escrow")]
pub(crate) mod escrow;
pub(crate) mod fingerprint;
pub(crate) mod key_file;
#[cfg(feature = "escrow")]
pub(crate) mod key_share;
pub(crate) mod locked_pages;
pub(crate) mod new_file;
pub(crate) mod passphrase;
pub(crate) mod qr_code;
pub(crate) mod recovery_key;
