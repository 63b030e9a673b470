//! What identifies a container: everything in its header that stays the same for as long as its data do.
//!
//! Key slots come and go, and so do labels and tokens. The volume key's digest, the place and the cipher of the data and
//! the requirements stay. Compared is what this crate's own parser read; nothing here reads a device.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::load_error::LoadError;
use crate::header::disk_header::SoundHeader;
use crate::header::key_slot::KeySlot;
use crate::header::luks_uuid::LuksUuid;
use crate::header::version::LuksVersion;

/// Separates this use of SHA-256 from every other one.
const DOMAIN: &[u8] = b"offsite luks-core: identity of a container, version 1\0";
/// Maximum number of characters of a header's field in a message.
const SHOWN: usize = 60;

/// Names of fields with their values, such as `segments/0/offset` with `16777216`.
type Fields = BTreeMap<String, String>;

/// A container as it was when it was enrolled: by this, and by nothing that the drive says later, it is opened.
///
/// Made from a header that was read ([`crate::Header::enrolment`]); kept as a header backup or, in short, as its
/// [`EnrolmentDigest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    uuid: LuksUuid,
    version: LuksVersion,
    identity: Fields,
    slots: BTreeMap<KeySlot, Fields>,
}

/// A field of a header that isn't as it was enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its place in the header, such as `segments/0/encryption`.
    pub field: String,
    /// Its value when the container was enrolled; `None` when it had no such field.
    pub enrolled: Option<String>,
    /// Its value now; `None` when it has no such field.
    pub now: Option<String>,
}

/// SHA-256 over what identifies a container, printed as 64 hexadecimal digits.
///
/// Whoever knows it recognises the container again without a copy of its header. It reveals nothing about any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnrolmentDigest([u8; 32]);

/// The text is no digest of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no digest of a container, expected 64 hexadecimal digits")]
pub struct ParseEnrolmentDigestError {
    text: String,
}

/// Why a header is not the enrolled one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// It can't be read, or must not be used whatever was enrolled.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It says something else than the enrolled one.
    #[error("the header of {} is not the one that was enrolled: {}", device.display(), listed(differences))]
    Changed {
        /// The device.
        device: PathBuf,
        /// Every field that differs.
        differences: Vec<Difference>,
    },
    /// Its digest is another one, and nothing more is known about the enrolled header.
    #[error("the header of {} is not the one that was enrolled: its digest is {found}, not {expected}", device.display())]
    OtherDigest {
        /// The device.
        device: PathBuf,
        /// The digest of the enrolled header.
        expected: EnrolmentDigest,
        /// The digest of the header that is there.
        found: EnrolmentDigest,
    },
}

impl Enrolment {
    /// What a judged header says.
    pub(crate) fn of(header: &SoundHeader, uuid: LuksUuid) -> Self {
        match header {
            SoundHeader::Luks1(header) => {
                let slots = KeySlot::first(8).filter_map(|slot| Some((slot, header.slot_fields(slot)?)));
                let identity = header.identity();
                Self { uuid, version: LuksVersion::Luks1, identity, slots: slots.collect() }
            }
            SoundHeader::Luks2(copy) => {
                let identity = luks2_identity(&copy.metadata, copy.size);
                Self { uuid, version: LuksVersion::Luks2, identity, slots: luks2_slots(&copy.metadata) }
            }
        }
    }

    /// The UUID in the header.
    pub fn uuid(&self) -> LuksUuid {
        self.uuid
    }

    /// The version of the format.
    pub fn version(&self) -> LuksVersion {
        self.version
    }

    /// What the container is recognised by when no copy of its header is left.
    pub fn digest(&self) -> EnrolmentDigest {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        for (name, value) in &self.identity {
            for text in [name, value] {
                hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(text);
            }
        }
        EnrolmentDigest(hash.finalize().into())
    }

