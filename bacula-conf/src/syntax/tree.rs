//! The syntax tree: resources, directives and includes, with every blank and comment kept.

use super::lexer::{Word, WordKind, is_blank};
use super::text::Span;

/// A whole configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub(crate) items: Vec<Item>,
    /// What follows the last item; `None` for a document made by a program.
    pub(crate) tail: Option<String>,
}

/// One thing that stands in a file or between two braces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// `Name { ... }` or `Name = { ... }`.
    Block(Block),
    /// `key = value`.
    Directive(Directive),
    /// `@file` or `@|command`; neither followed nor run.
    Include(Include),
}

/// What stands around an item: kept as it was, or left to the printer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Around {
    /// Read from a file: the text before, and what follows on the same line.
    Read { lead: String, trail: String },
    /// Made by a program: comment lines to print before it.
    #[default]
    Made,
    /// The same, with comment lines to print before the item.
    Commented(Vec<String>),
}

/// A resource or a nested group of directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) around: Around,
    pub(crate) name: String,
    /// Between the name and `{`.
    pub(crate) gap: String,
    pub(crate) items: Vec<Item>,
    /// Between the last item and `}`; `None` where the printer decides.
    pub(crate) tail: Option<String>,
    pub(crate) span: Span,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    pub(crate) around: Around,
    pub(crate) key: String,
    /// Between the key and the value.
    pub(crate) gap: String,
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// An include, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    pub(crate) around: Around,
    pub(crate) raw: String,
    pub(crate) span: Span,
}

/// A value: its text as written, and the words that Bacula reads from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub(crate) raw: String,
    pub(crate) words: Vec<Word>,
    pub(crate) stop: Stop,
    pub(crate) span: Span,
}

/// What ends a value. To some of Bacula's readers it makes a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The end of the line, a comment behind a blank, or `;`.
    #[default]
    Line,
    /// A comment directly behind the last word.
    Comment,
    /// The `}` of the block around it, directly behind the last word or behind a tab.
    Brace,
    /// The same behind a space.
    BraceBehindBlank,
}

impl Stop {
    pub(crate) fn is_brace(self) -> bool {
        matches!(self, Self::Brace | Self::BraceBehindBlank)
    }
}

/// Compares two names as Bacula does: case and blanks don't count.
pub fn same_key(left: &str, right: &str) -> bool {
    let mut left = left.chars().filter(|c| !c.is_ascii_whitespace());
    let mut right = right.chars().filter(|c| !c.is_ascii_whitespace());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(l), Some(r)) if l.eq_ignore_ascii_case(&r) => {}
            _ => return false,
        }
    }
}

/// Access to what stands in a file or block; both have it.
macro_rules! container {
    ($($type:ty),*) => { $(
        impl $type {
            /// All items in order.
            pub fn items(&self) -> &[Item] {
                &self.items
            }

            /// The directives in order.
            pub fn directives(&self) -> impl Iterator<Item = &Directive> {
                self.items.iter().filter_map(|item| match item {
                    Item::Directive(directive) => Some(directive),
                    _ => None,
                })
            }

            /// The blocks in order.
            pub fn blocks(&self) -> impl Iterator<Item = &Block> {
                self.items.iter().filter_map(|item| match item {
                    Item::Block(block) => Some(block),
                    _ => None,
                })
            }

            /// The includes in order.
            pub fn includes(&self) -> impl Iterator<Item = &Include> {
                self.items.iter().filter_map(|item| match item {
                    Item::Include(include) => Some(include),
                    _ => None,
                })
            }

            /// The last directive of this name (the last one counts for Bacula); case and blanks in the name don't matter.
            pub fn directive(&self, key: &str) -> Option<&Directive> {
                self.directives().filter(|directive| same_key(&directive.key, key)).last()
            }

            /// The first word of the last directive of this name.
            pub fn text(&self, key: &str) -> Option<&str> {
                self.directive(key)?.value.text()
            }

            /// Appends an item.
            pub fn push(&mut self, item: impl Into<Item>) {
                self.items.push(item.into());
            }

            /// Replaces the value of the last directive of this name, or appends one.
            pub fn set(&mut self, key: &str, value: Value) {
                let found = self.items.iter_mut().rev().find_map(|item| match item {
                    Item::Directive(directive) if same_key(&directive.key, key) => Some(directive),
                    _ => None,
                });
                match found {
                    Some(directive) => directive.value = value,
                    None => self.push(Directive::new(key, value)),
                }
            }
        }
    )* };
}
container!(Document, Block);

