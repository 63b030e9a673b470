//! Crockford's base 32 (<https://www.crockford.com/base32.html>): digits and capitals without I, L, O and U, so that
//! a person can read it out and type it.

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The symbol for the low five bits of `value`.
pub(crate) fn symbol(value: u8) -> char {
    ALPHABET.get(usize::from(value & 31)).copied().map_or('0', char::from)
}

/// The value (0 to 31) of a symbol; I and L read as 1, O as 0, lower case as upper case.
pub(crate) fn value(character: char) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    let place = ALPHABET.iter().position(|symbol| char::from(*symbol) == upper)?;
    u8::try_from(place).ok()
}

/// Five-bit values of `bytes`, most significant bit first, the last one filled with zero bits.
pub(crate) fn values(bytes: &[u8]) -> Vec<u8> {
    let mut values = Vec::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut pending, mut bits) = (0_u16, 0_u32);
    for byte in bytes {
        pending = (pending << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push(low_five(pending >> bits));
        }
        pending &= (1 << bits) - 1;
    }
    if bits > 0 {
        values.push(low_five(pending << (5 - bits)));
    }
    values
}

/// The bytes behind five-bit values; `None` when the filling bits aren't zero or a whole value is superfluous.
pub(crate) fn decode(values: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(values.len() * 5 / 8);
    let (mut pending, mut bits) = (0_u16, 0_u32);
    for value in values {
        pending = (pending << 5) | u16::from(value & 31);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((pending >> bits) & 0xff).ok()?);
            pending &= (1 << bits) - 1;
        }
    }
    (bits < 5 && pending == 0).then_some(bytes)
}

/// The symbols of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    values(bytes).into_iter().map(symbol).collect()
}

/// `text` with a hyphen after every `size` characters.
pub(crate) fn grouped(text: &str, size: usize) -> String {
    let mut grouped = String::with_capacity(text.len() + text.len() / size.max(1));
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % size == 0 {
            grouped.push('-');
        }
        grouped.push(character);
    }
    grouped
}

fn low_five(bits: u16) -> u8 {
    u8::try_from(bits & 31).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(encode(b""), "");
        assert_eq!(encode(b"f"), "CR");
        assert_eq!(encode(b"foobar"), "CSQPYRK1E8");
        assert_eq!(value('o'), Some(0));
        assert_eq!(value('l'), Some(1));
        assert_eq!(value('u'), None);
        assert_eq!(grouped("ABCDEF", 4), "ABCD-EF");
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&values(&bytes)), Some(bytes));
        }
    }
}
