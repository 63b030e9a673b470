//! What became of each drive, as a script reads it.

use std::path::{Path, PathBuf};

use media_wipe::Report;
use serde::Serialize;

use crate::base::failure::{Exit, Failure};
use crate::base::report;

/// What became of a drive.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Account {
    /// It came to some work.
    Worked(Box<Report>),
    /// It did not.
    Untouched { device: PathBuf, id: Option<String>, outcome: &'static str, errors: Vec<String> },
}

impl Account {
    /// Of a drive that came to no work, by what stood in the way.
    pub(super) fn untouched(device: &Path, id: Option<&str>, failure: &Failure) -> Self {
        Self::Untouched {
            device: device.to_owned(),
            id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            outcome: if failure.exit() == Exit::Refused { "refused" } else { "failed" },
            errors: vec![failure.message().to_owned()],
        }
    }

    /// Of all drives, when the one of the number `at` is in the way and so none was touched.
    pub(super) fn of_refusal<'a>(
        drives: impl Iterator<Item = (&'a PathBuf, Option<&'a str>)>,
        at: usize,
        failure: &Failure,
    ) -> Vec<Self> {
        let others = Failure::new(Exit::Refused, "not touched, since another drive is in the way");
        (0..)
            .zip(drives)
            .map(|(number, (device, id))| {
                Self::untouched(device, id, if number == at { failure } else { &others })
            })
            .collect()
    }
}

/// Prints one object for one drive, for several an array in their order.
pub(super) fn print(accounts: &[Account]) -> Result<(), Failure> {
    match accounts {
        [one] => report::json(one),
        all => report::json(&all),
    }
}
