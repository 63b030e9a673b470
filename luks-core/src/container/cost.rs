//! How long a header makes everybody wait who tries a key.
//!
//! A header may ask for four thousand million iterations, or for a few million in each of 32 slots; libcryptsetup would
//! obey for hours and can't be interrupted.

use std::sync::OnceLock;

use serde_json::Value;

use super::enrolment::volume_key_digest;
use crate::header::disk_header::{DiskHeader, SoundHeader};
use crate::header::key_slot::KeySlot;
use crate::header::luks1_header::Luks1Header;

/// Far above what cryptsetup chooses for its default of two seconds (some ten million on a fast machine).
const MAX_ITERATIONS: u64 = 200_000_000;
/// Passes times KiB: 64 passes over the 4 GiB that libcryptsetup allows at most; its default is some 4 over 1 GiB.
const MAX_ARGON_WORK: u64 = 64 * 4 * 1024 * 1024;
/// Maximum number of threads; libcryptsetup itself uses four. Argon2 takes 8 KiB for each, whatever the memory says.
const MAX_THREADS: u64 = 64;

/// What opening a container may cost in all, in iterations of a hash: half a minute on a slow machine. cryptsetup chooses
/// some ten million for one slot.
pub(crate) const BUDGET: u64 = 100_000_000;
/// Maximum memory of one derivation in KiB, the default maximum of cryptsetup. A smaller machine takes three quarters of
/// what it has.
const MAX_MEMORY: u64 = 1024 * 1024;
/// Argon2's work on one KiB, in iterations of a hash.
const ARGON_WEIGHT: u64 = 2;

/// What it costs to try a key in a slot, in iterations of a hash: the key is derived, and what it gives is compared with the
/// digest. The maximum for what takes too much memory, which is never tried.
pub(crate) fn of_try(header: &SoundHeader, slot: KeySlot) -> u64 {
    of_slot(header, slot).saturating_add(of_digest(header))
}

/// What it costs to compare a volume key with the digest.
fn of_digest(header: &SoundHeader) -> u64 {
    match header {
        SoundHeader::Luks1(header) => header.digest_iterations.into(),
        SoundHeader::Luks2(copy) => volume_key_digest(&copy.metadata)
            .and_then(|(_, digest)| digest.get("iterations")?.as_u64())
            .unwrap_or(u64::MAX),
    }
}

/// Memory in KiB that one derivation may take on this machine.
fn max_memory() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| match nix::sys::sysinfo::sysinfo() {
        Ok(machine) => (machine.ram_total() / 1024 / 4 * 3).min(MAX_MEMORY),
        Err(_) => MAX_MEMORY,
    })
}

fn of_slot(header: &SoundHeader, slot: KeySlot) -> u64 {
    let iterated = |iterations: u64, hash: &str, key_len: u64| {
        iterations.saturating_mul(key_len.div_ceil(hash_len(hash)))
    };
    match header {
        SoundHeader::Luks1(header) => {
            let iterations = header.active_iterations(slot).unwrap_or(u32::MAX);
            iterated(iterations.into(), &header.hash, header.key_bytes.into())
        }
        SoundHeader::Luks2(copy) => {
            let field = |place: &str| copy.metadata.pointer(&format!("/keyslots/{slot}/{place}"));
            let number = |place: &str| field(place).and_then(Value::as_u64);
            let hash = field("kdf/hash").and_then(Value::as_str).unwrap_or_default();
            match (number("kdf/iterations"), number("kdf/time"), number("kdf/memory")) {
                (Some(iterations), None, None) => {
                    iterated(iterations, hash, number("area/key_size").unwrap_or(u64::MAX))
                }
                (None, Some(passes), Some(memory)) if memory <= max_memory() => {
                    passes.saturating_mul(memory).saturating_mul(ARGON_WEIGHT)
                }
                _ => u64::MAX,
            }
        }
    }
}

/// Bytes that one run of PBKDF2 gives; of an unknown hash the fewest.
fn hash_len(hash: &str) -> u64 {
    match hash {
        "sha512" => 64,
        "sha384" => 48,
        "sha256" => 32,
        "sha224" => 28,
        _ => 20,
    }
}

/// Says what is absurd about the cost of opening; `None` when nothing is.
pub(crate) fn absurdity(header: &DiskHeader) -> Option<String> {
    match header {
        DiskHeader::Luks1(header) => luks1(header),
        DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => luks2(&copy.metadata),
        DiskHeader::NotLuks | DiskHeader::Luks1Reencryption | DiskHeader::Ruined { .. } => None,
    }
}

