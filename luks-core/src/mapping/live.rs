//! What a mapping does now, compared with what a header asks for.
//!
//! Source: the kernel's `Documentation/admin-guide/device-mapper/{dm-crypt,dm-integrity}.rst`; the form in which
//! libcryptsetup passes a cipher on is that of `cipher_dm2c` in its `lib/libdevmapper.c`.

use std::collections::BTreeSet;
use std::io;

use libcryptsetup_rs::consts::flags::CryptActivate;
use serde_json::Value;

use super::device_mapper::{self, LiveTable};
use super::device_number::DeviceNumber;
use super::status::tags_name;
use crate::container::judged::Header;
use crate::header::disk_header::{OFFSET_UNIT, SoundHeader};

/// What the mapping of a container has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// As in the header, such as `aes-xts-plain64`.
    pub(crate) cipher: String,
    /// Of the data, in sectors of 512 bytes from the start of the device.
    pub(crate) offset: u64,
    pub(crate) iv_offset: u64,
    pub(crate) sector_size: u64,
    pub(crate) size: Size,
    /// Of authenticated encryption: the kind of the tags, such as `hmac(sha256)`.
    pub(crate) integrity: Option<String>,
    /// Bytes of the volume key.
    pub(crate) key_bytes: u64,
    /// The device; `None` when it is a file's loop device, whose number isn't known.
    pub(crate) device: Option<DeviceNumber>,
    /// Whether the tags are written by way of a journal.
    pub(crate) journal: bool,
    /// Names of the switches that were asked for, as the kernel has them.
    pub(crate) switches: BTreeSet<&'static str>,
}

/// The length of a mapping in sectors of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Exactly so many.
    Fixed(u64),
    /// What a device of so many sectors has behind the offset.
    ToEnd(u64),
}

/// The switches of the kernel that belong to flags of libcryptsetup and to words in a LUKS2 header.
const SWITCHES: [(&str, &str, CryptActivate); 5] = [
    ("allow-discards", "allow_discards", CryptActivate::ALLOW_DISCARDS),
    ("same-cpu-crypt", "same_cpu_crypt", CryptActivate::SAME_CPU_CRYPT),
    ("submit-from-crypt-cpus", "submit_from_crypt_cpus", CryptActivate::SUBMIT_FROM_CRYPT_CPUS),
    ("no-read-workqueue", "no_read_workqueue", CryptActivate::NO_READ_WORKQUEUE),
    ("no-write-workqueue", "no_write_workqueue", CryptActivate::NO_WRITE_WORKQUEUE),
];

/// The kernel's switches for what the caller asks for and for what the header makes persistent.
pub(crate) fn switches(asked: &CryptActivate, persistent: Option<&Value>) -> BTreeSet<&'static str> {
    let words: Vec<&str> =
        persistent.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let on = |word: &str, flag: &CryptActivate| asked.bits() & flag.bits() != 0 || words.contains(&word);
    let switches = SWITCHES.iter().filter(|(word, _, flag)| on(word, flag));
    switches.map(|(_, switch, _)| *switch).collect()
}

/// Reads the mapping `name` from the kernel and says what of it isn't as it has to be.
pub(crate) fn difference(name: &str, expected: &Expected) -> io::Result<Option<String>> {
    let Some(table) = device_mapper::live_table(name)? else {
        return Ok(Some("there is no such mapping".to_owned()));
    };
    let Some(integrity) = &expected.integrity else {
        return Ok(crypt_difference(&table, expected, expected.device, expected.offset));
    };
    let tags = tags_name(name);
    let Some(below) = device_mapper::live_table(&tags)? else {
        return Ok(Some("there is no mapping that keeps its tags".to_owned()));
    };
    let number = device_mapper::number(&tags)?;
    Ok(integrity_difference(&below, expected, integrity)
        .or_else(|| crypt_difference(&table, &of_tags(expected, below.sectors), number, 0)))
}

/// With authenticated encryption, dm-crypt lies on the whole of another mapping.
fn of_tags(expected: &Expected, sectors: u64) -> Expected {
    Expected { size: Size::Fixed(sectors), ..expected.clone() }
}

fn crypt_difference(
    table: &LiveTable,
    expected: &Expected,
    device: Option<DeviceNumber>,
    offset: u64,
) -> Option<String> {
    if table.kind() != "crypt" {
        return Some(format!("it is of the kind '{}'", table.kind()));
    }
    crypt_parameters_difference(table.parameters(), expected, device, offset)
        .or_else(|| size_difference(table.sectors, expected))
}

