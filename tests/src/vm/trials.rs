//! Tests in virtual machines, for test programs with `harness = false`.

use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use super::{Image, Vm};

/// Machines at a time: each wants two processors and more than a gigabyte.
const AT_A_TIME: usize = 2;

/// A test with a fresh machine. Where no machine can run it is ignored, and its kind says why.
pub fn trial(name: &str, test: impl FnOnce(&Vm) -> Result<()> + Send + 'static) -> Trial {
    image_trial(name, move |image| Vm::start(image)?.told(test))
}

/// A test that starts its machines itself.
pub fn image_trial(name: &str, test: impl FnOnce(&Image) -> Result<()> + Send + 'static) -> Trial {
    static LACKING: OnceLock<Option<String>> = OnceLock::new();
    match LACKING.get_or_init(Image::lacking) {
        None => Trial::test(name, move || {
            let image = Image::ready(|line| eprintln!("{line}"));
            image.and_then(|image| test(&image)).map_err(|error| format!("{error:#}").into())
        }),
        Some(why) => Trial::test(name, || Ok(())).with_ignored_flag(true).with_kind(why),
    }
}

/// Runs the tests that the command line asks for.
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    libtest_mimic::run(&arguments, trials).exit_code()
}
