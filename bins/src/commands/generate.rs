//! `offsite generate`: manual pages and shell completions, made from the command line's own description.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::arguments::{Cli, Generate};
use crate::base::failure::{Failure, OrFail as _};

/// Runs `offsite generate`.
pub fn run(options: &Generate) -> Result<(), Failure> {
    let directory = &options.directory;
    let failed = format!("cannot write to {}", directory.display());
    std::fs::create_dir_all(directory).or_fail(&failed)?;
    clap_mangen::generate_to(Cli::command(), directory).or_fail(&failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "offsite", directory).or_fail(&failed)?;
    }
    Ok(())
}
