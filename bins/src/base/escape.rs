//! Showing foreign text: what a drive, a Director or another program says must not steer a terminal, turn a line round,
//! or look like a line of ours.
//!
//! All that the programs say passes one of these functions on its way out (`output`, `report`, `serve::journal`):
//! no control character leaves them but the newline between our own lines.

use std::borrow::Cow;

/// Maximum length of a line, in characters.
const LONGEST_LINE: usize = 8000;

/// What stands before each further line of a message that has several.
const CONTINUED: &str = "\n  | ";

/// One line, whatever it is made of: a newline in it is shown as `\n`, and what is too long is cut.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) && text.len() <= LONGEST_LINE {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(LONGEST_LINE));
    let mut characters = text.chars();
    for c in characters.by_ref().take(LONGEST_LINE) {
        push(&mut shown, c);
    }
    let left = characters.count();
    if left > 0 {
        shown.push_str(&format!("[{left} characters left out]"));
    }
    Cow::Owned(shown)
}

/// A page of lines that are ours. Tabs become blanks.
pub fn page(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_unsafe(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            '\t' => shown.push_str("    "),
            c => push(&mut shown, c),
        }
    }
    Cow::Owned(shown)
}

/// A message that may quote several lines of another program: each further one is marked, so that none looks like ours.
pub fn message(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().split('\n').map(line).collect();
    lines.join(CONTINUED)
}

/// A JSON text in which all that is unsafe is written by its number; the values stay what they are. serde_json itself
/// does so for the characters below U+0020 alone.
pub fn json(text: &str) -> Cow<'_, str> {
    let outside = |c: char| is_unsafe(c) && c != '\n';
    if !text.contains(outside) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if outside(c) {
            // Such characters stand in strings only, where this means the same (RFC 8259, section 7).
            let units = &mut [0; 2];
            c.encode_utf16(units).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn push(shown: &mut String, c: char) {
    if is_unsafe(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
}

/// Control characters (C0, DEL, C1), separators of lines, marks that turn the direction of writing, and the invisible
/// tags.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text as somebody would plant it in a name.
    pub(crate) fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\nA  plugged, locked: safe to pull\n".to_owned()),
            Just("\x1b[2J\x1b]0;title\x07".to_owned()),
            Just("\r\u{9b}31m\u{7f}\0".to_owned()),
            Just("\u{202e}lluP\u{2066}\u{2028}".to_owned()),
            any::<String>(),
        ];
        proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    /// Whether nothing but our own newline steers what shows the text.
    pub(crate) fn is_plain(text: &str) -> bool {
        !text.contains(|c| is_unsafe(c) && c != '\n')
    }

    proptest! {
        #[test]
        fn a_line_stays_one_line(text in hostile()) {
            let shown = line(&text);
            prop_assert!(is_plain(&shown) && !shown.contains('\n'), "{shown:?}");
        }

        #[test]
        fn a_page_has_no_control_character_but_the_newline(text in hostile()) {
            let shown = page(&text);
            prop_assert!(is_plain(&shown), "{shown:?}");
            prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn further_lines_of_a_message_are_marked(text in hostile()) {
            let shown = message(&text);
            prop_assert!(is_plain(&shown), "{shown:?}");
            prop_assert!(shown.split('\n').skip(1).all(|line| line.starts_with("  | ")), "{shown:?}");
        }

        #[test]
        fn json_says_the_same(text in hostile()) {
            let before = serde_json::to_string(&text).unwrap();
            let after = json(&before);
            prop_assert!(is_plain(&after) && !after.contains('\n'), "{after}");
            prop_assert_eq!(serde_json::from_str::<String>(&after).unwrap(), text);
        }
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "A  away", "Bär – 東京 😀", "a\\b \"c\""] {
            assert_eq!((line(text), page(text)), (text.into(), text.into()));
        }
        assert_eq!(line("a\nb\x1b[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(page("\ta\r\n"), "    a\\r\n");
    }

    #[test]
    fn a_line_has_an_end() {
        let shown = line(&"x".repeat(1 << 20)).into_owned();
        assert!(shown.len() < 9000 && shown.ends_with("[1040576 characters left out]"), "{}", shown.len());
    }
}
