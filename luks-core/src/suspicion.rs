//! What a changed header could do although libcryptsetup accepts it.
//!
//! Nothing authenticates LUKS metadata: whoever had a drive in his hands may have changed it, without knowing a key.
//! The checks here are about promises of this crate: a key that is said to open a container opens it, what is written
//! to a mapping is encrypted, and no write to a mapping reaches the header.

use serde_json::Value;

use crate::disk_header::DiskHeader;
use crate::luks1_header::Luks1Header;
use crate::luks2_copy::Copy;

/// Length of LUKS1's digest, which converted containers keep; LUKS2 makes 32 bytes.
const SHORTEST_DIGEST: usize = 20;
/// Hashes that every build of every crypto library has; of others it must be seen whether they can be computed.
const COMMON_HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];
/// Bytes; LUKS1 and LUKS2 both make 32.
const SHORTEST_SALT: usize = 8;
/// Bytes; no cipher takes more than 128. libcryptsetup would allocate thousands of times as much.
const LONGEST_KEY: u64 = 4096;

/// Says what is suspicious about a header, in a form that fits after "not to be trusted:". The data of a detached header
/// lie elsewhere.
pub(crate) fn about(header: &DiskHeader, detached: bool) -> Option<String> {
    match header {
        DiskHeader::Luks1(header) => luks1(header, detached),
        DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => luks2(copy, detached),
        DiskHeader::NotLuks | DiskHeader::Luks1Reencryption | DiskHeader::Ruined { .. } => None,
    }
}

fn luks1(header: &Luks1Header, detached: bool) -> Option<String> {
    if encrypts_nothing(&header.cipher) {
        return Some(format!("its cipher '{}' encrypts nothing", header.cipher));
    }
    (header.data_offset_sectors == 0 && !detached).then(|| "its data lies on its header".to_owned())
}

fn luks2(copy: &Copy, detached: bool) -> Option<String> {
    let entries = |name: &str| copy.metadata.get(name).and_then(Value::as_object).into_iter().flatten();
    let header_end = if detached { 0 } else { header_end(copy) };
    let segments =
        entries("segments").filter_map(|(name, segment)| segment_suspicion(name, segment, header_end));
    let only = entries("digests").count() == 1;
    let digests = entries("digests").filter_map(|(name, digest)| {
        let missing = digest_weakness(digest, only)?;
        Some(format!("digest {name} can't tell a right key from a wrong one, {missing}"))
    });
    let slots = entries("keyslots").filter_map(|(name, slot)| {
        let sizes = ["/key_size", "/area/key_size"].into_iter().filter_map(|place| slot.pointer(place));
        let absurd = |size: &Value| size.as_u64().is_none_or(|size| size > LONGEST_KEY);
        sizes
            .into_iter()
            .find(|size| absurd(size))
            .map(|size| format!("slot {name} has a key of {size} bytes"))
    });
    segments.chain(digests).chain(slots).next()
}

/// Whether it must be seen that the digest refuses a wrong volume key: its hash is one that not every crypto library has.
pub(crate) fn has_uncommon_digest(header: &DiskHeader) -> bool {
    let DiskHeader::Sound(copy) = header else { return false };
    let digests = copy.metadata.get("digests").and_then(Value::as_object);
    digests.into_iter().flatten().any(|(_, digest)| !has_common_hash(digest))
}

fn has_common_hash(digest: &Value) -> bool {
    let hash = digest.get("hash").and_then(Value::as_str);
    hash.is_some_and(|hash| COMMON_HASHES.contains(&hash))
}

/// What keeps a digest from proving a key.
///
/// libcryptsetup 2.6 compares as many bytes as there are, takes what is no string for an empty one, and when its crypto
/// library can't compute a digest (an unknown hash, no salt) every key passes: `cryptsetup open` reports "Key slot 0
/// unlocked" then.
fn digest_weakness(digest: &Value, only: bool) -> Option<&'static str> {
    let text = |name: &str| digest.get(name).and_then(Value::as_str);
    let long_enough =
        |name: &str, least: usize| text(name).and_then(base64_len).is_some_and(|len| len >= least);
    if text("type") != Some("pbkdf2") {
        Some("its type is unknown")
    } else if !only && !has_common_hash(digest) {
        // Tried can only be the one that the data belong to, not those that other keys might be checked by.
        Some("its hash is not one that is available everywhere, and there are other digests")
    } else if !long_enough("digest", SHORTEST_DIGEST) {
        Some("it is too short")
    } else if !long_enough("salt", SHORTEST_SALT) {
        Some("its salt is too short")
    } else if digest.get("iterations").and_then(Value::as_u64).is_none_or(|count| count == 0) {
        Some("it has no iterations")
    } else {
        None
    }
}

fn segment_suspicion(name: &str, segment: &Value, header_end: u64) -> Option<String> {
    let text = |field: &str| segment.get(field).and_then(Value::as_str).unwrap_or_default();
    let cipher = text("encryption");
    if text("type") != "crypt" || encrypts_nothing(cipher) {
        return Some(format!("segment {name} is not encrypted"));
    }
    match text("offset").parse::<u64>() {
        Ok(offset) if offset >= header_end => {}
        _ => return Some(format!("segment {name} lies on the header")),
    }
    let sector = segment.get("sector_size").and_then(Value::as_u64);
    (!matches!(sector, Some(512 | 1024 | 2048 | 4096)))
        .then(|| format!("segment {name} has an impossible sector size"))
}

/// Where the area of the key slots ends.
fn header_end(copy: &Copy) -> u64 {
    let area = copy.metadata.pointer("/config/keyslots_size").and_then(Value::as_str);
    let area = area.and_then(|size| size.parse::<u64>().ok()).unwrap_or(u64::MAX);
    copy.size.saturating_mul(2).saturating_add(area)
}

fn encrypts_nothing(cipher: &str) -> bool {
    let name = cipher.split([':', '-']).find(|part| *part != "capi").unwrap_or_default();
    name.is_empty() || cipher.contains("null")
}

/// The number of bytes behind a base64 text; `None` when it isn't one.
fn base64_len(text: &str) -> Option<usize> {
    let symbols = text.trim_end_matches('=');
    let is_symbol = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (text.len() - symbols.len() <= 2 && symbols.bytes().all(is_symbol)).then_some(symbols.len() * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_base64() {
        for (text, len) in
            [("", Some(0)), ("QQ==", Some(1)), ("QUI=", Some(2)), ("QUJD", Some(3)), ("Q Q=", None)]
        {
            assert_eq!(base64_len(text), len, "{text}");
        }
        assert_eq!(base64_len("===="), None);
    }

    #[test]
    fn ciphers_that_encrypt_nothing() {
        for cipher in ["", "null", "cipher_null-ecb", "capi:ecb(cipher_null)-plain", "-"] {
            assert!(encrypts_nothing(cipher), "{cipher}");
        }
        for cipher in ["aes-xts-plain64", "serpent-cbc-essiv:sha256", "capi:xts(aes)-plain64", "aes"] {
            assert!(!encrypts_nothing(cipher), "{cipher}");
        }
    }
}
