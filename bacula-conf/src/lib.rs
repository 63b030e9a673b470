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
mod generate;
mod rotation;
mod schema;
mod site;
mod syntax;
mod values;

pub use check::includes::{Includes, follow};
pub use check::report::{Finding, Severity};
pub use check::{check, check_machine, check_rotation};
pub use generate::error::GenerateError;
pub use generate::input::{ChangerInput, Input};
pub use generate::output::GeneratedFile;
pub use generate::{IncludeLine, generate, include_lines};
pub use rotation::simulation::{DriveOutcome, Night, Outcome, Scenario, simulate};
pub use rotation::turns::Rotation;
pub use schema::host::{Account, Entry, Host, Mount};
pub use schema::known::{KnownDirective, known_directives};
pub use schema::setting::Setting;
pub use schema::settings::{Settings, settings};
pub use site::description::{
    Accounts, Autochanger, BackupJob, Bacula, Catalog, CatalogBackup, Client, Console, Director, Layout,
    Messages, Paths, Pool, Restore, Schedule, Storage, UpdateSlots,
};
pub use site::existing::{ExistingPasswords, adopt_names, existing_passwords};
pub use site::origin::{Origin, inspect, with_header};
pub use syntax::diagnostic::{ParseError, ParseErrorKind};
pub use syntax::difference::difference;
pub use syntax::lexer::{Word, WordKind};
pub use syntax::redact::{hide_passwords, hide_passwords_of};
pub use syntax::text::{Position, Span};
pub use syntax::tree::{Block, Directive, Document, Include, Item, Value, same_key};
pub use syntax::value::ValueError;
pub use values::name::{Address, MAX_LENGTH, Name, NameError};
pub use values::password::{Password, PasswordError, Passwords};
pub use values::program::Program;
pub use values::schedule::{Run, RunError};
pub use values::units::{Period, Size, UnitError};