    /// Every field in which another header's identity differs; key slots are not part of it.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |field: &str, enrolled: Option<&str>, now: Option<&str>| {
            if enrolled != now {
                let owned = |value: Option<&str>| value.map(str::to_owned);
                let (enrolled, now) = (owned(enrolled), owned(now));
                differences.push(Difference { field: field.to_owned(), enrolled, now });
            }
        };
        compare("uuid", Some(&self.uuid.to_string()), Some(&now.uuid.to_string()));
        compare("version", Some(&self.version.to_string()), Some(&now.version.to_string()));
        let names: BTreeSet<&String> = self.identity.keys().chain(now.identity.keys()).collect();
        for name in names {
            let value = |of: &Self| of.identity.get(name).map(String::to_owned);
            compare(name, value(self).as_deref(), value(now).as_deref());
        }
        differences
    }

    /// The key slots that are in use in one of two headers of a container, and aren't the same in both.
    pub fn changed_slots(&self, now: &Self) -> Vec<KeySlot> {
        let all: BTreeSet<KeySlot> = self.slots.keys().chain(now.slots.keys()).copied().collect();
        all.into_iter().filter(|slot| self.slots.get(slot) != now.slots.get(slot)).collect()
    }

    /// Whether a slot is in use and described as in another header, down to its random salt.
    pub(crate) fn has_slot_of(&self, other: &Self, slot: KeySlot) -> bool {
        self.slots.contains_key(&slot) && self.slots.get(&slot) == other.slots.get(&slot)
    }
}

/// The number of the digest that proves the volume key, in a judged header the only one that data belong to.
pub(crate) fn volume_key_digest(metadata: &Value) -> Option<(&String, &Value)> {
    let digests = metadata.get("digests")?.as_object()?;
    digests.iter().find(|(_, digest)| {
        digest.get("segments").and_then(Value::as_array).is_some_and(|segments| !segments.is_empty())
    })
}

fn luks2_identity(metadata: &Value, header_size: u64) -> Fields {
    let mut fields = Fields::from([("header size".to_owned(), header_size.to_string())]);
    if let Some((number, digest)) = volume_key_digest(metadata) {
        flatten(digest, &format!("digests/{number}"), &mut fields);
        let keyslots = format!("digests/{number}/keyslots/");
        fields.retain(|name, _| !name.starts_with(&keyslots));
    }
    for section in ["segments", "config"] {
        flatten(metadata.get(section).unwrap_or(&Value::Null), section, &mut fields);
    }
    fields
}

fn luks2_slots(metadata: &Value) -> BTreeMap<KeySlot, Fields> {
    let slots = metadata.get("keyslots").and_then(Value::as_object).into_iter().flatten();
    let described = slots.filter_map(|(number, slot)| {
        let mut fields = Fields::new();
        flatten(slot, "", &mut fields);
        Some((number.parse().ok()?, fields))
    });
    described.collect()
}

/// All values in a JSON text by their places; an empty list or object has none.
fn flatten(value: &Value, place: &str, fields: &mut Fields) {
    match value {
        Value::Object(entries) => {
            entries.iter().for_each(|(name, value)| flatten(value, &format!("{place}/{name}"), fields));
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(number, value)| flatten(value, &format!("{place}/{number}"), fields));
        }
        Value::String(text) => drop(fields.insert(place.to_owned(), text.clone())),
        // A number or a truth value is something else than the text that looks like it.
        other => drop(fields.insert(format!("{place} (bare)"), other.to_string())),
    }
}

fn listed(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| match value {
            None => "absent".to_owned(),
            Some(text) => text.escape_debug().take(SHOWN).collect(),
        };
        let field: String = self.field.escape_debug().take(SHOWN).collect();
        write!(f, "{field} was {}, is {}", shown(&self.enrolled), shown(&self.now))
    }
}

impl fmt::Display for EnrolmentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for EnrolmentDigest {
    type Err = ParseEnrolmentDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseEnrolmentDigestError { text: text.escape_debug().take(SHOWN).collect() };
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for EnrolmentDigest {
    type Error = ParseEnrolmentDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EnrolmentDigest> for String {
    fn from(digest: EnrolmentDigest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        json!({
            "keyslots": {"1": {"type": "luks2", "key_size": 64, "kdf": {"salt": "AAAA", "iterations": 1000}}},
            "tokens": {},
            "segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
                "encryption": "aes-xts-plain64", "sector_size": 4096}},
            "digests": {"0": {"type": "pbkdf2", "keyslots": ["1"], "segments": ["0"], "hash": "sha256",
                "iterations": 1000, "salt": "c2FsdA==", "digest": "ZGlnZXN0"}},
            "config": {"json_size": "12288", "keyslots_size": "16744448"},
        })
    }

    fn enrolment(metadata: &Value) -> Enrolment {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        let identity = luks2_identity(metadata, 0x4000);
        Enrolment { uuid, version: LuksVersion::Luks2, identity, slots: luks2_slots(metadata) }
    }

