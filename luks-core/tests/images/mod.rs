//! Images of small containers, and the many ways to ruin them.

use std::fs::File;
use std::sync::OnceLock;

use luks_core::{Container, FormatOptions, KeySlot, LuksVersion, Secret, SecretKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const KEY: &[u8] = &[1; 64];

const COPY: usize = 0x4000;
const BINARY: usize = 4096;
const KEYSLOTS_AREA: u64 = 0x8_0000;
const SIZE_LUKS1: u64 = (2 << 20) + 4096;
const SIZE_LUKS2: u64 = (1 << 20) + 4096;

/// One ruined image.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

fn made(options: &FormatOptions, size: u64) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("drive");
    File::create(&device).unwrap().set_len(size).unwrap();
    let key = Secret::from_bytes(KEY.to_vec());
    let container = Container::format(&device, options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
    container.add_key(&key, &key, SecretKind::KeyFile, Some(KeySlot::ZERO)).unwrap();
    std::fs::read(device).unwrap()
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A LUKS1 container with the same key in slots 0 and 1.
pub(crate) fn luks1() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let options = FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() };
    IMAGE.get_or_init(|| made(&options, SIZE_LUKS1)).clone()
}

/// A LUKS2 container with the same key in slots 0 and 1 and a header of 1 MiB.
pub(crate) fn luks2() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let options = FormatOptions { keyslots_area_bytes: Some(KEYSLOTS_AREA), ..FormatOptions::default() };
    IMAGE.get_or_init(|| made(&options, SIZE_LUKS2)).clone()
}

/// Positions that look random and are the same in each run.
fn positions(count: u64, range: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |n| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 33).unwrap() % range
    })
}

fn truncated(image: &[u8], lengths: &[usize], version: &str) -> Vec<Case> {
    let case =
        |len: &usize| Case { name: format!("{version} cut to {len} bytes"), bytes: image[..*len].to_vec() };
    lengths.iter().map(case).collect()
}

fn patched(image: &[u8], name: &str, at: usize, patch: &[u8]) -> Case {
    let mut bytes = image.to_vec();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    Case { name: name.to_owned(), bytes }
}

/// All ruined LUKS1 images.
pub(crate) fn luks1_cases() -> Vec<Case> {
    let image = luks1();
    let mut cases = truncated(
        &image,
        &[
            0, 1, 6, 7, 8, 100, 207, 208, 511, 512, 591, 592, 1024, 4095, 4096, 4097, 0x10000, 0x10_0000,
            0x20_0000,
        ],
        "LUKS1",
    );
    let number = |value: u32| value.to_be_bytes().to_vec();
    let patches: Vec<(&str, usize, Vec<u8>)> = vec![
        ("version 0", 6, vec![0, 0]),
        ("version 3", 6, vec![0, 3]),
        ("version 2 on a LUKS1 header", 6, vec![0, 2]),
        ("cipher without end", 8, vec![b'a'; 32]),
        ("cipher of random bytes", 8, vec![0xff; 31]),
        ("no cipher", 8, vec![0; 32]),
        ("mode without end", 40, vec![b'x'; 32]),
        ("no mode", 40, vec![0; 32]),
        ("hash without end", 72, vec![b's'; 32]),
        ("unknown hash", 72, b"sha999\0".to_vec()),
        ("data at the header", 104, number(0)),
        ("data in the first slot", 104, number(8)),
        ("data beyond the device", 104, number(u32::MAX)),
        ("no key bytes", 108, number(0)),
        ("one key byte", 108, number(1)),
        ("too many key bytes", 108, number(u32::MAX)),
        ("no digest", 112, vec![0; 20]),
        ("no digest iterations", 164, number(0)),
        ("endless digest iterations", 164, number(u32::MAX)),
        ("no UUID", 168, vec![0; 40]),
        ("UUID without end", 168, vec![b'7'; 40]),
        ("UUID of random bytes", 168, vec![0xfe; 40]),
    ];
    cases.extend(
        patches.iter().map(|(name, at, patch)| patched(&image, &format!("LUKS1 {name}"), *at, patch)),
    );
    for slot in [0_usize, 1, 7] {
        let start = 208 + 48 * slot;
        let patches: Vec<(&str, usize, Vec<u8>)> = vec![
            ("is neither used nor free", 0, number(0x1234_5678)),
            ("is used without key material", 0, number(0x00ac_71f3)),
            ("has no iterations", 4, number(0)),
            ("has endless iterations", 4, number(u32::MAX)),
            ("lies on the header", 40, number(0)),
            ("lies beyond the device", 40, number(u32::MAX)),
            ("lies on slot 2", 40, number(8 + 504 * 2)),
            ("has no stripes", 44, number(0)),
            ("has endless stripes", 44, number(u32::MAX)),
        ];
        for (name, at, patch) in patches {
            // Slots 0 and 1 are used already; slot 7 isn't and gets its number here.
            let case = patched(&image, &format!("LUKS1 slot {slot} {name}"), start + at, &patch);
            if case.bytes != image {
                cases.push(case);
            }
        }
    }
    for at in positions(24, 592) {
        let mut bytes = image.clone();
        bytes[at] ^= 0x41;
        cases.push(Case { name: format!("LUKS1 flipped bits at {at}"), bytes });
    }
    cases
}