fn size_difference(sectors: u64, expected: &Expected) -> Option<String> {
    let unit = expected.sector_size / OFFSET_UNIT;
    let right = match expected.size {
        Size::Fixed(size) => size,
        Size::ToEnd(device) => {
            let rest = device.saturating_sub(expected.offset);
            rest - rest % unit.max(1)
        }
    };
    (sectors != right).then(|| format!("it has {sectors} sectors, not {right}"))
}

/// `CIPHER KEY IV-OFFSET DEVICE OFFSET [COUNT OPTION...]`; nothing of the key gets into the answer.
fn crypt_parameters_difference(
    parameters: &str,
    expected: &Expected,
    device: Option<DeviceNumber>,
    offset: u64,
) -> Option<String> {
    let mut words = parameters.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (cipher, key, iv_offset, found_device, found_offset) = (next(), next(), next(), next(), next());
    let Some(right_cipher) = kernel_cipher(&expected.cipher, expected.integrity.as_deref()) else {
        return Some(format!("the cipher '{}' has no form that the kernel knows", expected.cipher));
    };
    if cipher != right_cipher {
        return Some(format!("its cipher is {cipher}, not {right_cipher}"));
    }
    if key_bytes(key) != Some(expected.key_bytes) {
        return Some("its key has another length, or is no key".to_owned());
    }
    for (what, found, right) in
        [("IV offset", iv_offset, expected.iv_offset), ("offset", found_offset, offset)]
    {
        if found.parse() != Ok(right) {
            return Some(format!("its {what} is {found}, not {right}"));
        }
    }
    if let Some(device) = device
        && found_device != device.to_string()
    {
        return Some(format!("it reads from {found_device}, not from {device}"));
    }
    let count = next();
    let found: BTreeSet<String> = words.map(str::to_owned).collect();
    let right = crypt_options(expected);
    let counted = if count.is_empty() { Some(0) } else { count.parse().ok() };
    (found != right || counted != Some(found.len())).then(|| {
        let listed = |options: &BTreeSet<String>| options.iter().cloned().collect::<Vec<_>>().join(" ");
        format!("its options are '{}', not '{}'", listed(&found), listed(&right))
    })
}

fn crypt_options(expected: &Expected) -> BTreeSet<String> {
    let mut options: BTreeSet<String> = expected.switches.iter().map(|switch| (*switch).to_owned()).collect();
    if expected.sector_size != OFFSET_UNIT {
        options.insert(format!("sector_size:{}", expected.sector_size));
    }
    if let Some(integrity) = &expected.integrity
        && let Some(size) = tag_size(&expected.cipher, integrity)
    {
        options.insert(format!("integrity:{size}:{}", if integrity == "none" { "none" } else { "aead" }));
    }
    options
}

/// The length of a key in a table: the key itself in hexadecimal digits, or `:BYTES:logon:NAME` in the kernel's keyring.
fn key_bytes(key: &str) -> Option<u64> {
    if let Some(rest) = key.strip_prefix(':') {
        let mut parts = rest.splitn(3, ':');
        let bytes = parts.next()?.parse().ok()?;
        return (parts.next() == Some("logon") && parts.next().is_some_and(|name| !name.is_empty()))
            .then_some(bytes);
    }
    let digits = key.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && key.len().is_multiple_of(2)).then_some(key.len() as u64 / 2)
}

/// The cipher of a header in the form in which the kernel gets it.
fn kernel_cipher(cipher: &str, integrity: Option<&str>) -> Option<String> {
    let Some(integrity) = integrity else { return Some(cipher.to_owned()) };
    let (name, rest) = cipher.split_once('-')?;
    let (mode, inner, iv) = match rest.split_once('-') {
        Some((mode, iv)) => (mode, format!("{mode}({name})"), iv),
        None => ("", name.to_owned(), rest),
    };
    Some(match integrity {
        "aead" if mode == "ccm" => format!("capi:rfc4309({inner})-{iv}"),
        "none" | "aead" => format!("capi:{inner}-{iv}"),
        "poly1305" => format!("capi:rfc7539({inner},poly1305)-{iv}"),
        tags => format!("capi:authenc({tags},{inner})-{iv}"),
    })
}

/// Bytes that are kept beside each sector (`INTEGRITY_tag_size` in libcryptsetup): a random initialisation vector, and
/// what authenticates.
fn tag_size(cipher: &str, integrity: &str) -> Option<u64> {
    let (name, mode) = cipher.split_once('-')?;
    let vector = match mode {
        "gcm-random" => 12,
        "ccm-random" => 8,
        "random" if name == "aegis256" => 32,
        _ if integrity == "poly1305" && mode.ends_with("random") => 12,
        "xts-random" | "ctr-random" | "random" => 16,
        _ => 0,
    };
    let tag = match integrity {
        "none" => 0,
        "aead" | "cmac(aes)" | "poly1305" => 16,
        "hmac(sha1)" => 20,
        "hmac(sha256)" => 32,
        "hmac(sha512)" => 64,
        _ => return None,
    };
    Some(vector + tag)
}

