//! One copy of a LUKS2 header, as bytes.
//!
//! Source: "LUKS2 On-Disk Format Specification" 1.1.1, chapters 2 and 3 (in cryptsetup's `docs/`).

use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

/// Bytes before the JSON area.
pub(crate) const BINARY_LEN: usize = 4096;
/// Sizes that a copy may have, and so the places where the second one may start.
pub(crate) const SIZES: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

const PRIMARY_MAGIC: &[u8] = b"LUKS\xba\xbe";
const SECONDARY_MAGIC: &[u8] = b"SKUL\xba\xbe";
const CHECKSUM_PLACE: std::ops::Range<usize> = 448..512;

/// The first or the second of LUKS2's two headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderCopy {
    /// At the start of the device.
    Primary,
    /// Right after the primary one, 16 KiB to 4 MiB into the device.
    Secondary,
}

impl HeaderCopy {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

impl std::fmt::Display for HeaderCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// A copy whose checksum is right and whose JSON can be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Copy {
    pub(crate) size: u64,
    pub(crate) sequence: u64,
    pub(crate) uuid: String,
    pub(crate) label: String,
    pub(crate) subsystem: String,
    pub(crate) metadata: Value,
    json: Vec<u8>,
}

impl Copy {
    /// Whether both copies say the same, apart from the sequence number.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.size == other.size
            && self.uuid == other.uuid
            && self.label == other.label
            && self.subsystem == other.subsystem
            && self.json == other.json
    }
}

/// Whether the bytes begin as the given copy of a LUKS2 header does.
pub(crate) fn has_magic(bytes: &[u8], which: HeaderCopy) -> bool {
    let magic = match which {
        HeaderCopy::Primary => PRIMARY_MAGIC,
        HeaderCopy::Secondary => SECONDARY_MAGIC,
    };
    bytes.starts_with(magic) && number16(bytes, 6) == Some(2)
}

/// The size that a copy's binary part claims, when it is a possible one.
pub(crate) fn claimed_size(bytes: &[u8]) -> Option<u64> {
    number64(bytes, 8).filter(|size| SIZES.contains(size))
}

/// Reads a whole copy (binary part and JSON area) that lies `offset` bytes into the device.
///
/// The error says what is wrong, in a form that fits after "the primary copy".
pub(crate) fn parse(bytes: &[u8], which: HeaderCopy, offset: u64) -> Result<Copy, String> {
    if !has_magic(bytes, which) {
        return Err("has no LUKS2 signature".to_owned());
    }
    let size = claimed_size(bytes).ok_or("claims an impossible size")?;
    let whole = usize::try_from(size)
        .ok()
        .and_then(|size| bytes.get(..size))
        .ok_or_else(|| format!("is cut off, {} of {size} bytes are there", bytes.len()))?;
    let claimed_offset = number64(whole, 256);
    if claimed_offset != Some(offset) {
        return Err("is not at the place that it names".to_owned());
    }
    verify_checksum(whole)?;
    let json = text_bytes(whole.get(BINARY_LEN..).unwrap_or_default());
    let metadata: Value =
        serde_json::from_slice(json).map_err(|error| format!("has unreadable JSON: {error}"))?;
    if !metadata.is_object() {
        return Err("has no JSON object".to_owned());
    }
    let text = |range| String::from_utf8_lossy(text_bytes(whole.get(range).unwrap_or_default())).into_owned();
    Ok(Copy {
        size,
        sequence: number64(whole, 16).unwrap_or_default(),
        label: text(24..72),
        uuid: text(168..208),
        subsystem: text(208..256),
        metadata,
        json: json.to_owned(),
    })
}

fn verify_checksum(whole: &[u8]) -> Result<(), String> {
    let (Some(before), Some(stored), Some(after)) =
        (whole.get(..CHECKSUM_PLACE.start), whole.get(CHECKSUM_PLACE), whole.get(CHECKSUM_PLACE.end..))
    else {
        return Err("is cut off".to_owned());
    };
    let zeros = [0_u8; 64];
    let parts: [&[u8]; 3] = [before, &zeros, after];
    let algorithm = text_bytes(whole.get(72..104).unwrap_or_default());
    let right = match algorithm {
        b"sha256" => digest_matches::<Sha256>(&parts, stored),
        b"sha512" => digest_matches::<Sha512>(&parts, stored),
        _ => {
            let name = String::from_utf8_lossy(algorithm);
            return Err(format!("uses the checksum '{}', which is not known", name.escape_debug()));
        }
    };
    if right { Ok(()) } else { Err("has a wrong checksum".to_owned()) }
}

