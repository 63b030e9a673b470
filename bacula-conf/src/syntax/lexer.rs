//! Characters to words, as Bacula's own `lib/lex.c` reads them (measured on 9.6.7 with `bsdjson`).
//!
//! What surprises: blanks inside a bare word that consists of letters only belong to it and vanish
//! (`Full Set` is the one word `FullSet`), a bare word ends at the first blank once it holds anything but letters
//! (`Full Set 2 x` is `FullSet2`, then `x`), and a quoted string may run over several lines.

use super::text::Span;

/// One word of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What the word means: quotes and escapes resolved, blanks inside letters dropped.
    pub text: String,
    /// How it was written.
    pub kind: WordKind,
    /// Where it stands.
    pub span: Span,
}

/// How a word was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    /// Without quotes.
    Bare,
    /// Digits only, without quotes: a number, which Bacula takes neither for a name nor for a text.
    Number,
    /// In double quotes.
    Quoted,
    /// `@file` or `@|command` in the place of a value.
    Include,
    /// `,`
    Comma,
    /// `=` inside a value, as in `mail = root = all`.
    Equals,
    /// `{` behind the first word, which Bacula skips with the rest of the line; in the `Run` of a schedule also `}`.
    Brace,
}

/// Which of Bacula's two ways of reading words applies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Bare words of letters go on over blanks; `}` ends the value.
    Value,
    /// The `Run` of a schedule: blanks separate words, and braces are read over.
    RunLine,
}

/// A quote that is never closed; the span is the opening quote.
#[derive(Clone, Copy)]
pub(crate) struct OpenQuote(pub(crate) Span);

/// A position in the text that moves forward.
#[derive(Clone)]
pub(crate) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Goes back to an earlier place.
    pub(crate) fn back_to(&mut self, at: usize) {
        self.at = self.at.min(at);
    }

    /// The text from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or("")
    }

    pub(crate) fn eat_while(&mut self, accept: impl Fn(char) -> bool) -> &'t str {
        let start = self.at;
        while self.peek().is_some_and(&accept) {
            self.bump();
        }
        self.since(start)
    }

    /// Skips blanks, empty lines, `;` and comments.
    pub(crate) fn eat_trivia(&mut self) -> &'t str {
        let start = self.at;
        if start == 0 && self.peek() == Some('\u{feff}') {
            self.bump();
        }
        loop {
            self.eat_while(|c| c.is_ascii_whitespace() || c == '\u{b}' || c == ';');
            if self.peek() != Some('#') {
                return self.since(start);
            }
            self.eat_while(|c| c != '\n');
        }
    }

    /// Skips blanks, `;` and a comment up to the end of the line.
    pub(crate) fn eat_line_end(&mut self) -> &'t str {
        let start = self.at;
        self.eat_while(|c| is_blank(c) || c == ';');
        if self.peek() == Some('#') {
            self.eat_while(|c| c != '\n');
        }
        self.since(start)
    }

    /// Reads a directive's or resource's name: letters and blanks; blanks at the end are left.
    pub(crate) fn eat_key(&mut self) -> &'t str {
        let start = self.at;
        let read = self.eat_while(|c| c.is_ascii_alphabetic() || c == ' ' || c == '\t');
        self.at = start + read.trim_end().len();
        self.since(start)
    }

    /// Reads `@file`, `@"file"` or `@|command`.
    pub(crate) fn eat_include(&mut self) -> Result<&'t str, OpenQuote> {
        let start = self.at;
        self.bump();
        match self.peek() {
            Some('"') => {
                self.eat_quoted()?;
            }
            Some('|') => {
                self.bump();
                if self.peek() == Some('"') {
                    self.eat_quoted()?;
                } else {
                    self.eat_while(|c| c != '\n');
                }
            }
            _ => {
                self.eat_while(|c| !ends_bare(c) && c != '"');
            }
        }
        Ok(self.since(start))
    }

    /// Reads the next word of a value, or `None` where the value ends.
    pub(crate) fn next_word(&mut self, reading: Reading) -> Result<Option<Word>, OpenQuote> {
        self.eat_blanks();
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(None) };
        let (text, kind) = match first {
            '\n' | ';' | '#' => return Ok(None),
            '}' if reading == Reading::Value => return Ok(None),
            '{' | '}' => {
                self.bump();
                (first.to_string(), WordKind::Brace)
            }
            ',' | '=' => {
                self.bump();
                (first.to_string(), if first == ',' { WordKind::Comma } else { WordKind::Equals })
            }
            '"' => (self.eat_quoted()?, WordKind::Quoted),
            '@' => (self.eat_include()?.to_owned(), WordKind::Include),
            '0'..='9' => self.eat_digits(),
            _ if reading == Reading::RunLine => {
                (self.eat_while(|c| !ends_bare(c)).to_owned(), WordKind::Bare)
            }
            _ => (self.eat_bare(), WordKind::Bare),
        };
        Ok(Some(Word { text, kind, span: Span::new(start, self.at) }))
    }

    /// Skips blanks. Before a word, a backslash with a blank or a line end behind it skips to the next line, with
    /// anything else behind it both are skipped.
    fn eat_blanks(&mut self) {
        self.eat_while(is_blank);
        while self.peek() == Some('\\') {
            self.bump();
            if matches!(self.peek(), Some(' ' | '\r' | '\n')) {
                self.eat_while(|c| c != '\n');
            }
            self.bump();
            self.eat_while(is_blank);
        }
    }

    /// Reads a word that begins with a digit. Whether it is a number, what stands behind it decides.
    fn eat_digits(&mut self) -> (String, WordKind) {
        let digits = self.eat_while(|c| c.is_ascii_digit());
        match self.peek() {
            None | Some(',' | ';' | '\n') => (digits.to_owned(), WordKind::Number),
            Some(c) if is_blank(c) => (digits.to_owned(), WordKind::Number),
            _ => (format!("{digits}{}", self.eat_while(|c| !ends_bare(c))), WordKind::Bare),
        }
    }

    fn eat_quoted(&mut self) -> Result<String, OpenQuote> {
        let start = self.at;
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(OpenQuote(Span::new(start, start + 1))),
                Some('"') => return Ok(text),
                Some('\\') => text.extend(self.bump()),
                Some(other) => text.push(other),
            }
        }
    }

    fn eat_bare(&mut self) -> String {
        let mut text = self.eat_while(|c| c.is_ascii_alphabetic()).to_owned();
        if !text.is_empty() {
            // Letters so far: blanks are dropped and the word goes on, if with anything that isn't special.
            loop {
                let before_blanks = self.at;
                let blanks = self.eat_while(is_blank);
                match self.peek() {
                    Some(next) if !ends_bare(next) && next != '"' => {
                        if next.is_ascii_alphabetic() {
                            text.push_str(self.eat_while(|c| c.is_ascii_alphabetic()));
                            continue;
                        }
                    }
                    _ => {
                        if !blanks.is_empty() {
                            self.at = before_blanks;
                        }
                        return text;
                    }
                }
                break;
            }
        }
        text.push_str(self.eat_while(|c| !ends_bare(c)));
        text
    }
}

