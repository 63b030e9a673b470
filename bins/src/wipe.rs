//! `offsite wipe`: fills drives with random data, several at once, each on its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use media_wipe::{BadRegions, Identity, Report, System, Target, Verify, WipeError};

use crate::cli::{BadSectors, VerifyMode, Wipe};
use crate::failure::{Exit, Failure, OrFail as _, chain};
use crate::paths::Root;
use crate::progress::{DriveProgress, Screen};
use crate::{confirm, identify, interrupt, report, smart};

/// Runs `offsite wipe`.
pub fn run(root: &Root, options: &Wipe) -> Result<(), Failure> {
    let identities = options.devices.iter().map(|d| identify::one(root, d)).collect::<Result<Vec<_>, _>>()?;
    if options.dry_run {
        for identity in &identities {
            println!("would fill {} with random data", confirm::describe(identity));
            for refusal in &identity.refusals {
                println!("  but: {refusal}");
            }
        }
        return Ok(());
    }
    let confirmed = confirm_all(&identities, &options.yes_destroy)?;
    let results = fill_all(root, options, &identities, &confirmed)?;

    let (mut reports, mut failures, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
    for (index, result) in results.into_iter().enumerate() {
        let report = match result {
            Ok(report) => Some(report),
            Err(Unfilled { failure, report }) => {
                failures.push(failure);
                report.map(|report| *report)
            }
        };
        if report.as_ref().is_some_and(|report| report.resumable) {
            unfinished.push(index);
        }
        reports.extend(report);
    }
    match (options.json, reports.as_slice()) {
        (true, [one]) if options.devices.len() == 1 => report::json(one)?,
        (true, all) => report::json(&all)?,
        (false, all) => all.iter().for_each(|r| print!("{}", r.to_text())),
    }
    let failure = match failures.len() {
        0 => return Ok(()),
        1 => failures.pop().unwrap_or_else(|| Failure::new(Exit::Failed, "a drive was not filled")),
        n => {
            for failure in &failures {
                eprintln!("{failure}");
            }
            Failure::new(Exit::Failed, format!("{n} drives were not filled"))
        }
    };
    if unfinished.is_empty() {
        return Err(failure);
    }
    Err(failure.hint(format!("to go on: {}", resuming(root, options, &confirmed, &unfinished))))
}

fn confirm_all(identities: &[Identity], given: &[String]) -> Result<Vec<String>, Failure> {
    if !given.is_empty() && given.len() != identities.len() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} drives, but {} ids to destroy", identities.len(), given.len()),
        )
        .hint("give --yes-destroy once for each drive, in the same order"));
    }
    let mut given = given.iter();
    identities.iter().map(|identity| confirm::destroy(identity, given.next().map(String::as_str))).collect()
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

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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

/// Fills one confirmed drive; its journal is kept until all is proven.
pub fn fill(
    root: &Root,
    identity: &Identity,
    id: &str,
    manner: Manner,
    mut progress: DriveProgress,
    cancel: &AtomicBool,
) -> Result<Report, Unfilled> {
    let device = &identity.device;
    let target = Target::open(&System::new(root.kernel()), device, id)
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
        .journal(journal(root, id)?)
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

fn failure(device: &Path, error: &WipeError) -> Failure {
    let text = chain(error);
    let name = device.display().to_string();
    // Most of what the library says names the drive already.
    let text = if text.contains(&name) { text } else { format!("{name}: {text}") };
    Failure::new(Exit::Failed, text)
}

fn journal(root: &Root, id: &str) -> Result<PathBuf, Failure> {
    let directory = root.state_dir().join("wipe");
    std::fs::create_dir_all(&directory).or_fail(format!("cannot make {}", directory.display()))?;
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

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("/dev/disk/by-id/usb-WD_1:0"), "/dev/disk/by-id/usb-WD_1:0");
        assert_eq!(quoted("it's a drive"), r"'it'\''s a drive'");
        assert_eq!(quoted(""), "''");
    }
}
