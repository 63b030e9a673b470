//! A LUKS1 header, as bytes.
//!
//! Source: "LUKS On-Disk Format Specification" 1.2.3, figure 1.

use crate::key_slot::KeySlot;
use crate::luks2_copy::{number16, number32, text_bytes};

/// Length of the header in bytes, without the key material.
pub(crate) const LEN: usize = 592;

const MAGIC: &[u8] = b"LUKS\xba\xbe";
/// In the place of the magic while cryptsetup reencrypts the data: `NOMAGIC` of its `utils_reencrypt_luks1.c`.
const REENCRYPTION_MAGIC: &[u8] = b"LUKS\xde\xad";
const FIRST_SLOT: usize = 208;
const SLOT_LEN: usize = 48;
const SALT_LEN: usize = 32;
/// `LUKS_KEY_ENABLED`.
const ENABLED: u32 = 0x00ac_71f3;

/// What of a LUKS1 header libcryptsetup's own functions don't tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Luks1Header {
    pub(crate) uuid: String,
    pub(crate) cipher: String,
    pub(crate) hash: String,
    pub(crate) data_offset_sectors: u32,
    pub(crate) digest_iterations: u32,
    slots: [Slot; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    active: bool,
    iterations: u32,
    /// Random with every key that is put into the slot.
    salt: [u8; SALT_LEN],
}

impl Luks1Header {
    /// Iterations of PBKDF2 in a slot that is in use.
    pub(crate) fn active_iterations(&self, slot: KeySlot) -> Option<u32> {
        let slot = self.slots.get(usize::from(slot.get()))?;
        slot.active.then_some(slot.iterations)
    }

    /// Whether a slot is in use and the same in both headers.
    pub(crate) fn has_slot_of(&self, other: &Self, slot: KeySlot) -> bool {
        let place = usize::from(slot.get());
        self.slots.get(place).is_some_and(|slot| slot.active)
            && self.slots.get(place) == other.slots.get(place)
    }
}

pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && number16(bytes, 6) == Some(1)
}

/// Whether cryptsetup has made the header unusable while it reencrypts the data.
pub(crate) fn has_reencryption_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(REENCRYPTION_MAGIC) && number16(bytes, 6) == Some(1)
}

/// Reads a header; `None` when it isn't one or is cut off.
pub(crate) fn parse(bytes: &[u8]) -> Option<Luks1Header> {
    if !has_magic(bytes) {
        return None;
    }
    let whole = bytes.get(..LEN)?;
    let text = |range| String::from_utf8_lossy(text_bytes(whole.get(range).unwrap_or_default())).into_owned();
    let mut slots = [Slot::default(); 8];
    for (number, slot) in slots.iter_mut().enumerate() {
        let start = FIRST_SLOT + number * SLOT_LEN;
        slot.active = number32(whole, start)? == ENABLED;
        slot.iterations = number32(whole, start + 4)?;
        slot.salt = *whole.get(start + 8..)?.first_chunk()?;
    }
    Some(Luks1Header {
        uuid: text(168..208),
        cipher: format!("{}-{}", text(8..40), text(40..72)),
        hash: text(72..104),
        data_offset_sectors: number32(whole, 104)?,
        digest_iterations: number32(whole, 164)?,
        slots,
    })
}