/// `DEVICE OFFSET TAG-SIZE MODE COUNT OPTION...`: its place, its tags, and whether it keeps a journal.
fn integrity_difference(table: &LiveTable, expected: &Expected, integrity: &str) -> Option<String> {
    if table.kind() != "integrity" {
        return Some(format!("what keeps its tags is of the kind '{}'", table.kind()));
    }
    integrity_parameters_difference(table.parameters(), expected, integrity)
}

fn integrity_parameters_difference(parameters: &str, expected: &Expected, integrity: &str) -> Option<String> {
    let words: Vec<&str> = parameters.split(' ').collect();
    let [device, offset, tag, mode, _count, options @ ..] = words.as_slice() else {
        return Some("what keeps its tags can't be understood".to_owned());
    };
    if let Some(right) = expected.device
        && *device != right.to_string()
    {
        return Some(format!("its tags are on {device}, not on {right}"));
    }
    if offset.parse() != Ok(expected.offset) {
        return Some(format!("its tags begin at {offset}, not at {}", expected.offset));
    }
    let Some(right) = tag_size(&expected.cipher, integrity) else {
        return Some(format!("its tags are of the unknown kind '{integrity}'"));
    };
    if tag.parse() != Ok(right) {
        return Some(format!("its tags have {tag} bytes, not {right}"));
    }
    let right = if expected.journal { "J" } else { "D" };
    if *mode != right {
        return Some(format!("its tags are kept in the mode {mode}, not {right}"));
    }
    let foreign = ["meta_device:", "recalculate", "reset_recalculate", "allow_discards"];
    let found = options.iter().find(|option| foreign.iter().any(|name| option.starts_with(name)));
    found.map(|option| format!("its tags are kept with the option {option}"))
}

