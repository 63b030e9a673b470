//! Bacula configuration: parse, print, generate and check

mod diagnostic;
mod difference;
mod generate;
mod lexer;
mod name;
mod origin;
mod parse;
mod print;
mod schedule;
mod secret;
mod site;
mod suggest;
mod text;
mod tree;
mod units;
mod value;

pub use diagnostic::{ParseError, ParseErrorKind};
pub use difference::difference;
pub use generate::{ChangerInput, GenerateError, GeneratedFile, Input, generate};
pub use lexer::{Word, WordKind};
pub use name::{Address, MAX_LENGTH, Name, NameError};
pub use origin::{Origin, inspect};
pub use schedule::{Run, RunError};
pub use secret::{Password, PasswordError, Passwords};
pub use site::{
    Accounts, Autochanger, BackupJob, Bacula, Catalog, CatalogBackup, Client, Console, Director, Layout,
    Messages, Paths, Pool, Restore, Schedule, Storage, UpdateSlots,
};
pub use text::{Position, Span};
pub use tree::{Block, Directive, Document, Include, Item, Value, same_key};
pub use units::{Period, Size, UnitError};
pub use value::ValueError;
