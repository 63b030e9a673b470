//! A LUKS1 header, as bytes.
//!
//! Source: "LUKS On-Disk Format Specification" 1.2.3, figure 1.

use std::collections::BTreeMap;

use super::key_slot::KeySlot;
use super::luks2_copy::{number16, number32, text_bytes};

/// Length of the header in bytes, without the key material.
pub(crate) const LEN: usize = 592;

const MAGIC: &[u8] = b"LUKS\xba\xbe";
/// In the place of the magic while cryptsetup reencrypts the data: `NOMAGIC` of its `utils_reencrypt_luks1.c`.
const REENCRYPTION_MAGIC: &[u8] = b"LUKS\xde\xad";
const FIRST_SLOT: usize = 208;
const SLOT_LEN: usize = 48;
const SALT_LEN: usize = 32;
const SECTOR: u64 = 512;
/// `LUKS_KEY_ENABLED` and `LUKS_KEY_DISABLED`.
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;
/// `LUKS_STRIPES`, the only number that libcryptsetup knows.
const STRIPES: u32 = 4000;
/// Bytes; where key material begins at the earliest, behind the header, and where all of it ends at the latest.
const FIRST_MATERIAL: u64 = 1024;
const LAST_MATERIAL: u64 = 16 << 20;
/// Bytes; no cipher takes more.
const LONGEST_KEY: u32 = 256;

/// A LUKS1 header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Luks1Header {
    pub(crate) uuid: String,
    pub(crate) cipher: String,
    pub(crate) hash: String,
    pub(crate) data_offset_sectors: u32,
    pub(crate) key_bytes: u32,
    digest: [u8; 20],
    digest_salt: [u8; SALT_LEN],
    pub(crate) digest_iterations: u32,
    slots: [Slot; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    state: u32,
    active: bool,
    iterations: u32,
    /// Random with every key that is put into the slot.
    salt: [u8; SALT_LEN],
    material_sector: u32,
    stripes: u32,
}

impl Luks1Header {
    /// Iterations of PBKDF2 in a slot that is in use.
    pub(crate) fn active_iterations(&self, slot: KeySlot) -> Option<u32> {
        let slot = self.slots.get(usize::from(slot.get()))?;
        slot.active.then_some(slot.iterations)
    }

    /// Everything but the key slots, by its name in the specification.
    pub(crate) fn identity(&self) -> BTreeMap<String, String> {
        let fields = [
            ("cipher", self.cipher.clone()),
            ("hash", self.hash.clone()),
            ("payload offset", self.data_offset_sectors.to_string()),
            ("key bytes", self.key_bytes.to_string()),
            ("digest", hexadecimal(&self.digest)),
            ("digest salt", hexadecimal(&self.digest_salt)),
            ("digest iterations", self.digest_iterations.to_string()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What is said of a slot in use.
    pub(crate) fn slot_fields(&self, slot: KeySlot) -> Option<BTreeMap<String, String>> {
        let slot = self.slots.get(usize::from(slot.get())).filter(|slot| slot.active)?;
        let fields = [
            ("iterations", slot.iterations.to_string()),
            ("salt", hexadecimal(&slot.salt)),
            ("material", slot.material_sector.to_string()),
        ];
        Some(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Where a slot's key material lies, in bytes: start and length.
    pub(crate) fn material(&self, slot: KeySlot) -> Option<(u64, u64)> {
        let slot = self.slots.get(usize::from(slot.get()))?;
        let len = (u64::from(self.key_bytes) * u64::from(STRIPES)).next_multiple_of(SECTOR);
        Some((u64::from(slot.material_sector) * SECTOR, len))
    }

    /// Where the key material of all slots ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        let ends = KeySlot::first(8).filter_map(|slot| self.material(slot)).map(|(start, len)| start + len);
        ends.max().unwrap_or_default()
    }

    /// What is impossible about the slots and the sizes.
    pub(crate) fn nonsense(&self) -> Option<String> {
        if !(1..=LONGEST_KEY).contains(&self.key_bytes) {
            return Some(format!("its key has {} bytes", self.key_bytes));
        }
        if self.hash.is_empty() || self.digest_iterations == 0 {
            return Some("its digest can't tell a right key from a wrong one".to_owned());
        }
        KeySlot::first(8).zip(&self.slots).find_map(|(number, slot)| {
            if !matches!(slot.state, ENABLED | DISABLED) {
                return Some(format!("slot {number} is neither in use nor free"));
            }
            let (start, len) = self.material(number)?;
            // A converted header describes the slots that it doesn't use, and so does every other one.
            let fits = start >= FIRST_MATERIAL && start + len <= LAST_MATERIAL;
            let before_data =
                self.data_offset_sectors == 0 || start + len <= u64::from(self.data_offset_sectors) * SECTOR;
            (slot.stripes != STRIPES || !fits || (slot.active && !before_data))
                .then(|| format!("the key material of slot {number} has an impossible place or size"))
        })
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
        slot.state = number32(whole, start)?;
        slot.active = slot.state == ENABLED;
        slot.iterations = number32(whole, start + 4)?;
        slot.salt = *whole.get(start + 8..)?.first_chunk()?;
        slot.material_sector = number32(whole, start + 40)?;
        slot.stripes = number32(whole, start + 44)?;
    }
    Some(Luks1Header {
        uuid: text(168..208),
        cipher: format!("{}-{}", text(8..40), text(40..72)),
        hash: text(72..104),
        data_offset_sectors: number32(whole, 104)?,
        key_bytes: number32(whole, 108)?,
        digest: *whole.get(112..)?.first_chunk()?,
        digest_salt: *whole.get(132..)?.first_chunk()?,
        digest_iterations: number32(whole, 164)?,
        slots,
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
