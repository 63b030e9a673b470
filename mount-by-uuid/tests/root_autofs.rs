//! Mounting on demand by the kernel's autofs. Needs root; mounts stay in a namespace of their own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod automount_life;
mod automount_relay;
mod automount_restart;
mod automount_trouble;
mod daemon;
mod keepers;
mod sandbox;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = daemon::act_if_asked() {
        return code;
    }
    let lacking = sandbox::enter().or_else(sandbox::lacking_autofs);
    let mut trials = sandbox::trials(lacking, automount_life::TESTS);
    trials.extend(sandbox::trials(lacking, automount_trouble::TESTS));
    trials.extend(sandbox::trials(lacking, automount_restart::TESTS));
    trials.extend(sandbox::trials(lacking, automount_relay::TESTS));
    // They mostly wait, so more at a time than there are processors.
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit_code()
}
