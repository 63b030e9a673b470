//! From the description of a site to the files of Bacula and of the changer.

mod bareos;
mod builder;
mod changer;
mod client;
mod console;
mod director;
mod storage;

use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::diagnostic::ParseError;
use crate::name::{MAX_LENGTH, Name};
use crate::origin;
use crate::secret::Passwords;
use crate::site::{Bacula, Layout};
use crate::tree::{Document, Include};
use crate::value::ValueError;

/// The most virtual drives that are generated.
const MAX_DRIVES: u8 = 64;

/// All that the files are made from.
pub struct Input<'a> {
    /// The description that the files' headers name, e.g. `/etc/offsite/site.toml`.
    pub source: &'a Path,
    /// Bacula.
    pub bacula: &'a Bacula,
    /// The shared passwords.
    pub passwords: &'a Passwords,
    /// The changer.
    pub changer: &'a ChangerInput,
}

/// What the changer program needs to know, and Bacula about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangerInput {
    /// Name of the changer, and of the Director's Storage resource.
    pub storage_name: Name,
    /// Where the changer keeps its state and the drives' links.
    pub work_dir: PathBuf,
    /// The changer's log file.
    pub log_file: PathBuf,
    /// The changer's configuration file.
    pub config_path: PathBuf,
    /// The changer program.
    pub command: PathBuf,
    /// Directories in which the magazines' filesystems appear, in the order of their slots.
    pub magazines: Vec<PathBuf>,
}

impl ChangerInput {
    /// The changer `c0` with this project's usual paths.
    pub fn new(magazines: Vec<PathBuf>) -> Self {
        Self {
            storage_name: Name::known("c0"),
            work_dir: PathBuf::from("/var/lib/offsite/c0"),
            log_file: PathBuf::from("/var/log/offsite/c0.log"),
            config_path: PathBuf::from("/etc/offsite/vchanger.conf"),
            command: PathBuf::from("/usr/bin/vchanger"),
            magazines,
        }
    }
}

/// A file as it is to be installed.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Where it belongs: an absolute path.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Name of the owning user.
    pub owner: String,
    /// Name of the owning group.
    pub group: String,
    /// Its content, passwords included.
    pub text: String,
}

impl Debug for GeneratedFile {
    /// Leaves the text out: it holds passwords.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedFile")
            .field("path", &self.path)
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("owner", &self.owner)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// A description that no configuration can be made from.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerateError {
    /// A text that can't be written.
    #[error("{directive} of {resource}: {source}")]
    Value {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// What is wrong with the text.
        source: ValueError,
    },
    /// Longer than Bacula takes.
    #[error(
        "{directive} of {resource} has {length} bytes, Bacula takes at most {MAX_LENGTH}: shorten {text:?}"
    )]
    TooLong {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The text.
        text: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A path that has to be absolute.
    #[error("{directive} of {resource} needs an absolute path in UTF-8, not {path:?}")]
    Path {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The path.
        path: PathBuf,
    },
    /// A path that Bacula hands to a shell when it starts, or in which it replaces codes.
    #[error(
        "{directive} of {resource} can't be {path:?}: Bacula gives {found:?} a meaning of its own there; choose another path"
    )]
    Expanded {
        /// The resource.
        resource: String,
        /// The directive.
        directive: String,
        /// The path.
        path: PathBuf,
        /// The character.
        found: char,
    },
    /// Somebody to send mail to, whom Bacula puts into a command.
    #[error(
        "{address:?} in bacula.messages.mail holds {found:?}; write one plain address, e.g. root@localhost"
    )]
    Mail {
        /// What was given.
        address: String,
        /// The first wrong character.
        found: char,
    },
    /// A path inside a command, which Bacula splits at blanks and searches for `%`.
    #[error("{path:?} can't stand in a command of Bacula's: it holds {found:?}; choose another path")]
    CommandPath {
        /// The path.
        path: PathBuf,
        /// The character.
        found: char,
    },
    /// Two resources of one type with one name.
    #[error("two {kind} resources would be called {name}; give one of them another name")]
    Duplicate {
        /// The type.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A list that may not be empty.
    #[error("{what} is empty; add at least one entry to {key}")]
    Empty {
        /// What it is.
        what: &'static str,
        /// Its key in the site's description.
        key: &'static str,
    },
    /// Too few or too many virtual drives.
    #[error("{drives} virtual drives are set in bacula.autochanger.drives; use 1 to {MAX_DRIVES}")]
    Drives {
        /// The number given.
        drives: u8,
    },
    /// The Admin job would not run first.
    #[error(
        "job {update_slots} has priority {priority} and would not run before job {job} with priority {job_priority}; \
         lower bacula.update_slots.priority"
    )]
    Priority {
        /// The Admin job.
        update_slots: String,
        /// Its priority.
        priority: u32,
        /// The job that would run too early.
        job: String,
        /// Its priority.
        job_priority: u32,
    },
}

