//! Headers of containers whose data are being reencrypted.
//!
//! Until the reencryption has ended, the data lie under two volume keys, and the header keeps account of what lies under
//! which. A key slot that goes then takes data with it, and so does a header of before. Only `cryptsetup reencrypt
//! --resume-only` brings such a container to its end.
//!
//! Sources: "LUKS2 On-Disk Format Specification" 1.1.1, chapters 3.2 and 3.7; for LUKS1 `utils_reencrypt_luks1.c` of
//! cryptsetup.

use serde_json::Value;

use super::disk_header::DiskHeader;

/// Whether a reencryption of the data behind a header was begun and hasn't ended.
pub(crate) fn is_under_way(header: &DiskHeader) -> bool {
    match header {
        DiskHeader::Luks1Reencryption => true,
        DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => luks2(&copy.metadata),
        DiskHeader::Luks1(_) | DiskHeader::NotLuks | DiskHeader::Ruined { .. } => false,
    }
}

/// By the requirement (`online-reencrypt`, `online-reencrypt-v2`, `offline-reencrypt` and whatever comes after them), by
/// the slot that keeps the account, or by the flags of a segment.
fn luks2(metadata: &Value) -> bool {
    let required = metadata.pointer("/config/requirements/mandatory").and_then(Value::as_array);
    let named = |word: &Value| word.as_str().is_some_and(|word| word.contains("reencrypt"));
    let slots = metadata.get("keyslots").and_then(Value::as_object);
    let keeps_account = |slot: &Value| slot.get("type").and_then(Value::as_str) == Some("reencrypt");
    let segments = metadata.get("segments").and_then(Value::as_object);
    let is_flagged = |segment: &Value| {
        segment.get("flags").and_then(Value::as_array).is_some_and(|flags| !flags.is_empty())
    };
    required.into_iter().flatten().any(named)
        || slots.into_iter().flatten().any(|(_, slot)| keeps_account(slot))
        || segments.into_iter().flatten().any(|(_, segment)| is_flagged(segment))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mark_of_a_reencryption_counts() {
        for metadata in [
            json!({"config": {"requirements": {"mandatory": ["online-reencrypt-v2"]}}}),
            json!({"config": {"requirements": {"mandatory": ["other", "offline-reencrypt"]}}}),
            json!({"keyslots": {"1": {"type": "luks2"}, "2": {"type": "reencrypt"}}}),
            json!({"segments": {"0": {"type": "crypt", "flags": ["in-reencryption"]}}}),
        ] {
            assert!(luks2(&metadata), "{metadata}");
        }
        for metadata in [
            json!({}),
            json!({"config": {"requirements": {"mandatory": ["other"]}}, "keyslots": {"1": {"type": "luks2"}}}),
            json!({"config": {"requirements": "reencrypt"}, "keyslots": []}),
        ] {
            assert!(!luks2(&metadata), "{metadata}");
        }
    }
}