/// All ruined LUKS2 images.
pub(crate) fn luks2_cases() -> Vec<Case> {
    let image = luks2();
    let mut cases = truncated(
        &image,
        &[
            8, 100, 448, 511, 512, 4095, 4096, 4097, 0x3fff, 0x4000, 0x4001, 0x4200, 0x5000, 0x7fff, 0x8000,
            0x8001, 0x10000, 0x4_0000, 0x8_8000, 0x10_0000,
        ],
        "LUKS2",
    );
    for (copy, start) in [("primary", 0), ("secondary", COPY)] {
        for at in positions(10, 4096 + 2048) {
            let mut bytes = image.clone();
            bytes[start + at] ^= 0x41;
            cases.push(Case { name: format!("LUKS2 {copy} flipped bits at {at}"), bytes });
        }
    }
    cases.extend(binary_cases(&image));
    cases.extend(text_cases(&image));
    cases.extend(json_cases(&image));
    cases
}

/// Wrong numbers and texts before the JSON, with right checksums.
fn binary_cases(image: &[u8]) -> Vec<Case> {
    let number = |value: u64| value.to_be_bytes().to_vec();
    let patches: Vec<(&str, usize, Vec<u8>)> = vec![
        ("version 0", 6, vec![0, 0]),
        ("version 1 on a LUKS2 header", 6, vec![0, 1]),
        ("version 65535", 6, vec![0xff, 0xff]),
        ("size 0", 8, number(0)),
        ("size 1", 8, number(1)),
        ("size 4096", 8, number(4096)),
        ("size 32 KiB", 8, number(0x8000)),
        ("size 4 MiB", 8, number(0x40_0000)),
        ("endless size", 8, number(u64::MAX)),
        ("sequence 0", 16, number(0)),
        ("last sequence", 16, number(u64::MAX)),
        ("label without end", 24, vec![b'l'; 48]),
        ("label of random bytes", 24, vec![0xfe; 47]),
        ("unknown checksum", 72, b"crc32\0\0\0".to_vec()),
        ("checksum without end", 72, vec![b's'; 32]),
        ("no UUID", 168, vec![0; 40]),
        ("UUID without end", 168, vec![b'7'; 40]),
        ("UUID of random bytes", 168, vec![0xfe; 40]),
        ("subsystem without end", 208, vec![b's'; 48]),
    ];
    let mut cases: Vec<_> = patches
        .iter()
        .map(|(name, at, patch)| {
            let mut bytes = image.to_vec();
            for start in [0, COPY] {
                bytes[start + at..start + at + patch.len()].copy_from_slice(patch);
                seal(&mut bytes[start..start + COPY]);
            }
            Case { name: format!("LUKS2 {name}"), bytes }
        })
        .collect();
    for (name, start, offset) in [("primary", 0, 1_u64), ("secondary", COPY, 0)] {
        let mut bytes = image.to_vec();
        bytes[start + 256..start + 264].copy_from_slice(&number(offset));
        seal(&mut bytes[start..start + COPY]);
        cases.push(Case { name: format!("LUKS2 {name} claims another place"), bytes });
    }
    // Each sound by itself, but with different labels.
    let mut bytes = image.to_vec();
    bytes[COPY + 24..COPY + 28].copy_from_slice(b"evil");
    seal(&mut bytes[COPY..2 * COPY]);
    cases.push(Case { name: "LUKS2 copies with different labels".to_owned(), bytes });
    cases
}

