//! Bacula configuration: parse, print, generate and check.
//!
//! - [`Document`] is the syntax tree of a configuration file as Bacula's own daemons read it. What was read is printed
//!   byte for byte, an edited directive changes only itself. Includes are kept, never followed, commands never run.
//! - [`generate`] makes all files of a site that backs up to removable drives from its description, [`Bacula`].
//! - [`inspect`] tells a generated file from one that somebody edited or wrote, [`difference`] shows what would change.
//! - [`check`] finds what Bacula's `-t` lets pass in silence, [`check_rotation`] whether the retention outlasts a
//!   [`Rotation`] of drives, and [`simulate`] plays years of backups and swaps through.
//!
//! Nothing here touches files, devices or daemons; texts come in and go out. Measured against Bacula 9.6.7.
//!
//! ```
//! use bacula_conf::{Document, Value};
//!
//! let text = "Storage {\n  Name = c0   # the changer\n  Media Type = File\n}\n";
//! let document: Document = text.parse()?;
//! let storage = document.blocks_named("storage").next().expect("a storage");
//! assert_eq!(storage.text("mediatype"), Some("File"));
//! let mut edited = storage.clone();
//! edited.set("Media Type", Value::string("Offsite File")?);
//! assert_eq!(edited.to_string(), "Storage {\n  Name = c0   # the changer\n  Media Type = \"Offsite File\"\n}");
//!
//! let error = "Storage {\n  Name c0\n}".parse::<Document>().expect_err("no equals sign");
//! assert_eq!(error.to_string(), "line 2, column 3: expected `=` or `{` after \"Name c\", found '0'");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod diagnostic;
mod difference;
mod existing;
mod generate;
mod host;
mod includes;
mod known;
mod lexer;
mod name;
mod origin;
mod parse;
mod print;
mod resources;
mod rotation;
mod schedule;
mod schema;
mod secret;
mod setting;
mod settings;
mod simulation;
mod site;
mod suggest;
mod text;
mod tree;
mod units;
mod value;

pub use check::{Finding, Severity, check, check_machine, check_rotation};
pub use diagnostic::{ParseError, ParseErrorKind};
pub use difference::difference;
pub use existing::{ExistingPasswords, adopt_names, existing_passwords};
pub use generate::{ChangerInput, GenerateError, GeneratedFile, IncludeLine, Input, generate, include_lines};
pub use host::{Account, Entry, Host, Mount};
pub use includes::{Includes, follow};
pub use known::{KnownDirective, known_directives};
pub use lexer::{Word, WordKind};
pub use name::{Address, MAX_LENGTH, Name, NameError};
pub use origin::{Origin, inspect, with_header};
pub use resources::Program;
pub use rotation::Rotation;
pub use schedule::{Run, RunError};
pub use secret::{Password, PasswordError, Passwords, hide_passwords, hide_passwords_of};
pub use setting::Setting;
pub use settings::{Settings, settings};
pub use simulation::{DriveOutcome, Night, Outcome, Scenario, simulate};
pub use site::{
    Accounts, Autochanger, BackupJob, Bacula, Catalog, CatalogBackup, Client, Console, Director, Layout,
    Messages, Paths, Pool, Restore, Schedule, Storage, UpdateSlots,
};
pub use text::{Position, Span};
pub use tree::{Block, Directive, Document, Include, Item, Value, same_key};
pub use units::{Period, Size, UnitError};
pub use value::ValueError;