/// Generates all files, the changer's from the first magazine on; the caller decides what to do with those that exist already (see [`crate::inspect`]).
///
/// # Errors
/// Names the resource and directive that can't be written, or the setting that makes no sense.
///
/// # Examples
/// ```
/// use bacula_conf::{Bacula, ChangerInput, Input, Password, Passwords, generate};
/// use std::path::Path;
///
/// let password = |text: &str| Password::new(text);
/// let files = generate(&Input {
///     source: Path::new("/etc/offsite/site.toml"),
///     bacula: &Bacula::default(),
///     passwords: &Passwords {
///         director: password("one")?,
///         storage: password("two")?,
///         client: password("three")?,
///         console: password("four")?,
///     },
///     changer: &ChangerInput::new(vec!["/mnt/offsite/6c5b725d-50c4-4605-b750-4f23575b9b5f".into()]),
/// })?;
/// assert!(files.iter().any(|file| file.path == Path::new("/etc/bacula/bacula-sd.conf")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn generate(input: &Input<'_>) -> Result<Vec<GeneratedFile>, GenerateError> {
    let bacula = input.bacula.clone().settled();
    let input = &Input { bacula: &bacula, ..*input };
    validate(input)?;
    let paths = &input.bacula.paths;
    let accounts = &input.bacula.accounts;
    let configuration = |name: &str| paths.configuration.join(name);
    let bacula = accounts.group.as_str();
    let mut files = Vec::new();
    match input.bacula.layout {
        Layout::Complete => {
            files.push(file(
                input,
                configuration("bacula-dir.conf"),
                ("root", bacula),
                &director::complete(input)?,
                &[],
            ));
            files.push(file(
                input,
                configuration("bacula-sd.conf"),
                ("root", bacula),
                &storage::complete(input)?,
                &[],
            ));
            files.push(file(
                input,
                configuration("bacula-fd.conf"),
                ("root", bacula),
                &client::complete(input)?,
                &[],
            ));
            files.push(file(
                input,
                configuration("bconsole.conf"),
                ("root", bacula),
                &console::full(input)?,
                &[],
            ));
        }
        Layout::Bareos => files.extend(bareos::files(input)?),
        Layout::Include => {
            let documents = [director::include(input)?, storage::include(input)?];
            for (line, document) in include_lines(input.bacula).into_iter().zip(documents) {
                let notes = [
                    format!("To use it, add this one line to {}:", line.file.display()),
                    format!("  {}", line.line()),
                ];
                files.push(file(input, line.includes, ("root", bacula), &document, &notes));
            }
        }
    }
    // The changer's user reads this, and must not write it: whoever runs a console on it runs its commands.
    let restricted = &console::restricted(input)?;
    files.push(file(input, console::restricted_path(input), ("root", bacula), restricted, &[]));
    // A changer without a magazine has no configuration that it could be called with.
    if !input.changer.magazines.is_empty() {
        let config = input.changer.config_path.clone();
        files.push(GeneratedFile {
            mode: 0o644,
            ..file(input, config, ("root", "root"), &changer::document(input)?, &[])
        });
    }
    Ok(files)
}

/// The one line that an installed file needs to take part in what was generated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncludeLine {
    /// The administrator's file.
    pub file: PathBuf,
    /// The generated file that it has to include.
    pub includes: PathBuf,
}

impl IncludeLine {
    /// The line, without its end.
    pub fn line(&self) -> String {
        format!("@{}", self.includes.display())
    }