impl Document {
    /// The blocks of one type, e.g. `Job`.
    pub fn blocks_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks().filter(move |block| block.is(name))
    }
}

impl Block {
    /// Makes an empty block.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            around: Around::default(),
            name: name.into(),
            gap: " ".to_owned(),
            items: Vec::new(),
            tail: None,
            span: Span::default(),
        }
    }

    /// The name as written, e.g. `Run Script`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a block of that type; case and blanks don't matter.
    pub fn is(&self, name: &str) -> bool {
        same_key(&self.name, name)
    }

    /// Where the name stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Appends `key = value` and returns the block.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.push(Directive::new(key, value));
        self
    }

    /// Appends an item and returns the block.
    #[must_use]
    pub fn containing(mut self, item: impl Into<Item>) -> Self {
        self.push(item);
        self
    }

    /// Puts comment lines before the block.
    #[must_use]
    pub fn commented(mut self, comment: &str) -> Self {
        self.around = Around::commented(comment);
        self
    }
}

impl Around {
    fn commented(comment: &str) -> Self {
        // A line break other than '\n' ends no comment, but would look as if it did.
        Self::Commented(comment.lines().map(|line| line.replace(char::is_control, " ")).collect())
    }
}

impl Directive {
    /// Makes `key = value`.
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self {
            around: Around::default(),
            key: key.into(),
            gap: " = ".to_owned(),
            value,
            span: Span::default(),
        }
    }

    /// The key as written.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this is the directive of that name; case and blanks don't matter.
    pub fn is(&self, key: &str) -> bool {
        same_key(&self.key, key)
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Where the key stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Puts comment lines before the directive.
    #[must_use]
    pub fn commented(mut self, comment: &str) -> Self {
        self.around = Around::commented(comment);
        self
    }
}

impl Include {
    /// The include as written, with its `@`.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The file's name, or `None` for `@|command`.
    pub fn path(&self) -> Option<&str> {
        let target = self.raw.strip_prefix('@')?;
        if target.starts_with('|') {
            return None;
        }
        Some(target.trim_matches('"'))
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span
    }
}

impl Value {
    /// The value as written, from its first word to its last.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// All words.
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The first word's text, which is all that Bacula reads for a name, a string, a number or yes/no.
    pub fn text(&self) -> Option<&str> {
        self.words.first().map(|word| word.text.as_str())
    }

    /// The texts between the commas of a list.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.words
            .split(|word| word.kind == WordKind::Comma)
            .filter_map(|entry| entry.first().map(|word| word.text.as_str()))
    }

    /// All words with one blank between them, e.g. `4 weeks` or `Level=Full 1st sun at 23:05`.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for word in &self.words {
            let glued = matches!(word.kind, WordKind::Equals | WordKind::Comma) || line.ends_with('=');
            if !line.is_empty() && !glued {
                line.push(' ');
            }
            line.push_str(&word.text);
        }
        line
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the next word stands directly behind this one; words of letters take the blanks behind them along.
    pub(crate) fn touches_next(&self, index: usize) -> bool {
        self.words.get(index).is_some_and(is_letters)
            || self.behind(index).is_some_and(|text| !text.starts_with(is_blank))
    }

    /// Whether a number with units goes on behind this word: it isn't all letters, and a space follows.
    pub(crate) fn goes_on_behind(&self, index: usize) -> bool {
        !self.words.get(index).is_some_and(is_letters)
            && self.behind(index).is_some_and(|text| text.starts_with(' '))
    }

    /// Whether a number with units would go on behind the last word if a space followed there.
    pub(crate) fn goes_on_at_end(&self) -> bool {
        let last = self.words.len().saturating_sub(1);
        (0..last).all(|index| self.goes_on_behind(index)) && !self.words.get(last).is_some_and(is_letters)
    }

    /// What is written behind a word; nothing of a value that a program made.
    fn behind(&self, index: usize) -> Option<&str> {
        let end = self.words.get(index)?.span.end.checked_sub(self.span.start)?;
        self.raw.get(end..)
    }
}

fn is_letters(word: &Word) -> bool {
    word.kind == WordKind::Bare && word.text.bytes().all(|b| b.is_ascii_alphabetic())
}

impl From<Block> for Item {
    fn from(block: Block) -> Self {
        Self::Block(block)
    }
}

impl From<Directive> for Item {
    fn from(directive: Directive) -> Self {
        Self::Directive(directive)
    }
}

impl From<Include> for Item {
    fn from(include: Include) -> Self {
        Self::Include(include)
    }
}
