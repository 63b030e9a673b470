//! Writes one resource after the other; the first error is kept until the resource is finished.

use std::path::Path;

use super::error::GenerateError;
use crate::schema::is_expanded;
use crate::schema::spec::SHELL;
use crate::syntax::tree::{Block, Directive, Document, Value};
use crate::syntax::value::ValueError;
use crate::values::name::{Address, MAX_LENGTH};
use crate::values::password::Password;

/// A resource that is being written.
pub(super) struct Resource {
    block: Block,
    label: String,
    error: Option<GenerateError>,
}

impl Resource {
    /// A resource with its name.
    pub(super) fn new(kind: &'static str, name: &str) -> Self {
        let mut resource = Self { block: Block::new(kind), label: format!("{kind} {name}"), error: None };
        resource = resource.text("Name", name);
        resource
    }

    /// A group of directives inside a resource.
    pub(super) fn group(kind: &'static str) -> Self {
        Self { block: Block::new(kind), label: kind.to_owned(), error: None }
    }

    pub(super) fn comment(mut self, comment: &str) -> Self {
        self.block = self.block.commented(comment);
        self
    }

    pub(super) fn text(self, directive: &'static str, text: &str) -> Self {
        self.made(directive, Value::string(text))
    }

    /// A text that Bacula cuts or refuses beyond 127 bytes.
    pub(super) fn short(mut self, directive: &'static str, text: &str) -> Self {
        if text.len() > MAX_LENGTH {
            let (resource, directive) = (self.label.clone(), directive.to_owned());
            let too_long =
                GenerateError::TooLong { resource, directive, text: text.to_owned(), length: text.len() };
            self.error.get_or_insert(too_long);
        }
        self.text(directive, text)
    }

    pub(super) fn path(mut self, directive: &'static str, path: &Path) -> Self {
        if let Some(text) = path.to_str().filter(|_| path.is_absolute()) {
            // `%` begins a code in some of these, and the others don't need it.
            let special = |c: &char| SHELL.contains(c) || *c == '%';
            if let Some(found) = text.chars().find(special).filter(|_| is_expanded(directive)) {
                let (resource, directive) = (self.label.clone(), directive.to_owned());
                let path = path.to_owned();
                self.error.get_or_insert(GenerateError::Expanded { resource, directive, path, found });
            }
            return self.short(directive, text);
        }
        let (resource, directive) = (self.label.clone(), directive.to_owned());
        self.error.get_or_insert(GenerateError::Path { resource, directive, path: path.to_owned() });
        self
    }

    /// Bacula takes an address to listen on only without quotes.
    pub(super) fn address(self, directive: &'static str, address: &Address) -> Self {
        self.line(directive, address)
    }

    pub(super) fn quoted(self, directive: &'static str, text: &str) -> Self {
        self.made(directive, Value::quoted(text))
    }

    pub(super) fn password(self, password: &Password) -> Self {
        self.quoted("Password", password.reveal())
    }

    pub(super) fn texts<'t>(self, directive: &'static str, texts: impl IntoIterator<Item = &'t str>) -> Self {
        self.made(directive, Value::strings(texts))
    }

    pub(super) fn number(self, directive: &'static str, number: impl Into<u64>) -> Self {
        self.made(directive, Ok(Value::number(number.into())))
    }

    pub(super) fn yes(self, directive: &'static str) -> Self {
        self.made(directive, Ok(Value::yes_no(true)))
    }

    pub(super) fn no(self, directive: &'static str) -> Self {
        self.made(directive, Ok(Value::yes_no(false)))
    }

    pub(super) fn yes_no(self, directive: &'static str, yes: bool) -> Self {
        self.made(directive, Ok(Value::yes_no(yes)))
    }

    pub(super) fn keyword(self, directive: &'static str, keyword: &'static str) -> Self {
        self.made(directive, Ok(Value::keyword(keyword)))
    }

    /// Words that Bacula reads to the end of the line.
    pub(super) fn line(self, directive: &'static str, line: &str) -> Self {
        self.made(directive, Value::bare_line(line))
    }

    /// `directive = destination = kinds`, as messages are addressed.
    pub(super) fn messages(self, directive: &'static str, destination: &str, kinds: &'static str) -> Self {
        let value =
            Value::quoted(destination).map(|left| Value::joined_by_equals(left, Value::keyword(kinds)));
        self.made(directive, value)
    }

    pub(super) fn containing(mut self, inner: Self) -> Self {
        if let (None, Some(error)) = (&self.error, inner.error) {
            self.error = Some(error);
        }
        self.block.push(inner.block);
        self
    }

    /// Goes on with what the closure adds, where a condition holds.
    pub(super) fn when(self, condition: bool, add: impl FnOnce(Self) -> Self) -> Self {
        if condition { add(self) } else { self }
    }

    /// Goes on with what the closure adds, if there is something to add.
    pub(super) fn with_some<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    fn made(mut self, directive: &'static str, value: Result<Value, ValueError>) -> Self {
        match value {
            Ok(value) => self.block.push(Directive::new(directive, value)),
            Err(source) => {
                let (resource, directive) = (self.label.clone(), directive.to_owned());
                self.error.get_or_insert(GenerateError::Value { resource, directive, source });
            }
        }
        self
    }

    /// The type and the name, e.g. `Pool` and `Weekly`.
    pub(super) fn kind_and_name(&self) -> (String, String) {
        let (kind, name) = self.label.split_once(' ').unwrap_or((self.label.as_str(), ""));
        (kind.to_owned(), name.to_owned())
    }

    pub(super) fn finish(self) -> Result<Block, GenerateError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.block),
        }
    }
}

/// Puts resources into a file, one after the other.
pub(super) fn document(resources: impl IntoIterator<Item = Resource>) -> Result<Document, GenerateError> {
    let mut document = Document::default();
    for resource in resources {
        document.push(resource.finish()?);
    }
    Ok(document)
}
