//! Text to tree.

use std::str::FromStr;

use super::diagnostic::{ParseError, ParseErrorKind};
use super::lexer::{Cursor, OpenQuote, Reading};
use super::text::Span;
use super::tree::{Around, Block, Directive, Document, Include, Item, Stop, Value, same_key};

/// Resources nested deeper than this are refused; Bacula's own never go beyond four.
const MAX_DEPTH: usize = 32;

impl FromStr for Document {
    type Err = ParseError;

    /// Parses a configuration text; includes are kept, not followed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { cursor: Cursor::new(text) };
        let (items, tail) = parser.items(None).map_err(|(kind, span)| ParseError::new(kind, span, text))?;
        Ok(Self { items, tail: Some(tail) })
    }
}

type Failure = (ParseErrorKind, Span);

struct Parser<'t> {
    cursor: Cursor<'t>,
}

/// The block whose items are being read.
struct Within<'t> {
    name: &'t str,
    span: Span,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// Reads items up to the end of the text, or up to the `}` of the block around them.
    fn items(&mut self, within: Option<&Within<'t>>) -> Result<(Vec<Item>, String), Failure> {
        let mut items = Vec::new();
        loop {
            let lead = self.cursor.eat_trivia().to_owned();
            let start = self.cursor.at();
            match (self.cursor.peek(), within) {
                (None, None) => return Ok((items, lead)),
                (None, Some(block)) => {
                    return Err((ParseErrorKind::Unclosed { name: block.name.to_owned() }, block.span));
                }
                (Some('}'), Some(_)) => {
                    self.cursor.bump();
                    return Ok((items, lead));
                }
                (Some('}'), None) => return Err((ParseErrorKind::StrayBrace, Span::new(start, start + 1))),
                (Some('@'), _) => {
                    let raw = self.cursor.eat_include().map_err(open_quote)?.to_owned();
                    let span = Span::new(start, self.cursor.at());
                    let around = Around::Read { lead, trail: self.cursor.eat_line_end().to_owned() };
                    items.push(Item::Include(Include { around, raw, span }));
                }
                (Some(c), _) if c.is_ascii_alphabetic() => {
                    let mut item = self.named(within)?;
                    let trail = self.cursor.eat_line_end().to_owned();
                    if let Item::Block(Block { around, .. }) | Item::Directive(Directive { around, .. }) =
                        &mut item
                    {
                        *around = Around::Read { lead, trail };
                    }
                    items.push(item);
                }
                (Some(found), _) => {
                    let span = Span::new(start, start + found.len_utf8());
                    return Err((ParseErrorKind::NotAName { found }, span));
                }
            }
        }
    }

    /// Reads a directive or a block from its name on.
    fn named(&mut self, within: Option<&Within<'t>>) -> Result<Item, Failure> {
        let start = self.cursor.at();
        let mut key = self.cursor.eat_key();
        // The one name with a digit: a kind of address in `DirAddresses`.
        if key.eq_ignore_ascii_case("ipv") && matches!(self.cursor.peek(), Some('4' | '6')) {
            self.cursor.bump();
            key = self.cursor.since(start);
        }
        let span = Span::new(start, self.cursor.at());
        let gap_start = self.cursor.at();
        // Bacula skips line ends between a key and its `=` or `{`.
        self.cursor.eat_trivia();
        if self.cursor.peek() == Some('{') {
            return self.block(key, span, gap_start, within);
        }
        if self.cursor.peek() != Some('=') {
            let found = self.cursor.peek();
            return Err((ParseErrorKind::NoEquals { key: key.to_owned(), found }, span));
        }
        self.cursor.bump();
        self.cursor.eat_while(super::lexer::is_blank);
        if self.cursor.peek() == Some('{') {
            return self.block(key, span, gap_start, within);
        }
        let gap = self.cursor.since(gap_start).to_owned();
        let in_schedule = within.is_some_and(|block| same_key(block.name, "Schedule"));
        let reading = if in_schedule && same_key(key, "Run") { Reading::RunLine } else { Reading::Value };
        let value = self.value(key, span, reading)?;
        Ok(Item::Directive(Directive { around: Around::Made, key: key.to_owned(), gap, value, span }))
    }

    fn block(
        &mut self,
        key: &'t str,
        span: Span,
        gap_start: usize,
        within: Option<&Within<'t>>,
    ) -> Result<Item, Failure> {
        let gap = self.cursor.since(gap_start).to_owned();
        self.cursor.bump();
        let depth = within.map_or(0, |block| block.depth) + 1;
        if depth > MAX_DEPTH {
            return Err((ParseErrorKind::TooDeep, span));
        }
        let (items, tail) = self.items(Some(&Within { name: key, span, depth }))?;
        Ok(Item::Block(Block {
            around: Around::Made,
            name: key.to_owned(),
            gap,
            items,
            tail: Some(tail),
            span,
        }))
    }

    fn value(&mut self, key: &str, key_span: Span, reading: Reading) -> Result<Value, Failure> {
        let start = self.cursor.at();
        let mut words = Vec::new();
        let mut end = start;
        while let Some(word) = self.cursor.next_word(reading).map_err(open_quote)? {
            end = word.span.end;
            words.push(word);
        }
        let stop = match self.cursor.peek() {
            Some('}') if self.cursor.since(end).starts_with(' ') => Stop::BraceBehindBlank,
            Some('}') => Stop::Brace,
            Some('#') if self.cursor.at() == end => Stop::Comment,
            _ => Stop::Line,
        };
        if words.is_empty() {
            return Err((ParseErrorKind::NoValue { key: key.to_owned() }, key_span));
        }
        let raw_end = end - start;
        let raw = self.cursor.since(start).get(..raw_end).unwrap_or("").to_owned();
        // Blanks behind the last word belong to the line's end.
        self.cursor.back_to(end);
        Ok(Value { raw, words, stop, span: Span::new(start, end) })
    }
}

fn open_quote(OpenQuote(span): OpenQuote) -> Failure {
    (ParseErrorKind::OpenQuote, span)
}
