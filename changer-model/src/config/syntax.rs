//! The `key = value` syntax that both generations of vchanger.conf share.
//!
//! `#` and `;` begin a comment, values are bare or stand in single or double quotes with backslash escapes, a
//! bare backslash at the end of a line joins the next one, and CRLF is taken as a line's end.

use super::{ConfigProblem, Position};

/// One `key = value` of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: String,
    pub(super) value_at: Position,
    /// The value stood in quotes, so an empty one is meant.
    pub(super) quoted: bool,
}

/// Splits a file's text into its entries.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, (Position, ConfigProblem)> {
    let mut cursor = Cursor { rest: text.chars().peekable(), at: Position { line: 1, column: 1 } };
    let mut entries = Vec::new();
    loop {
        cursor.skip_blank_lines();
        let Some(first) = cursor.peek() else { return Ok(entries) };
        let key_at = cursor.at;
        if first == '[' {
            return Err((key_at, ConfigProblem::Section));
        }
        let key = cursor.take_while(|c| c != '=' && c != '\n' && c != '#' && c != ';');
        if cursor.peek() != Some('=') {
            return Err((key_at, ConfigProblem::NoEquals { text: key.trim_end().to_owned() }));
        }
        cursor.bump();
        let (value, value_at, quoted) = cursor.value()?;
        entries.push(Entry { key: key.trim_end().to_owned(), key_at, value, value_at, quoted });
    }
}

struct Cursor<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Position,
}

impl Cursor<'_> {
    fn peek(&mut self) -> Option<char> {
        // a carriage return only counts before a line feed, where it counts for nothing
        if self.rest.peek() == Some(&'\r') {
            let mut ahead = self.rest.clone();
            ahead.next();
            if matches!(ahead.peek(), None | Some('\n')) {
                self.rest.next();
            }
        }
        self.rest.peek().copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest.next();
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek().filter(|&c| wanted(c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    fn skip_blank_lines(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            match self.peek() {
                Some('#' | ';') => drop(self.take_while(|c| c != '\n')),
                _ => return,
            }
        }
    }

    fn value(&mut self) -> Result<(String, Position, bool), (Position, ConfigProblem)> {
        self.take_while(|c| c == ' ' || c == '\t');
        let value_at = self.at;
        match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.bump();
                let value = self.quoted(quote, value_at)?;
                self.take_while(|c| c == ' ' || c == '\t');
                let junk_at = self.at;
                let junk = self.take_while(|c| c != '\n');
                if junk.is_empty() || junk.starts_with(['#', ';']) {
                    Ok((value, value_at, true))
                } else {
                    Err((junk_at, ConfigProblem::AfterQuote { text: junk.trim_end().to_owned() }))
                }
            }
            _ => Ok((self.bare(), value_at, false)),
        }
    }

    fn quoted(&mut self, quote: char, opened: Position) -> Result<String, (Position, ConfigProblem)> {
        let mut value = String::new();
        loop {
            match self.bump() {
                Some(c) if c == quote => return Ok(value),
                Some('\\') => match self.bump() {
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some(c) => value.push(c),
                    None => return Err((opened, ConfigProblem::OpenQuote)),
                },
                Some('\n') | None => return Err((opened, ConfigProblem::OpenQuote)),
                Some(c) => value.push(c),
            }
        }
    }

    fn bare(&mut self) -> String {
        let mut value = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\n' => break,
                '#' | ';' => {
                    self.take_while(|c| c != '\n');
                    break;
                }
                '\\' => {
                    self.bump();
                    match self.peek() {
                        Some('\n') => {
                            self.bump();
                        }
                        Some(escaped) => {
                            value.push(escaped);
                            self.bump();
                        }
                        None => break,
                    }
                }
                _ => {
                    value.push(c);
                    self.bump();
                }
            }
        }
        value.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).expect("parses").into_iter().map(|e| (e.key, e.value)).collect()
    }

    #[test]
    fn quotes_comments_and_continuations() {
        let text = "# head\r\n; too\r\n Work Dir = /a b/c  # note\r\nA='x # y' ; z\nB = \"q\\\"r\"\nC = one\\\n two\nD =\n";
        let expected = [("Work Dir", "/a b/c"), ("A", "x # y"), ("B", "q\"r"), ("C", "one two"), ("D", "")];
        let expected: Vec<_> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn errors_know_their_place() {
        let at = |line, column| Position { line, column };
        assert!(matches!(parse("a = 1\n[s]\n"), Err((p, ConfigProblem::Section)) if p == at(2, 1)));
        assert!(matches!(parse("a = \"x\nb = 1"), Err((p, ConfigProblem::OpenQuote)) if p == at(1, 5)));
        assert!(matches!(parse("\n  word\n"), Err((p, ConfigProblem::NoEquals { .. })) if p == at(2, 3)));
        assert!(matches!(parse("a = 'x' y"), Err((p, ConfigProblem::AfterQuote { .. })) if p == at(1, 9)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*(\n.*){0,6}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_quoted_value_comes_back(value in "[^\n\r]*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let entries = parse(&format!("key = \"{escaped}\"\n")).expect("parses");
            proptest::prop_assert_eq!(&entries[0].value, &value);
        }
    }
}