impl Header {
    /// What the mapping has to be, on a device of so many sectors of 512 bytes.
    pub(crate) fn expected(
        &self,
        device: Option<DeviceNumber>,
        sectors: u64,
        key_bytes: u64,
        flags: &CryptActivate,
    ) -> Expected {
        let plain = Expected {
            cipher: String::new(),
            offset: 0,
            iv_offset: 0,
            sector_size: OFFSET_UNIT,
            size: Size::ToEnd(sectors),
            integrity: None,
            key_bytes,
            device,
            journal: true,
            switches: switches(flags, None),
        };
        match &self.sound {
            SoundHeader::Luks1(header) => {
                Expected { cipher: header.cipher.clone(), offset: header.data_offset_sectors.into(), ..plain }
            }
            SoundHeader::Luks2(copy) => {
                let segment = |field: &str| copy.metadata.pointer(&format!("/segments/0/{field}"));
                let text = |field: &str| segment(field).and_then(Value::as_str);
                let number = |field: &str| text(field).and_then(|text| text.parse::<u64>().ok());
                let persistent = copy.metadata.pointer("/config/flags");
                let words = persistent.and_then(Value::as_array).into_iter().flatten();
                Expected {
                    cipher: text("encryption").unwrap_or_default().to_owned(),
                    // What can't be read was refused before, and is equal to nothing.
                    offset: number("offset").map_or(u64::MAX, |bytes| bytes / OFFSET_UNIT),
                    iv_offset: number("iv_tweak").unwrap_or(u64::MAX),
                    sector_size: segment("sector_size").and_then(Value::as_u64).unwrap_or(u64::MAX),
                    size: number("size").map_or(plain.size, |bytes| Size::Fixed(bytes / OFFSET_UNIT)),
                    integrity: text("integrity/type").map(str::to_owned),
                    journal: !words.into_iter().any(|word| word == "no-journal"),
                    switches: switches(flags, persistent),
                    ..plain
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            cipher: "aes-xts-plain64".into(),
            offset: 32768,
            iv_offset: 0,
            sector_size: 4096,
            size: Size::ToEnd(98_308),
            integrity: None,
            key_bytes: 64,
            device: Some(DeviceNumber { major: 8, minor: 16 }),
            journal: true,
            switches: BTreeSet::new(),
        }
    }

    fn authenticated() -> Expected {
        let integrity = Some("hmac(sha256)".to_owned());
        Expected { cipher: "aes-xts-random".into(), integrity, key_bytes: 96, ..expected() }
    }

    fn crypt(parameters: &str, expected: &Expected) -> Option<String> {
        crypt_parameters_difference(parameters, expected, expected.device, expected.offset)
    }

    const KEYRING: &str = ":64:logon:cryptsetup:01234567-89ab-cdef-0123-456789abcdef-d0";

    #[test]
    fn what_the_header_asks_for_is_accepted() {
        let inline = "ab".repeat(64);
        for key in [KEYRING, &inline] {
            let table = format!("aes-xts-plain64 {key} 0 8:16 32768 1 sector_size:4096");
            assert_eq!(crypt(&table, &expected()), None);
        }
        let table = format!("aes-xts-plain64 {KEYRING} 0 8:16 32768");
        assert_eq!(crypt(&table, &Expected { sector_size: 512, ..expected() }), None);
        let table = format!("aes-xts-plain64 {KEYRING} 0 8:16 32768 2 allow_discards sector_size:4096");
        let asked = switches(&CryptActivate::ALLOW_DISCARDS, None);
        assert_eq!(crypt(&table, &Expected { switches: asked, ..expected() }), None);
        let persistent = serde_json::json!(["allow-discards"]);
        let asked = switches(&CryptActivate::empty(), Some(&persistent));
        assert_eq!(crypt(&table, &Expected { switches: asked, ..expected() }), None);
        let table = format!(
            "capi:authenc(hmac(sha256),xts(aes))-random {} 0 254:0 0 2 sector_size:4096 integrity:48:aead",
            "ab".repeat(96)
        );
        let tags = Some(DeviceNumber { major: 254, minor: 0 });
        assert_eq!(crypt_parameters_difference(&table, &authenticated(), tags, 0), None);
        let tags = "8:16 32768 48 J 6 journal_sectors:88 interleave_sectors:32768 buffer_sectors:128";
        assert_eq!(integrity_parameters_difference(tags, &authenticated(), "hmac(sha256)"), None);
    }

    #[test]
    fn every_other_table_is_named() {
        let inline = "cd".repeat(32);
        for (table, said) in [
            ("cipher_null-ecb - 0 8:16 32768 1 sector_size:4096".into(), "its cipher is cipher_null-ecb"),
            ("aes-xts-plain64 - 0 8:16 32768 1 sector_size:4096".into(), "its key"),
            (format!("aes-xts-plain64 {inline} 0 8:16 32768 1 sector_size:4096"), "its key"),
            ("aes-xts-plain64 :64:user:x 0 8:16 32768 1 sector_size:4096".into(), "its key"),
            (format!("aes-xts-plain64 {KEYRING} 8 8:16 32768 1 sector_size:4096"), "its IV offset is 8"),
            (format!("aes-xts-plain64 {KEYRING} 0 8:32 32768 1 sector_size:4096"), "it reads from 8:32"),
            (format!("aes-xts-plain64 {KEYRING} 0 8:16 32776 1 sector_size:4096"), "its offset is 32776"),
            (format!("aes-xts-plain64 {KEYRING} 0 8:16 32768"), "its options are ''"),
            (
                format!("aes-xts-plain64 {KEYRING} 0 8:16 32768 2 allow_discards sector_size:4096"),
                "its options",
            ),
            (format!("aes-xts-plain64 {KEYRING} 0 8:16 32768 7 sector_size:4096"), "its options"),
            (String::new(), "its cipher"),
        ] {
            let difference = crypt(&table, &expected()).unwrap_or_else(|| panic!("accepted: {table}"));
            assert!(difference.starts_with(said), "{table}: {difference}");
            assert!(!difference.contains(&inline), "the key was told: {difference}");
        }
        for (tags, said) in [
            ("8:16 32768 32 J 0", "its tags have 32 bytes"),
            ("8:32 32768 48 J 0", "its tags are on 8:32"),
            ("8:16 0 48 J 0", "its tags begin at 0"),
            ("8:16 32768 48 D 0", "its tags are kept in the mode D"),
            ("8:16 32768 48 J 1 allow_discards", "its tags are kept with the option"),
            ("8:16", "what keeps its tags"),
        ] {
            let difference = integrity_parameters_difference(tags, &authenticated(), "hmac(sha256)");
            assert!(difference.is_some_and(|difference| difference.starts_with(said)), "{tags}");
        }
    }

    #[test]
    fn the_mapping_reaches_to_the_end_of_the_device_in_whole_sectors() {
        assert_eq!(size_difference(65_536, &expected()), None);
        assert!(size_difference(65_540, &expected()).is_some(), "half an encrypted sector");
        assert!(size_difference(32_768, &expected()).is_some());
        assert_eq!(size_difference(8, &Expected { size: Size::Fixed(8), ..expected() }), None);
        assert!(size_difference(9, &Expected { size: Size::Fixed(8), ..expected() }).is_some());
    }
}
