//! The `vchanger` program: what bacula-sd calls. One answer on stdout, nothing left open.

use std::io::Write as _;
use std::process::ExitCode;

use changer_model::{Environment, run_command_line, start_refresh};
use offsite::base::{escape, process};

fn main() -> ExitCode {
    process::keep_files_from_others();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = run_command_line(&arguments, &Environment::new(std::path::Path::new("/")));
    let answered = std::io::stdout().write_all(escape::page(&outcome.stdout).as_bytes());
    let explained = std::io::stderr().write_all(escape::page(&outcome.stderr).as_bytes());
    if answered.and(explained).is_err() {
        return ExitCode::FAILURE; // the answer didn't arrive, so it must not count
    }
    if let Some(config) = outcome.refresh_due {
        // What can't be started now is still owed at the next call, and the answer counts all the same.
        let _ = std::env::current_exe().and_then(|program| start_refresh(&program, &config));
    }
    ExitCode::from(outcome.code)
}
