//! A LUKS1 header, as bytes.
//!
//! Source: "LUKS On-Disk Format Specification" 1.2.3, figure 1.

use crate::luks2_copy::{number16, number32, text_bytes};

/// Length of the header in bytes, without the key material.
pub(crate) const LEN: usize = 592;

const MAGIC: &[u8] = b"LUKS\xba\xbe";
const FIRST_SLOT: usize = 208;
const SLOT_LEN: usize = 48;

/// What of a LUKS1 header libcryptsetup's own functions don't tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Luks1Header {
    pub(crate) uuid: String,
    pub(crate) cipher: String,
    pub(crate) hash: String,
    /// Iterations of PBKDF2 in each of the eight slots; meaningless for empty ones.
    pub(crate) iterations: [u32; 8],
}

pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && number16(bytes, 6) == Some(1)
}

/// Reads a header; `None` when it isn't one or is cut off.
pub(crate) fn parse(bytes: &[u8]) -> Option<Luks1Header> {
    if !has_magic(bytes) {
        return None;
    }
    let whole = bytes.get(..LEN)?;
    let text = |range| String::from_utf8_lossy(text_bytes(whole.get(range).unwrap_or_default())).into_owned();
    let mut iterations = [0; 8];
    for (slot, iterations) in iterations.iter_mut().enumerate() {
        *iterations = number32(whole, FIRST_SLOT + slot * SLOT_LEN + 4)?;
    }
    Some(Luks1Header {
        uuid: text(168..208),
        cipher: format!("{}-{}", text(8..40), text(40..72)),
        hash: text(72..104),
        iterations,
    })
}