    #[test]
    fn the_digest_is_stable() {
        // The value is fixed: a change would make every enrolled drive a stranger.
        let expected = "4237041805e978021b7fea7bd753b2b8e6809413ec7116399ed3b3e230bacbbb";
        let digest = enrolment(&metadata()).digest();
        assert_eq!(digest.to_string(), expected);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(
            serde_json::from_str::<EnrolmentDigest>(&serde_json::to_string(&digest).unwrap()).unwrap(),
            digest
        );
    }

    #[test]
    fn key_slots_tokens_and_their_lists_may_differ() {
        let enrolled = enrolment(&metadata());
        let mut now = metadata();
        now["keyslots"]["5"] = now["keyslots"]["1"].clone();
        now["keyslots"]["5"]["kdf"]["salt"] = json!("BBBB");
        now["digests"]["0"]["keyslots"] = json!(["1", "5"]);
        now["digests"]["1"] = json!({"type": "pbkdf2", "keyslots": ["9"], "segments": []});
        now["tokens"] = json!({"0": {"type": "systemd-tpm2"}});
        let now = enrolment(&now);
        assert_eq!(enrolled.differences(&now), []);
        assert_eq!(enrolled.digest(), now.digest());
        assert_eq!(enrolled.changed_slots(&now), [KeySlot::new(5).unwrap()]);
        assert!(now.has_slot_of(&enrolled, KeySlot::ONE));
    }

    #[test]
    fn each_difference_is_named_with_both_values() {
        let mut now = metadata();
        now["segments"]["0"]["encryption"] = json!("cipher_null-ecb");
        now["config"]["flags"] = json!(["allow-discards"]);
        now["digests"]["0"]["iterations"] = json!("1000");
        let differences = enrolment(&metadata()).differences(&enrolment(&now));
        let said = listed(&differences);
        assert!(said.contains("segments/0/encryption was aes-xts-plain64, is cipher_null-ecb"), "{said}");
        assert!(said.contains("config/flags/0 was absent, is allow-discards"), "{said}");
        assert!(said.contains("digests/0/iterations (bare) was 1000, is absent"), "{said}");
        assert_ne!(enrolment(&metadata()).digest(), enrolment(&now).digest());
    }

    #[test]
    fn foreign_text_is_escaped_and_bounded() {
        let mut now = metadata();
        now["segments"]["0"]["encryption"] = json!(format!("\u{1b}[2J\n{}", "x".repeat(10_000)));
        now["segments"]["0"].as_object_mut().unwrap().insert("\u{1b}\n".repeat(5000), json!(1));
        let said = listed(&enrolment(&metadata()).differences(&enrolment(&now)));
        assert!(said.len() < 1000 && !said.contains(char::is_control), "{said}");
    }

    /// Every place in a JSON text that holds a value.
    fn places(value: &Value, place: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(entries) => {
                entries.iter().for_each(|(name, value)| places(value, &format!("{place}/{name}"), found));
            }
            Value::Array(items) => {
                let numbered = items.iter().enumerate();
                numbered.for_each(|(number, value)| places(value, &format!("{place}/{number}"), found));
            }
            _ => found.push(place.to_owned()),
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_checked_field_is_a_difference(which: prop::sample::Index, text: String, number: i64, kind in 0..3) {
            let mut found = Vec::new();
            places(&metadata(), "", &mut found);
            found.retain(|place| !place.starts_with("/keyslots") && !place.contains("/keyslots/"));
            let place = which.get(&found);
            let mut now = metadata();
            let there = now.pointer_mut(place).unwrap();
            let changed = match kind { 0 => json!(text), 1 => json!(number), _ => json!([]) };
            prop_assume!(*there != changed);
            *there = changed;
            let (enrolled, now) = (enrolment(&metadata()), enrolment(&now));
            prop_assert!(!enrolled.differences(&now).is_empty(), "{}", place);
            prop_assert_ne!(enrolled.digest(), now.digest());
        }

        #[test]
        fn digests_print_and_parse(bytes: [u8; 32], text: String) {
            prop_assert_eq!(EnrolmentDigest(bytes).to_string().parse(), Ok(EnrolmentDigest(bytes)));
            prop_assert!(text.parse::<EnrolmentDigest>().is_err());
        }
    }
}
