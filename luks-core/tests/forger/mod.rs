//! What somebody can write to a drive without knowing any of its keys.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes before the JSON area of a header copy.
const BINARY: usize = 4096;
/// `LUKS_STRIPES`.
const STRIPES: usize = 4000;

/// The JSON of a LUKS2 header, from the primary copy.
pub(crate) fn metadata(image: &[u8]) -> Value {
    let text = image[BINARY..copy_size(image)].split(|byte| *byte == 0).next().unwrap();
    serde_json::from_slice(text).unwrap()
}

fn copy_size(image: &[u8]) -> usize {
    usize::try_from(u64::from_be_bytes(*image[8..].first_chunk().unwrap())).unwrap()
}

/// Writes the JSON of both copies anew, with right checksums.
pub(crate) fn set_metadata(image: &mut [u8], metadata: &Value) {
    let size = copy_size(image);
    for start in [0, size] {
        let copy = &mut image[start..start + size];
        copy[BINARY..].fill(0);
        let text = metadata.to_string();
        copy[BINARY..BINARY + text.len()].copy_from_slice(text.as_bytes());
        copy[448..512].fill(0);
        let digest = Sha256::digest(&*copy);
        copy[448..480].copy_from_slice(&digest);
    }
}

/// Changes the JSON of both copies.
pub(crate) fn change(image: &mut [u8], change: impl FnOnce(&mut Value)) {
    let mut changed = metadata(image);
    change(&mut changed);
    set_metadata(image, &changed);
}

/// Makes any key open slot 1 for a volume key of the forger's choice: its key material isn't encrypted, and the digest is
/// the forger's.
pub(crate) fn take_any_key(image: &mut [u8], volume_key: &[u8]) {
    let mut forged = metadata(image);
    let slot = &mut forged["keyslots"]["1"];
    slot["area"]["encryption"] = json!("cipher_null-ecb");
    slot["area"]["key_size"] = json!(32);
    slot["af"]["hash"] = json!("sha256");
    slot["key_size"] = json!(volume_key.len());
    let at: usize = slot["area"]["offset"].as_str().unwrap().parse().unwrap();
    let material = split(volume_key);
    image[at..at + material.len()].copy_from_slice(&material);
    let salt = [7; 32];
    forged["digests"]["0"]["hash"] = json!("sha256");
    forged["digests"]["0"]["iterations"] = json!(1000);
    forged["digests"]["0"]["salt"] = json!(base64(&salt));
    forged["digests"]["0"]["digest"] = json!(base64(&pbkdf2(volume_key, &salt, 1000)));
    set_metadata(image, &forged);
}

/// LUKS's anti-forensic splitting, with stripes of zeros where random ones should be.
fn split(key: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; key.len()];
    for _ in 1..STRIPES {
        buffer = diffused(&buffer);
    }
    let last: Vec<u8> = key.iter().zip(&buffer).map(|(one, other)| one ^ other).collect();
    let mut material = vec![0; key.len() * (STRIPES - 1)];
    material.extend(last);
    material
}

pub(crate) fn diffused(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(32).zip(0_u32..).flat_map(|(block, number)| {
        let digest = Sha256::digest([&number.to_be_bytes(), block].concat());
        digest[..block.len()].to_vec()
    });
    blocks.collect()
}

/// PBKDF2 with HMAC-SHA-256 (RFC 8018), its first block.
pub(crate) fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut padded = [0; 64];
    if key.len() > 64 {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::digest([&padded.map(|byte| byte ^ 0x36)[..], message].concat());
    Sha256::digest([&padded.map(|byte| byte ^ 0x5c)[..], &inner[..]].concat()).into()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = usize::try_from(number >> (18 - 6 * digit) & 63).unwrap();
            text.push(if digit <= chunk.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}
