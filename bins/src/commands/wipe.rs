//! `offsite wipe`: fills drives with random data, several at once, each on its own.

mod account;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use account::Account;
use clap::ValueEnum;
use media_wipe::{BadRegions, Identity, Report, Target, Verify, WipeError};

use super::arguments::{BadSectors, VerifyMode, Wipe};
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::base::paths::Root;
use crate::base::progress::{DriveProgress, Screen};
use crate::base::shell::quoted;
use crate::base::{confirm, interrupt, report};
use crate::drives::{enrolled, hidden_area, identity, smart};

/// Runs `offsite wipe`.
pub fn run(root: &Root, options: &Wipe) -> Result<(), Failure> {
    let found: Vec<_> =
        options.devices.iter().map(|device| enrolled::identify_to_overwrite(root, device)).collect();
    if options.dry_run {
        for identity in found {
            let identity = identity?;
            println!("would fill {} with random data", confirm::describe(&identity));
            confirm::list_refusals(&identity);
            hidden_area::list(root, &identity);
        }
        return Ok(());
    }
    for identity in found.iter().flatten() {
        hidden_area::warn(root, identity);
    }
    let ids: Vec<_> = found.iter().map(|found| found.as_ref().ok().map(|found| found.id.clone())).collect();
    match confirm_all(found, &options.yes_destroy) {
        Ok((identities, confirmed)) => fill_and_tell(root, options, &identities, &confirmed),
        Err(InTheWay { drive, failure }) => {
            if let (true, Some(at)) = (options.json, drive) {
                let drives = options.devices.iter().zip(ids.iter().map(Option::as_deref));
                if let Err(unheard) = account::print(&Account::of_refusal(drives, at, &failure)) {
                    eprintln!("{unheard}");
                }
            }
            Err(failure)
        }
    }
}

/// What keeps all drives from being touched.
struct InTheWay {
    /// The number of the drive; `None` for the command line.
    drive: Option<usize>,
    failure: Failure,
}

/// Has every drive confirmed before the first one is touched.
fn confirm_all(
    found: Vec<Result<Identity, Failure>>,
    given: &[String],
) -> Result<(Vec<Identity>, Vec<String>), InTheWay> {
    if !given.is_empty() && given.len() != found.len() {
        let message = format!("{} drives, but {} ids to destroy", found.len(), given.len());
        let failure = Failure::new(Exit::Usage, message)
            .hint("give --yes-destroy once for each drive, in the same order");
        return Err(InTheWay { drive: None, failure });
    }
    let is_drive = |number| move |failure| InTheWay { drive: Some(number), failure };
    let mut identities = Vec::new();
    for (number, found) in found.into_iter().enumerate() {
        identities.push(found.map_err(is_drive(number))?);
    }
    let mut confirmed = Vec::new();
    for (number, identity) in identities.iter().enumerate() {
        let id = confirm::destroy(identity, given.get(number).map(String::as_str));
        confirmed.push(id.map_err(is_drive(number))?);
    }
    Ok((identities, confirmed))
}

/// Fills the drives, tells what became of each, and only then forgets their journals.
fn fill_and_tell(
    root: &Root,
    options: &Wipe,
    identities: &[Identity],
    confirmed: &[String],
) -> Result<(), Failure> {
    let results = fill_all(root, options, identities, confirmed)?;
    let (mut accounts, mut failures) = (Vec::new(), Vec::new());
    let (mut unfinished, mut over) = (Vec::new(), Vec::new());
    for (index, (result, identity)) in results.into_iter().zip(identities).enumerate() {
        let (report, failure) = match result {
            Ok(report) => (Some(Box::new(report)), None),
            Err(Unfilled { failure, report }) => (report, Some(failure)),
        };
        if let Some(report) = report {
            if report.resumable { &mut unfinished } else { &mut over }.push(index);
            accounts.push(Account::Worked(report));
        } else if let Some(failure) = &failure {
            accounts.push(Account::untouched(&identity.device, Some(&identity.id), failure));
        }
        failures.extend(failure);
    }
    let told = if options.json {
        account::print(&accounts)
    } else {
        let pages = accounts.iter().filter_map(|account| match account {
            Account::Worked(report) => Some(report.to_text()),
            Account::Untouched { .. } => None,
        });
        report::text(&pages.collect::<String>())
    };
    let failure = one_of(failures);
    if let Err(untold) = told {
        if let Some(failure) = failure {
            eprintln!("{failure}");
        }
        unfinished.extend(over);
        unfinished.sort_unstable();
        if unfinished.is_empty() {
            return Err(untold);
        }
        let again = resuming(root, options, confirmed, &unfinished);
        return Err(untold.hint(format!("to go on, and to have the reports again: {again}")));
    }
    for id in over.iter().filter_map(|index| confirmed.get(*index)) {
        forget(root, id);
    }
    match failure {
        None => Ok(()),
        Some(failure) if unfinished.is_empty() => Err(failure),
        Some(failure) => {
            Err(failure.hint(format!("to go on: {}", resuming(root, options, confirmed, &unfinished))))
        }
    }
}

