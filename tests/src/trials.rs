//! Tests that need something of the machine: what is missing is said with each test's name, and counts as skipped.

use libtest_mimic::{Arguments, Failed, Trial};

/// A test's name and what it does.
pub type Test = (&'static str, fn() -> anyhow::Result<()>);

/// Runs tests by the command line of this program, or skips them all for what is `lacking`; `at_once` tests at a
/// time, as many as there are processors if none. Ends the program.
pub fn run(lacking: Option<&str>, at_once: Option<usize>, tests: impl IntoIterator<Item = Test>) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = at_once.or(arguments.test_threads);
    let trials = tests.into_iter().map(|(name, test)| {
        let trial = Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:?}"))));
        match lacking {
            Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}
