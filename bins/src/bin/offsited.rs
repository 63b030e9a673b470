//! The `offsited` program: parses, serves, maps a failure to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use offsite::{failure, serve};

fn main() -> ExitCode {
    failure::exit_code(serve::run(&serve::Options::parse()))
}
