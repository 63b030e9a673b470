//! Words with a fixed meaning.

use crate::schema::Keyword;

pub(crate) fn read_yes_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// `is_a_number` of `src/lib/edit.c`; the sign of a positive number doesn't matter.
pub(crate) fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let text = text.strip_prefix('+').unwrap_or(text);
    let whole = digits(text);
    let mut rest = text.get(whole..).unwrap_or("");
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.get(digits(fraction)..).unwrap_or("");
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        rest = if digits(exponent) > 0 { exponent.get(digits(exponent)..).unwrap_or("") } else { rest };
    }
    whole > 0 && rest.is_empty()
}

/// The keyword that a text is.
pub(crate) fn keyword(text: &str, words: &[Keyword]) -> Option<Keyword> {
    words.iter().find(|known| known.text.eq_ignore_ascii_case(text)).copied()
}
