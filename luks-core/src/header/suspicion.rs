//! What a changed header could do although libcryptsetup accepts it.
//!
//! Nothing authenticates LUKS metadata: whoever had a drive in his hands may have changed it, without knowing a key.
//! The checks here are about promises of this crate: a key that is said to open a container opens it, what is written
//! to a mapping is encrypted, and no write to a mapping reaches the header.

use serde_json::Value;

use super::disk_header::{DiskHeader, SoundHeader};
use super::key_slot::KeySlot;
use super::luks1_header::Luks1Header;
use super::luks2_copy::Copy;

/// Length of LUKS1's digest, which converted containers keep; LUKS2 makes 32 bytes.
const SHORTEST_DIGEST: usize = 20;
/// Hashes that every build of every crypto library has; of others it must be seen whether they can be computed.
const COMMON_HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];
/// Bytes; LUKS1 and LUKS2 both make 32.
const SHORTEST_SALT: usize = 8;
/// Bytes; no cipher takes more than 128. libcryptsetup would allocate thousands of times as much.
const LONGEST_KEY: u64 = 4096;
/// `LUKS_STRIPES`, the only number that libcryptsetup knows.
const STRIPES: u64 = 4000;
const SECTOR: u64 = 512;
/// Maximum number of characters of foreign text in a message.
const SHOWN: usize = 60;

/// Why a header must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Objection {
    /// In a form that fits after "not to be trusted:".
    Suspicious(String),
    /// What the header requires of whoever opens it.
    Requirements(String),
}

/// Says what forbids the use of a header. The data of a detached header lie elsewhere.
pub(crate) fn about(header: &DiskHeader, detached: bool) -> Option<Objection> {
    match header {
        DiskHeader::Luks1(header) => luks1(header, detached).map(Objection::Suspicious),
        DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => luks2(copy, detached),
        DiskHeader::NotLuks | DiskHeader::Luks1Reencryption | DiskHeader::Ruined { .. } => None,
    }
}

fn luks1(header: &Luks1Header, detached: bool) -> Option<String> {
    if encrypts_nothing(&header.cipher) {
        return Some(format!("its cipher '{}' encrypts nothing", header.cipher.escape_debug()));
    }
    if header.data_offset_sectors == 0 && !detached {
        return Some("its data lies on its header".to_owned());
    }
    header.nonsense()
}

fn luks2(copy: &Copy, detached: bool) -> Option<Objection> {
    let metadata = &copy.metadata;
    required(metadata).or_else(|| {
        let header_end = if detached { 0 } else { header_end(copy) };
        digests(metadata)
            .or_else(|| segments(metadata, header_end))
            .or_else(|| keyslots(copy))
            .map(Objection::Suspicious)
    })
}

fn entries<'a>(metadata: &'a Value, section: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    metadata.get(section).and_then(Value::as_object).into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn required(metadata: &Value) -> Option<Objection> {
    let requirements = metadata.pointer("/config/requirements")?;
    let names = match requirements.get("mandatory").and_then(Value::as_array) {
        Some(names) => names.iter().map(|name| name.as_str().unwrap_or("?")).map(shown).collect::<Vec<_>>(),
        None if requirements.as_object().is_some_and(serde_json::Map::is_empty) => Vec::new(),
        None => vec!["what can't be read".to_owned()],
    };
    (!names.is_empty()).then(|| Objection::Requirements(names.join(", ")))
}

fn digests(metadata: &Value) -> Option<String> {
    let only = entries(metadata, "digests").count() == 1;
    let weak = entries(metadata, "digests").find_map(|(name, digest)| {
        let missing = digest_weakness(digest, only)?;
        Some(format!("digest {} can't tell a right key from a wrong one, {missing}", shown(name)))
    });
    let of_data = |digest: &Value| {
        let segments = digest.get("segments").and_then(Value::as_array);
        segments.is_some_and(|segments| !segments.is_empty())
    };
    weak.or_else(|| match entries(metadata, "digests").filter(|(_, digest)| of_data(digest)).count() {
        1 => None,
        count => Some(format!("its data have {count} digests, not one")),
    })
}

fn segments(metadata: &Value, header_end: u64) -> Option<String> {
    let suspicion = entries(metadata, "segments")
        .find_map(|(name, segment)| segment_suspicion(&shown(name), segment, header_end));
    suspicion.or_else(|| {
        let names: Vec<_> = entries(metadata, "segments").map(|(name, _)| name.as_str()).collect();
        (names != ["0"]).then(|| format!("it has {} segments, not the one with number 0", names.len()))
    })
}

