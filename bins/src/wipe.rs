//! `offsite wipe`: fills drives with random data, several at once, each on its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use media_wipe::{Identity, Report, System, Target, Verify, WipeError};

use crate::cli::{VerifyMode, Wipe};
use crate::failure::{Exit, Failure, OrFail as _, chain};
use crate::paths::Root;
use crate::progress::{DriveProgress, Screen};
use crate::{confirm, identify, interrupt, report};

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
    if !options.yes_destroy.is_empty() && options.yes_destroy.len() != identities.len() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} drives, but {} ids to destroy", identities.len(), options.yes_destroy.len()),
        )
        .hint("give --yes-destroy once for each drive, in the same order"));
    }
    let mut given = options.yes_destroy.iter();
    let confirmed = identities
        .iter()
        .map(|identity| confirm::destroy(identity, given.next().map(String::as_str)))
        .collect::<Result<Vec<_>, _>>()?;

    let cancel = interrupt::flag()?;
    let screen = Screen::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let drives: Vec<_> = identities
            .iter()
            .zip(&confirmed)
            .map(|(identity, id)| {
                let progress = screen.drive(&identity.device.display().to_string());
                scope
                    .spawn(move || fill(root, identity, id, options.verify, options.resume, progress, cancel))
            })
            .collect();
        drives
            .into_iter()
            .map(|d| {
                d.join().unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the fill broke off").into()))
            })
            .collect()
    });

    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(report) => reports.push(report),
            Err(Unfilled { failure, report }) => {
                reports.extend(report.map(|r| *r));
                failures.push(failure);
            }
        }
    }
    match (options.json, reports.as_slice()) {
        (true, [one]) if options.devices.len() == 1 => report::json(one)?,
        (true, all) => report::json(&all)?,
        (false, all) => all.iter().for_each(|r| print!("{}", r.to_text())),
    }
    match failures.len() {
        0 => Ok(()),
        1 => failures.pop().map_or(Ok(()), Err),
        n => {
            for failure in &failures {
                eprintln!("{failure}");
            }
            Err(Failure::new(Exit::Failed, format!("{n} drives were not filled")))
        }
    }
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

/// Fills one confirmed drive; its journal is kept until all is proven.
pub fn fill(
    root: &Root,
    identity: &Identity,
    id: &str,
    verify: VerifyMode,
    resume: bool,
    mut progress: DriveProgress,
    cancel: &AtomicBool,
) -> Result<Report, Unfilled> {
    let device = &identity.device;
    let target = Target::open(&System::new(root.kernel()), device, id)
        .or_exit(Exit::Refused, format!("{} was not opened", device.display()))?;
    let verify = match verify {
        VerifyMode::Full => Verify::Full,
        VerifyMode::Sample => Verify::SAMPLE,
        VerifyMode::None => Verify::None,
    };
    let wipe = media_wipe::Wipe::new(target).verify(verify).journal(journal(root, id)?).resume(resume);
    let result = wipe.cancel(cancel).progress(|p| progress.show(p)).run();
    progress.end();
    result.map_err(|error| Unfilled {
        failure: failure(device, &error, id),
        report: error.report().cloned().map(Box::new),
    })
}

fn failure(device: &Path, error: &WipeError, id: &str) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{}: {}", device.display(), chain(error)));
    match error {
        WipeError::Cancelled { .. } => {
            failure.hint(format!("to go on: offsite wipe {} --yes-destroy {id} --resume", device.display()))
        }
        _ => failure,
    }
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
    use super::file_name;

    #[test]
    fn different_ids_have_different_files() {
        assert_eq!(file_name("WD-1"), "WD-1");
        assert_eq!(file_name("/tmp/a b"), "_2ftmp_2fa_20b");
        assert_ne!(file_name("a/b"), file_name("a_2fb"));
    }
}