    /// The administrator's text with the line behind it, or `None` if the file is included already.
    ///
    /// # Errors
    /// The text can't be parsed, so nobody can tell what a further line would mean.
    pub fn add(&self, text: &str) -> Result<Option<String>, ParseError> {
        let document: Document = text.parse()?;
        let named = |include: &Include| include.path().is_some_and(|path| Path::new(path) == self.includes);
        if document.includes().any(named) {
            return Ok(None);
        }
        // Bacula refuses a file that ends within a line.
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        Ok(Some(format!("{text}{end}{}\n", self.line())))
    }
}

/// The lines that the layout `include` needs in installed files; none for the other layouts.
pub fn include_lines(bacula: &Bacula) -> Vec<IncludeLine> {
    if bacula.layout != Layout::Include {
        return Vec::new();
    }
    let configuration = &bacula.paths.configuration;
    let line =
        |whole, own| IncludeLine { file: configuration.join(whole), includes: configuration.join(own) };
    vec![line("bacula-dir.conf", "offsite-dir.conf"), line("bacula-sd.conf", "offsite-sd.conf")]
}

fn file(
    input: &Input<'_>,
    path: PathBuf,
    (owner, group): (&str, &str),
    document: &Document,
    notes: &[String],
) -> GeneratedFile {
    let text = origin::with_header(input.source, notes, &document.to_string());
    GeneratedFile { path, mode: 0o640, owner: owner.to_owned(), group: group.to_owned(), text }
}

/// What no single directive can see.
fn validate(input: &Input<'_>) -> Result<(), GenerateError> {
    let bacula = input.bacula;
    let drives = bacula.autochanger.drives;
    if !(1..=MAX_DRIVES).contains(&drives) {
        return Err(GenerateError::Drives { drives });
    }
    if let Some(address) = &bacula.messages.mail {
        plain_address(address)?;
    }
    for program in [&bacula.paths.scripts, &bacula.paths.bsmtp] {
        plain_command_path(program)?;
    }
    if bacula.schedule.runs.is_empty() {
        return Err(GenerateError::Empty { what: "the schedule", key: "bacula.schedule.runs" });
    }
    if bacula.layout == Layout::Include {
        return Ok(());
    }
    let mut names = vec![&bacula.update_slots.name, &bacula.restore.name];
    if bacula.catalog_backup.enabled {
        names.push(&bacula.catalog_backup.name);
    }
    for job in &bacula.jobs {
        names.push(&job.name);
        if job.paths.is_empty() {
            return Err(GenerateError::Empty {
                what: "the list of paths to back up",
                key: "bacula.jobs.paths",
            });
        }
        if job.priority <= bacula.update_slots.priority {
            return Err(GenerateError::Priority {
                update_slots: bacula.update_slots.name.to_string(),
                priority: bacula.update_slots.priority,
                job: job.name.to_string(),
                job_priority: job.priority,
            });
        }
    }
    if bacula.jobs.is_empty() {
        return Err(GenerateError::Empty { what: "the list of backup jobs", key: "bacula.jobs" });
    }
    refuse_duplicates("Job", &names)?;
    refuse_duplicates("Client", &[&bacula.client.name, &bacula.update_slots.placeholder])
}

/// Bacula splits a command at blanks, knows quotes, and replaces `%` codes; no shell sees it.
fn plain_command_path(path: &Path) -> Result<(), GenerateError> {
    let special = |c: &char| c.is_whitespace() || matches!(c, '%' | '"' | '\'' | '\\');
    match path.to_string_lossy().chars().find(special) {
        Some(found) => Err(GenerateError::CommandPath { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// The address becomes an argument of the mail program.
fn plain_address(address: &str) -> Result<(), GenerateError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-' | '+');
    let first = address.chars().next().filter(|c| !c.is_ascii_alphanumeric());
    match first.or_else(|| address.chars().find(|c| !plain(*c))) {
        Some(found) => Err(GenerateError::Mail { address: address.to_owned(), found }),
        None if address.is_empty() => {
            Err(GenerateError::Empty { what: "the address", key: "bacula.messages.mail" })
        }
        None => Ok(()),
    }
}

fn refuse_duplicates(kind: &'static str, names: &[&Name]) -> Result<(), GenerateError> {
    let mut sorted: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => Err(GenerateError::Duplicate { kind, name: pair.first().cloned().unwrap_or_default() }),
        None => Ok(()),
    }
}