fn luks1(header: &Luks1Header) -> Option<String> {
    let slots = KeySlot::first(8).filter_map(|slot| {
        let iterations = header.active_iterations(slot)?.into();
        iterations_are_absurd(iterations).then(|| format!("slot {slot} asks for {iterations} iterations"))
    });
    let digest = u64::from(header.digest_iterations);
    let digest = (digest > BUDGET).then(|| format!("its digest asks for {digest} iterations"));
    slots.chain(digest).next()
}

fn luks2(metadata: &Value) -> Option<String> {
    let entries = |name: &str| metadata.get(name).and_then(Value::as_object).into_iter().flatten();
    let slots = entries("keyslots").filter_map(|(slot, value)| {
        Some(format!("slot {slot} asks for {}", absurd_derivation(value.get("kdf")?)?))
    });
    let digests = entries("digests")
        .filter_map(|(_, digest)| Some(format!("its digest asks for {}", absurd_digest(digest)?)));
    slots.chain(digests).next()
}

/// libcryptsetup casts whatever number is there to 32 bits, so a negative one is a huge one.
fn absurd_derivation(kdf: &Value) -> Option<String> {
    let number = |name: &str| kdf.get(name).map(|value| value.as_u64().ok_or_else(|| short(value)));
    match number("iterations") {
        Some(Err(text)) => return Some(format!("{text} iterations")),
        Some(Ok(count)) if iterations_are_absurd(count) => return Some(format!("{count} iterations")),
        _ => {}
    }
    if let Some(threads) = kdf.get("cpus")
        && threads.as_u64().is_none_or(|threads| threads == 0 || threads > MAX_THREADS)
    {
        return Some(format!("{} threads", short(threads)));
    }
    let passes = number("time")?;
    let memory = number("memory")?;
    match (passes, memory) {
        (Ok(passes), Ok(memory)) if passes.saturating_mul(memory) <= MAX_ARGON_WORK => None,
        (passes, memory) => {
            let show =
                |number: Result<u64, String>| number.map_or_else(|text| text, |number| number.to_string());
            Some(format!("{} passes over {} KiB", show(passes), show(memory)))
        }
    }
}

fn absurd_digest(digest: &Value) -> Option<String> {
    let costly = |digest: &Value| digest.get("iterations")?.as_u64().filter(|count| *count > BUDGET);
    absurd_derivation(digest).or_else(|| costly(digest).map(|count| format!("{count} iterations")))
}

/// A foreign value, fit for a message.
fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn iterations_are_absurd(iterations: u64) -> bool {
    iterations > MAX_ITERATIONS
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slot(kdf: &Value) -> Option<String> {
        luks2(&json!({"keyslots": {"3": {"kdf": kdf}}}))
    }

    #[test]
    fn what_cryptsetup_chooses_is_not_absurd() {
        for kdf in [
            json!({"type": "pbkdf2", "hash": "sha256", "iterations": 1000}),
            json!({"type": "pbkdf2", "hash": "sha512", "iterations": 30_000_000}),
            json!({"type": "argon2id", "time": 4, "memory": 1_048_576, "cpus": 4}),
            json!({"type": "argon2id", "time": 64, "memory": 4_194_304, "cpus": 4}),
            json!({"type": "unknown"}),
        ] {
            assert_eq!(slot(&kdf), None);
        }
        assert_eq!(luks2(&json!({})), None);
        assert_eq!(luks2(&json!({"keyslots": [], "digests": 1})), None);
    }

    #[test]
    fn hours_and_negative_numbers_are() {
        for kdf in [
            json!({"iterations": 200_000_001_u64}),
            json!({"iterations": -1}),
            json!({"iterations": "1000"}),
            json!({"iterations": 1e30}),
            json!({"time": 65, "memory": 4_194_304}),
            json!({"time": -1, "memory": 32}),
            json!({"time": u64::MAX, "memory": u64::MAX}),
            json!({"time": 4, "memory": 32, "cpus": 16_000_000}),
            json!({"time": 4, "memory": 32, "cpus": 0}),
        ] {
            assert!(slot(&kdf).is_some_and(|text| text.starts_with("slot 3 asks for ")), "{kdf}");
        }
        let digest = json!({"digests": {"0": {"iterations": 4_294_967_295_u64}}});
        assert_eq!(luks2(&digest).unwrap(), "its digest asks for 4294967295 iterations");
    }
}
