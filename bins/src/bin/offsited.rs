//! The `offsited` program: parses, supervises or serves, maps a failure to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use offsite::bacula::as_bacula;
use offsite::base::{failure, process};
use offsite::daemon::supervise;

fn main() -> ExitCode {
    process::protect();
    if let Some(code) = as_bacula::answer_if_asked() {
        return code;
    }
    match supervise::run(&supervise::Options::parse()) {
        Ok(code) if code != 0 => ExitCode::from(code),
        result => failure::exit_code(result.map(drop)),
    }
}