/// JSON areas that are no JSON, with right checksums.
fn text_cases(image: &[u8]) -> Vec<Case> {
    let room = COPY - BINARY;
    let good = image[BINARY..COPY].split(|byte| *byte == 0).next().unwrap();
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", vec![]),
        ("a null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("half of the JSON", good[..good.len() / 2].to_vec()),
        ("JSON and garbage", [good, b"}}}}"].concat()),
        ("JSON without end", [good, &vec![b' '; room - good.len()]].concat()),
        ("brackets only", vec![b'['; room]),
        ("deep objects", b"{\"a\":".repeat(room / 5)),
        ("a string without end", [b"{\"".to_vec(), vec![b'x'; room - 2]].concat()),
        ("random bytes", (0..room).map(|n| u8::try_from((n * 37 + 11) % 255).unwrap() + 1).collect()),
        ("not UTF-8", [b"{\"keyslots\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat()),
    ];
    let mut cases = Vec::new();
    for (name, text) in texts {
        cases.push(Case { name: format!("LUKS2 JSON: {name}"), bytes: with_text(image, &text) });
    }
    cases
}

type Change = (&'static str, Value);

fn huge() -> Value {
    json!("18446744073709551615")
}

fn keyslot_changes(good: &Value) -> Vec<Change> {
    vec![
        ("/keyslots", json!({})),
        ("/keyslots", json!([])),
        ("/keyslots/1", json!({})),
        ("/keyslots/1/type", json!("luks9")),
        ("/keyslots/1/key_size", json!(0)),
        ("/keyslots/1/key_size", json!(2_147_483_647)),
        ("/keyslots/1/key_size", json!(-64)),
        ("/keyslots/1/af/stripes", json!(0)),
        ("/keyslots/1/af/stripes", json!(2_147_483_647)),
        ("/keyslots/1/af/hash", json!("sha999")),
        ("/keyslots/1/area/offset", json!("0")),
        ("/keyslots/1/area/offset", json!("-1")),
        ("/keyslots/1/area/offset", json!(32768)),
        ("/keyslots/1/area/offset", huge()),
        ("/keyslots/1/area/offset", good.pointer("/keyslots/0/area/offset").unwrap().clone()),
        ("/keyslots/1/area/size", json!("0")),
        ("/keyslots/1/area/size", json!("4096")),
        ("/keyslots/1/area/size", huge()),
        ("/keyslots/1/area/encryption", json!("")),
        ("/keyslots/1/area/encryption", json!("x".repeat(5000))),
        ("/keyslots/1/area/encryption", json!("null")),
        ("/keyslots/1/area/key_size", json!(0)),
        ("/keyslots/1/area/key_size", json!(100_000)),
        ("/keyslots/1/kdf", json!({})),
        ("/keyslots/1/kdf/type", json!("scrypt")),
        ("/keyslots/1/kdf/iterations", json!(0)),
        ("/keyslots/1/kdf/iterations", json!(-1)),
        ("/keyslots/1/kdf/iterations", json!(4_294_967_295_u64)),
        ("/keyslots/1/kdf/hash", json!("sha999")),
        ("/keyslots/1/kdf/salt", json!("!!!")),
        ("/keyslots/1/kdf/salt", json!("A".repeat(8000))),
        (
            "/keyslots/1/kdf",
            json!({"type": "argon2id", "time": 4_294_967_295_u64, "memory": 4_194_304, "cpus": 4, "salt": "AAAA"}),
        ),
        (
            "/keyslots/1/kdf",
            json!({"type": "argon2id", "time": 4, "memory": 4_294_967_295_u64, "cpus": 4, "salt": "AAAA"}),
        ),
        (
            "/keyslots/1/kdf",
            json!({"type": "argon2id", "time": 4, "memory": 32, "cpus": 2_000_000_000, "salt": "AAAA"}),
        ),
    ]
}

fn other_changes() -> Vec<Change> {
    vec![
        ("/segments", json!({})),
        ("/segments/0", json!({})),
        ("/segments/0/type", json!("linear")),
        ("/segments/0/offset", json!("0")),
        ("/segments/0/offset", json!("511")),
        ("/segments/0/offset", huge()),
        ("/segments/0/size", json!("0")),
        ("/segments/0/size", huge()),
        ("/segments/0/iv_tweak", json!("x")),
        ("/segments/0/encryption", json!("")),
        ("/segments/0/encryption", json!("aes-xts-plain64".repeat(200))),
        ("/segments/0/encryption", json!(7)),
        ("/segments/0/sector_size", json!(0)),
        ("/segments/0/sector_size", json!(3)),
        ("/segments/0/sector_size", json!(1_048_576)),
        ("/digests", json!({})),
        ("/digests/0/keyslots", json!(["0", "1", "30"])),
        ("/digests/0/keyslots", json!(["1", "1"])),
        ("/digests/0/segments", json!(["9"])),
        ("/digests/0/type", json!("crc")),
        ("/digests/0/iterations", json!(0)),
        ("/digests/0/iterations", json!(4_294_967_295_u64)),
        ("/digests/0/digest", json!("")),
        ("/digests/0/salt", json!("%")),
        ("/digests/0/salt", json!({})),
        ("/digests/0/salt", json!("")),
        ("/digests/0/digest", json!([])),
        ("/digests/0/hash", json!("0")),
        ("/digests/0/hash", json!("whirlpool")),
        ("/digests", json!({"0": digest("sha256", &[]), "1": digest("0", &["1"])})),
        ("/config/json_size", json!("1")),
        ("/config/json_size", huge()),
        ("/config/keyslots_size", json!("0")),
        ("/config/keyslots_size", huge()),
        ("/config", json!({})),
        ("/config/requirements", json!({"mandatory": ["time-travel"]})),
        ("/tokens", json!({"0": {"type": "luks2-keyring", "keyslots": ["99"]}})),
        ("/tokens", json!({"x": 1})),
    ]
}

/// A digest of zeros for the data, by which the keys in some slots are checked.
fn digest(hash: &str, keyslots: &[&str]) -> Value {
    let zeros = format!("{}=", "A".repeat(43));
    json!({
        "type": "pbkdf2", "keyslots": keyslots, "segments": ["0"], "hash": hash, "iterations": 1000,
        "salt": zeros, "digest": zeros,
    })
}

/// JSON with wrong contents, with right checksums.
fn json_cases(image: &[u8]) -> Vec<Case> {
    let text = image[BINARY..COPY].split(|byte| *byte == 0).next().unwrap();
    let good: Value = serde_json::from_slice(text).unwrap();
    let replacements = keyslot_changes(&good).into_iter().chain(other_changes());
    let mut cases: Vec<_> = replacements
        .map(|(place, value)| {
            let shown: String = value.to_string().chars().take(40).collect();
            let mut changed = good.clone();
            set(&mut changed, place, value);
            let bytes = with_text(image, changed.to_string().as_bytes());
            Case { name: format!("LUKS2 {place} = {shown}"), bytes }
        })
        .collect();
    for number in ["32", "99", "-1", "x", "01"] {
        let mut changed = good.clone();
        let slot = good["keyslots"]["0"].clone();
        changed["keyslots"].as_object_mut().unwrap().insert(number.to_owned(), slot);
        let bytes = with_text(image, changed.to_string().as_bytes());
        cases.push(Case { name: format!("LUKS2 a slot named {number}"), bytes });
    }
    cases
}

fn set(json: &mut Value, place: &str, value: Value) {
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { json } else { json.pointer_mut(parent).expect("the place exists") };
    parent.as_object_mut().unwrap().insert(name.to_owned(), value);
}

/// Both copies with another text in the JSON area.
fn with_text(image: &[u8], text: &[u8]) -> Vec<u8> {
    let mut bytes = image.to_vec();
    for start in [0, COPY] {
        let area = &mut bytes[start + BINARY..start + COPY];
        area.fill(0);
        let len = text.len().min(area.len());
        area[..len].copy_from_slice(&text[..len]);
        seal(&mut bytes[start..start + COPY]);
    }
    bytes
}

/// Makes the checksum of one copy right again.
fn seal(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let digest = Sha256::digest(&*copy);
    copy[448..448 + digest.len()].copy_from_slice(&digest);
}

/// Random changes of a good LUKS2 header's JSON: values exchanged for others, removed, or copied to another place.
pub(crate) fn random_json_change() -> impl Strategy<Value = Case> {
    let image = luks2();
    let text = image[BINARY..COPY].split(|byte| *byte == 0).next().unwrap();
    let good: Value = serde_json::from_slice(text).unwrap();
    let mut places = Vec::new();
    collect_places(&good, "", &mut places);
    let place = prop::sample::select(places);
    let change = (place.clone(), prop_oneof![4 => odd_value().prop_map(Ok), 1 => place.prop_map(Err)]);
    prop::collection::vec(change, 1..4).prop_map(move |changes| {
        let mut changed = good.clone();
        for (place, value) in &changes {
            let value = match value {
                Ok(value) => value.clone(),
                Err(other) => good.pointer(other).cloned().unwrap_or_default(),
            };
            // An earlier change may have taken the place away.
            if let Some(there) = changed.pointer_mut(place) {
                *there = value;
            }
        }
        let bytes = with_text(&image, changed.to_string().as_bytes());
        Case { name: format!("{changes:?}"), bytes }
    })
}

fn collect_places(value: &Value, place: &str, places: &mut Vec<String>) {
    let mut inner = |name: &str, value: &Value| {
        let place = format!("{place}/{name}");
        places.push(place.clone());
        collect_places(value, &place, places);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| inner(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value));
        }
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    let numbers = [0, 1, -1, 2, 511, 512, 4000, 4096, 65536, 1 << 31, (1 << 32) + 1, i64::MAX, i64::MIN];
    let number = prop::sample::select(numbers.to_vec());
    prop_oneof![
        number.clone().prop_map(|number| json!(number)),
        number.prop_map(|number| json!(number.to_string())),
        prop::sample::select(vec![
            "",
            "dynamic",
            "crypt",
            "luks2",
            "argon2id",
            "aes-xts-plain64",
            "sha1",
            "AAAA",
            "32768"
        ])
        .prop_map(|text| json!(text)),
        any::<String>().prop_map(|text| json!(text)),
        Just(
            json!({"type": "argon2id", "time": 4, "memory": 64, "cpus": 1, "salt": "AAAAAAAAAAAAAAAAAAAAAA=="})
        ),
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["0"])),
    ]
}
