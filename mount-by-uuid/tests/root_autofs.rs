//! Mounting on demand by the kernel's autofs. Needs root; mounts stay in a namespace of their own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod automount_life;
mod automount_restart;
mod keepers;
mod sandbox;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A process of its own that serves an automount, for the tests that kill or measure one; it inherits its parent's mounts.
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, rest @ ..] = arguments.as_slice()
        && role == automount_restart::ROLE
    {
        return automount_restart::act(rest);
    }
    let lacking = sandbox::enter().or_else(sandbox::lacking_autofs);
    let mut trials = sandbox::trials(lacking, automount_life::TESTS);
    trials.extend(sandbox::trials(lacking, automount_restart::TESTS));
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}
