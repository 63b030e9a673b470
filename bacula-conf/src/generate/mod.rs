//! From the description of a site to the files of Bacula and of the changer.

mod bareos;
mod builder;
mod changer;
mod client;
mod console;
mod director;
pub(crate) mod error;
pub(crate) mod input;
pub(crate) mod output;
mod storage;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use error::{GenerateError, MAX_DRIVES};
use input::{Input, plain_command_path};
use output::{GeneratedFile, file};

use crate::site::description::{Bacula, Layout};
use crate::syntax::diagnostic::ParseError;
use crate::syntax::tree::{Document, Include};
use crate::values::name::Name;

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