fn keyslots(copy: &Copy) -> Option<String> {
    entries(&copy.metadata, "keyslots").find_map(|(name, slot)| {
        let number = name.parse::<KeySlot>().ok().filter(|slot| slot.to_string() == *name);
        match number {
            None => Some(format!("a slot is named '{}'", shown(name))),
            Some(number) => slot_suspicion(slot, header_end(copy)).map(|why| format!("slot {number} {why}")),
        }
    })
}

/// What is suspicious about a key slot, in a form that fits after "slot 1".
fn slot_suspicion(slot: &Value, header_end: u64) -> Option<String> {
    let of = |field: &str| slot.get(field).unwrap_or(&Value::Null);
    let (af, area, kdf) = (of("af"), of("area"), of("kdf"));
    let kdf_fields: &[&str] = match text(kdf, "type") {
        "pbkdf2" => &["type", "salt", "hash", "iterations"],
        "argon2i" | "argon2id" => &["type", "salt", "time", "memory", "cpus"],
        other => return Some(format!("derives its key in the unknown way '{}'", shown(other))),
    };
    for (what, found, known) in [
        ("", text(slot, "type"), "luks2"),
        ("area ", text(area, "type"), "raw"),
        ("splitting ", text(af, "type"), "luks1"),
    ] {
        if found != known {
            return Some(format!("is of the unknown {what}kind '{}'", shown(found)));
        }
    }
    let known: [(&Value, &[&str]); 4] = [
        (slot, &["type", "key_size", "af", "area", "kdf", "priority"]),
        (area, &["type", "offset", "size", "encryption", "key_size"]),
        (af, &["type", "stripes", "hash"]),
        (kdf, kdf_fields),
    ];
    if let Some(field) = known.iter().find_map(|(value, fields)| unknown_field(value, fields)) {
        return Some(format!("has the unknown field '{}'", shown(field)));
    }
    if encrypts_nothing(text(area, "encryption")) {
        return Some("keeps its key material unencrypted".to_owned());
    }
    for size in [of("key_size"), area.get("key_size").unwrap_or(&Value::Null)] {
        if size.as_u64().is_none_or(|size| size == 0 || size > LONGEST_KEY) {
            return Some(format!("has a key of {} bytes", shown(&size.to_string())));
        }
    }
    let number = |field: &str| text(area, field).parse::<u64>().ok();
    let fits = number("offset").zip(number("size")).is_some_and(|(offset, size)| {
        let len = af_len(of("key_size").as_u64().unwrap_or(LONGEST_KEY));
        size >= len && offset.checked_add(size).is_some_and(|end| end <= header_end)
    });
    (!fits).then(|| "has its key material in an impossible place".to_owned())
}

/// Length in bytes of key material on the disk, by the length of the key in it.
pub(crate) fn af_len(key_size: u64) -> u64 {
    (key_size * STRIPES).next_multiple_of(SECTOR)
}

fn unknown_field<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    let fields = object.as_object()?.keys().map(String::as_str);
    fields.into_iter().find(|field| !known.contains(field))
}

/// Foreign text, fit for a message.
fn shown(text: &str) -> String {
    text.escape_debug().take(SHOWN).collect()
}

/// Whether it must be seen that the digest refuses a wrong volume key: its hash is one that not every crypto library has.
pub(crate) fn has_uncommon_digest(header: &SoundHeader) -> bool {
    let SoundHeader::Luks2(copy) = header else { return false };
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
    let kind = text(segment, "type");
    if kind != "crypt" {
        return Some(format!("segment {name} is of the unknown kind '{}', not encrypted", shown(kind)));
    }
    if encrypts_nothing(text(segment, "encryption")) {
        return Some(format!("segment {name} is not encrypted"));
    }
    let known = ["type", "offset", "size", "iv_tweak", "encryption", "sector_size", "integrity", "flags"];
    let integrity = segment.get("integrity").unwrap_or(&Value::Null);
    let known_tags = ["type", "journal_encryption", "journal_integrity"];
    if let Some(field) = unknown_field(segment, &known).or_else(|| unknown_field(integrity, &known_tags)) {
        return Some(format!("segment {name} has the unknown field '{}'", shown(field)));
    }
    match text(segment, "offset").parse::<u64>() {
        Ok(offset) if offset >= header_end => {}
        _ => return Some(format!("segment {name} lies on the header")),
    }
    let sector = segment.get("sector_size").and_then(Value::as_u64);
    (!matches!(sector, Some(512 | 1024 | 2048 | 4096)))
        .then(|| format!("segment {name} has an impossible sector size"))
}

/// Where the area of the key slots ends.
pub(crate) fn header_end(copy: &Copy) -> u64 {
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
