//! What becomes of a key on its way through editors, mail and memory sticks, and how to undo it.
//!
//! Nothing here says that a reading is the right one: only what it opens does.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use luks_core::{KeyShare, is_sealed};
use zeroize::Zeroizing;

/// Fewer bytes are no key.
const LEAST: usize = 32;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that a copy may have been made from, and what happened to them.
pub(super) struct Reading {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) how: &'static str,
}

/// A sealed key or a share that is wrapped or was quoted, as it was before; none where it is neither.
pub(super) fn unwrapped(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = plain_text(bytes)?;
    if KeyShare::is_share(text.as_bytes()) {
        return Some(Zeroizing::new(text.as_bytes().to_vec()));
    }
    armored(&text).filter(|inner| is_sealed(inner))
}

/// All other readings of a plain copy, the likeliest first.
pub(super) fn readings(bytes: &[u8]) -> Vec<Reading> {
    let mut found: Vec<Reading> = Vec::new();
    let mut add = |candidate: Option<Zeroizing<Vec<u8>>>, how| {
        if let Some(candidate) = candidate.filter(|candidate| candidate.len() >= LEAST) {
            found.push(Reading { bytes: candidate, how });
        }
    };
    if let Some(text) = plain_text(bytes) {
        add(armored(&text), "it was armored");
        add(from_base64(&text), "it was written in base64");
        add(from_hexadecimal(&text), "it was written in hexadecimal");
    }
    let copy = |bytes: &[u8]| Some(Zeroizing::new(bytes.to_vec()));
    add(bytes.strip_prefix(BYTE_ORDER_MARK).and_then(copy), "it had a byte order mark before it");
    for end in [&b"\r\n"[..], b"\n"] {
        add(bytes.strip_suffix(end).and_then(copy), "it had a line end behind it");
    }
    let unix = without_carriage_returns(bytes);
    add((unix.len() < bytes.len()).then_some(unix), "its line ends had been changed");
    found
}

/// Whether bytes are a text that a person could read, as random bytes never are.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    plain_text(bytes).is_some()
}

/// A text without byte order mark, carriage returns, and what mail puts before the lines that it quotes.
fn plain_text(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let narrow = narrowed(bytes);
    let bytes = narrow.as_deref().map_or(bytes, Vec::as_slice);
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).ok()?;
    if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return None;
    }
    let lines =
        text.lines().map(|line| line.trim_start_matches(|c: char| c == '>' || c.is_whitespace()).trim_end());
    let mut plain = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in lines {
        plain.push_str(line);
        plain.push('\n');
    }
    Some(plain)
}

/// A text in ASCII that was stored as UTF-16, as Windows calls "Unicode", byte for character.
fn narrowed(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (mark, units) = bytes.split_first_chunk::<2>()?;
    let character = match mark {
        [0xff, 0xfe] => |unit: [u8; 2]| (unit[1] == 0 && unit[0].is_ascii()).then_some(unit[0]),
        [0xfe, 0xff] => |unit: [u8; 2]| (unit[0] == 0 && unit[1].is_ascii()).then_some(unit[1]),
        _ => return None,
    };
    let (units, []) = units.as_chunks::<2>() else { return None };
    let mut narrow = Zeroizing::new(Vec::with_capacity(units.len()));
    for unit in units {
        narrow.push(character(*unit)?);
    }
    Some(narrow)
}

/// The bytes between `-----BEGIN ...-----` and `-----END ...-----`.
fn armored(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, behind) = text.split_once("-----BEGIN ")?;
    let (_, behind) = behind.split_once("-----\n")?;
    let (inside, _) = behind.split_once("-----END ")?;
    from_base64(inside)
}

fn from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut dense = Zeroizing::new(Vec::with_capacity(text.len()));
    dense.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    BASE64_STANDARD.decode(&*dense).ok().map(Zeroizing::new)
}

fn from_hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let mut high = None;
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        let digit = u8::try_from(c.to_digit(16)?).ok()?;
        match high.take() {
            None => high = Some(digit),
            Some(before) => bytes.push(before << 4 | digit),
        }
    }
    high.is_none().then_some(bytes)
}

fn without_carriage_returns(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut unix = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\r' || rest.peek() != Some(&b'\n') {
            unix.push(byte);
        }
    }
    unix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(readings: &[Reading], key: &[u8]) -> bool {
        readings.iter().any(|reading| *reading.bytes == key)
    }

    proptest! {
        #[test]
        fn whatever_happened_to_a_key_is_undone(key in prop::collection::vec(any::<u8>(), 64..256)) {
            let base64 = BASE64_STANDARD.encode(&key);
            let hexadecimal = key.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            let lines = |text: &str| text.as_bytes().chunks(40).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>();
            for mangled in [
                base64.clone().into_bytes(),
                lines(&base64).join("\r\n").into_bytes(),
                format!("> {}\n", lines(&base64).join("\n> ")).into_bytes(),
                format!("-----BEGIN KEY-----\r\n{}\r\n-----END KEY-----\r\n", lines(&base64).join("\r\n")).into_bytes(),
                [BYTE_ORDER_MARK, base64.as_bytes()].concat(),
                hexadecimal.to_uppercase().into_bytes(),
                [BYTE_ORDER_MARK, &key].concat(),
                [&key[..], b"\n"].concat(),
                [&key[..], b"\r\n"].concat(),
            ] {
                prop_assert!(has(&readings(&mangled), &key));
            }
        }

        #[test]
        fn changed_line_ends_are_changed_back(key in prop::collection::vec(prop::sample::select(b"ab\n\x00\xff".to_vec()), 64..256)) {
            let mut mangled = Vec::new();
            for byte in &key {
                if *byte == b'\n' {
                    mangled.push(b'\r');
                }
                mangled.push(*byte);
            }
            prop_assert!(mangled == key || has(&readings(&mangled), &key));
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (readings(&bytes), unwrapped(&bytes), is_text(&bytes));
        }
    }

    #[test]
    fn random_bytes_are_no_text() {
        assert!(is_text(b"c2VjcmV0\r\n") && is_text("\u{feff}geheim".as_bytes()));
        assert!(!is_text(&[0; 64]) && !is_text(b"\xff\xfe ab"));
    }

    #[test]
    fn a_text_that_windows_widened_is_a_text() {
        let wide = |mark: [u8; 2], of: fn(u16) -> [u8; 2], text: &str| {
            [mark.to_vec(), text.encode_utf16().flat_map(of).collect()].concat()
        };
        for (mark, of) in
            [([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xfe, 0xff], u16::to_be_bytes)]
        {
            let secret = [7; 64];
            let text =
                "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==";
            let copy = wide(mark, of, &format!("{text}\r\n"));
            assert!(is_text(&copy));
            assert!(readings(&copy).iter().any(|reading| *reading.bytes == secret), "it isn't read");
        }
        assert!(!is_text(&wide([0xff, 0xfe], u16::to_be_bytes, "geheim")));
    }
}