/// Both copies of a header with this JSON, one behind the other; `None` when the JSON doesn't fit.
pub(crate) fn encode(size: u64, uuid: &str, json: &[u8]) -> Option<Vec<u8>> {
    let mut copies = Vec::new();
    for (magic, offset) in [(PRIMARY_MAGIC, 0), (SECONDARY_MAGIC, size)] {
        let mut copy = vec![0; usize::try_from(size).ok()?];
        // A NUL must remain behind each text.
        put(&mut copy, 0..8, magic)?;
        put(&mut copy, 6..8, &2_u16.to_be_bytes())?;
        put(&mut copy, 8..16, &size.to_be_bytes())?;
        put(&mut copy, 16..24, &1_u64.to_be_bytes())?;
        put(&mut copy, 72..103, b"sha256")?;
        put(&mut copy, 168..207, uuid.as_bytes())?;
        put(&mut copy, 256..264, &offset.to_be_bytes())?;
        put(&mut copy, BINARY_LEN..usize::try_from(size).ok()?.checked_sub(1)?, json)?;
        let digest = Sha256::digest(&copy);
        put(&mut copy, CHECKSUM_PLACE, &digest)?;
        copies.extend(copy);
    }
    Some(copies)
}

fn put(bytes: &mut [u8], place: std::ops::Range<usize>, what: &[u8]) -> Option<()> {
    bytes.get_mut(place)?.get_mut(..what.len())?.copy_from_slice(what);
    Some(())
}

fn digest_matches<D: Digest>(parts: &[&[u8]], stored: &[u8]) -> bool {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    stored.starts_with(&digest.finalize())
}

/// The bytes up to the first NUL.
pub(crate) fn text_bytes(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

pub(crate) fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

pub(crate) fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SIZE: usize = 0x4000;

    fn sealed(which: HeaderCopy, offset: u64, json: &str) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        let magic = match which {
            HeaderCopy::Primary => PRIMARY_MAGIC,
            HeaderCopy::Secondary => SECONDARY_MAGIC,
        };
        bytes[..6].copy_from_slice(magic);
        bytes[7] = 2;
        bytes[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
        bytes[16..24].copy_from_slice(&7_u64.to_be_bytes());
        bytes[24..28].copy_from_slice(b"blue");
        bytes[72..78].copy_from_slice(b"sha256");
        bytes[168..172].copy_from_slice(b"uuid");
        bytes[256..264].copy_from_slice(&offset.to_be_bytes());
        bytes[BINARY_LEN..BINARY_LEN + json.len()].copy_from_slice(json.as_bytes());
        let digest = Sha256::digest(&bytes);
        bytes[448..480].copy_from_slice(&digest);
        bytes
    }

    #[test]
    fn a_right_copy_is_read() {
        for (which, offset) in [(HeaderCopy::Primary, 0), (HeaderCopy::Secondary, 0x4000)] {
            let copy = parse(&sealed(which, offset, "{\"a\":1}"), which, offset).unwrap();
            assert_eq!((copy.size, copy.sequence), (0x4000, 7));
            assert_eq!(
                (copy.label.as_str(), copy.uuid.as_str(), copy.subsystem.as_str()),
                ("blue", "uuid", "")
            );
            assert_eq!(copy.metadata, json!({"a": 1}));
        }
    }

    #[test]
    fn a_copy_is_read_in_its_own_place_only() {
        let bytes = sealed(HeaderCopy::Primary, 0, "{}");
        assert!(parse(&bytes, HeaderCopy::Secondary, 0).is_err());
        assert!(parse(&bytes, HeaderCopy::Primary, 0x4000).is_err());
        assert!(parse(&bytes[..SIZE - 1], HeaderCopy::Primary, 0).is_err());
    }

    proptest! {
        #[test]
        fn every_changed_bit_is_noticed(at in 0..SIZE, bit in 0..8_u32) {
            let mut bytes = sealed(HeaderCopy::Primary, 0, "{}");
            let stored = 480..512;
            prop_assume!(!stored.contains(&at)); // beyond a SHA-256 the checksum's field is unused
            bytes[at] ^= 1 << bit;
            prop_assert!(parse(&bytes, HeaderCopy::Primary, 0).is_err());
        }

        #[test]
        fn random_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..1200), magic: bool) {
            if magic {
                for (to, from) in bytes.iter_mut().zip(b"LUKS\xba\xbe\0\x02\0\0\0\0\0\0\x40\0") {
                    *to = *from;
                }
            }
            prop_assert!(parse(&bytes, HeaderCopy::Primary, 0).is_err());
            let _any = crate::header::luks1_header::parse(&bytes);
        }
    }
}
