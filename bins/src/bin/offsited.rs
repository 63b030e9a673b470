//! The `offsited` program: parses, serves, maps a failure to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use offsite::{as_bacula, failure, process, serve};

fn main() -> ExitCode {
    process::protect();
    if let Some(code) = as_bacula::answer_if_asked() {
        return code;
    }
    failure::exit_code(serve::run(&serve::Options::parse()))
}