/// Blanks within a line, as C's `isspace` less the newline.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

fn ends_bare(c: char) -> bool {
    is_blank(c) || matches!(c, '\n' | '=' | '}' | '{' | ';' | ',' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut cursor = Cursor::new(text);
        let mut found = Vec::new();
        while let Ok(Some(word)) = cursor.next_word(Reading::Value) {
            found.push(word.text);
        }
        found
    }

    /// Each line was given to `bsdjson` 9.6.7, which printed the first word here.
    #[test]
    fn reads_words_as_bacula_does() {
        assert_eq!(words("x y z"), ["xyz"]);
        assert_eq!(words("Full Set"), ["FullSet"]);
        assert_eq!(words("Full Set 2 x"), ["FullSet2", "x"]);
        assert_eq!(words("a2 b"), ["a2", "b"]);
        assert_eq!(words("/a b"), ["/a", "b"]);
        assert_eq!(words("foo bar baz"), ["foobarbaz"]);
        assert_eq!(words(r#""x\"y\\z\n""#), ["x\"y\\zn"]);
        assert_eq!(words("\"a\n b\""), ["a\n b"]);
        assert_eq!(words("a_b c_d"), ["a_b", "c_d"]);
        assert_eq!(words("a , b"), ["a", ",", "b"]);
        assert_eq!(words("a\"b\""), ["a", "b"]);
        assert_eq!(words("a1\"b\""), ["a1\"b\""]);
        assert_eq!(words("p{a b1 {c"), ["p", "{", "ab1", "{", "c"]);
        assert_eq!(words("a, \\\n b"), ["a", ",", "b"]);
        assert_eq!(words("10 GB"), ["10", "GB"]);
        assert_eq!(words("ab # c"), ["ab"]);
        assert_eq!(words("root@localhost = all, !skipped"), ["root@localhost", "=", "all", ",", "!skipped"]);
    }

    #[test]
    fn a_word_stops_before_blanks_at_the_end() {
        let mut cursor = Cursor::new("yes   ; x");
        assert!(cursor.next_word(Reading::Value).is_ok());
        assert_eq!(cursor.at(), 3);
    }
}