/// One failure for the program to end with; several are printed.
fn one_of(mut failures: Vec<Failure>) -> Option<Failure> {
    if failures.len() < 2 {
        return failures.pop();
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    Some(Failure::new(Exit::Failed, format!("{} drives were not filled", failures.len())))
}

/// Fills all drives at once; what happens to one leaves the others alone.
fn fill_all(
    root: &Root,
    options: &Wipe,
    identities: &[Identity],
    confirmed: &[String],
) -> Result<Vec<Result<Report, Unfilled>>, Failure> {
    let cancel = interrupt::flag()?;
    let screen = Screen::new()?;
    let manner = Manner { verify: options.verify, bad_sectors: options.bad_sectors, resume: options.resume };
    Ok(std::thread::scope(|scope| {
        let drives: Vec<_> = identities
            .iter()
            .zip(confirmed)
            .map(|(identity, id)| {
                let progress = screen.drive(&identity.device.display().to_string());
                scope.spawn(move || fill(root, identity, id, manner, progress, cancel))
            })
            .collect();
        drives
            .into_iter()
            .map(|d| {
                d.join().unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the fill broke off").into()))
            })
            .collect()
    }))
}

/// The command that goes on with the drives of these numbers, as it was called.
fn resuming(root: &Root, options: &Wipe, confirmed: &[String], unfinished: &[usize]) -> String {
    let mut words = vec!["offsite".to_owned()];
    if root.path() != Path::new("/") {
        words.extend(["--root".into(), root.path().display().to_string()]);
    }
    words.push("wipe".into());
    let device = |index: &usize| options.devices.get(*index).map(|device| device.display().to_string());
    words.extend(unfinished.iter().filter_map(device));
    for id in unfinished.iter().filter_map(|index| confirmed.get(*index)) {
        words.extend(["--yes-destroy".into(), id.clone()]);
    }
    if options.verify != VerifyMode::Full {
        words.extend(["--verify".into(), typed(&options.verify)]);
    }
    if options.bad_sectors != BadSectors::Stop {
        words.extend(["--bad-sectors".into(), typed(&options.bad_sectors)]);
    }
    words.push("--resume".into());
    if options.json {
        words.push("--json".into());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// An option's value as it is typed.
fn typed(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A drive that was not filled, with what is known of it.
#[derive(Debug)]
pub struct Unfilled {
    /// Why.
    pub failure: Failure,
    /// What was done until then, if it came to any work.
    pub report: Option<Box<Report>>,
}

impl From<Failure> for Unfilled {
    fn from(failure: Failure) -> Self {
        Self { failure, report: None }
    }
}

/// How drives are filled.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What is read back.
    pub verify: VerifyMode,
    /// What becomes of regions that can't be written.
    pub bad_sectors: BadSectors,
    /// Whether to go on where an earlier fill stopped.
    pub resume: bool,
}

/// Fills one confirmed drive; its journal stays until [`forget`] removes it, when what became of the drive is told.
pub fn fill(
    root: &Root,
    identity: &Identity,
    id: &str,
    manner: Manner,
    mut progress: DriveProgress,
    cancel: &AtomicBool,
) -> Result<Report, Unfilled> {
    let device = &identity.device;
    let journal = journal(root, id)?;
    if manner.resume && !journal.exists() {
        let at = journal.display();
        progress.say(&format!("{}: begins anew, since there is no journal {at}", device.display()));
    }
    let target = Target::open(&identity::system(root), device, id)
        .or_exit(Exit::Refused, format!("{} was not opened", device.display()))?;
    let verify = match manner.verify {
        VerifyMode::Full => Verify::Full,
        VerifyMode::Sample => Verify::SAMPLE,
        VerifyMode::None => Verify::None,
    };
    let bad_regions = match manner.bad_sectors {
        BadSectors::Stop => BadRegions::Stop,
        BadSectors::Skip => BadRegions::Skip,
    };
    let result = media_wipe::Wipe::new(target)
        .verify(verify)
        .bad_regions(bad_regions)
        .journal(journal)
        .keep_journal()
        .resume(manner.resume)
        .health(|device| smart::account(root, device))
        .cancel(cancel)
        .progress(|p| progress.show(p))
        .run();
    progress.end();
    result.map_err(|error| Unfilled {
        failure: failure(device, &error),
        report: error.report().cloned().map(Box::new),
    })
}

/// Forgets the journal of a fill that is over.
pub fn forget(root: &Root, id: &str) {
    let forgotten = journal(root, id).and_then(|path| {
        media_wipe::forget_journal(&identity::system(root), &path)
            .or_fail(format!("the journal {} is left behind", path.display()))
    });
    if let Err(failure) = forgotten {
        eprintln!("warning: {}", failure.message());
    }
}

fn failure(device: &Path, error: &WipeError) -> Failure {
    let text = chain(error);
    let name = device.display().to_string();
    // Most of what the library says names the drive already.
    let text = if text.contains(&name) { text } else { format!("{name}: {text}") };
    Failure::new(Exit::Failed, text)
}

fn journal(root: &Root, id: &str) -> Result<PathBuf, Failure> {
    let directory = root.state_dir().join("wipe");
    atomic_file::directory_of(&directory, Owner::own(), 0o700)?;
    Ok(directory.join(file_name(id)).with_extension("json"))
}

/// An id as a file's name: what isn't a plain character is written as its number.
pub fn file_name(id: &str) -> String {
    id.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b == b'-' {
                char::from(b).to_string()
            } else {
                format!("_{b:02x}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ids_have_different_files() {
        assert_eq!(file_name("WD-1"), "WD-1");
        assert_eq!(file_name("/tmp/a b"), "_2ftmp_2fa_20b");
        assert_ne!(file_name("a/b"), file_name("a_2fb"));
    }
}
