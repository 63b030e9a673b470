//! The text of a configuration: words, tree, errors with their place.

pub(crate) mod diagnostic;
pub(crate) mod difference;
pub(crate) mod lexer;
pub(crate) mod parse;
pub(crate) mod print;
pub(crate) mod redact;
pub(crate) mod suggest;
pub(crate) mod text;
pub(crate) mod tree;
pub(crate) mod value;
