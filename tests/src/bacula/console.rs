//! bconsole through pipes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use super::program::{run, sbin};

/// How long one conversation may take; labelling many volumes takes longest.
const LIMIT: Duration = Duration::from_mins(3);

/// The last line that the console prints before it takes commands.
const GREETING: &str = "Enter a period to cancel a command.\n";

pub(super) struct Console {
    config: PathBuf,
}

impl Console {
    pub(super) fn new(config: PathBuf) -> Self {
        Self { config }
    }

    /// Says some lines and returns what was answered.
    pub(super) fn say(&self, lines: &str) -> anyhow::Result<String> {
        let input = format!("{lines}\nquit\n");
        let said = run(Command::new(sbin("bconsole")).arg("-n").arg("-c").arg(&self.config), &input, LIMIT)?;
        // bconsole ends with 0 whatever happens, but without a Director there is no greeting.
        match said.stdout.split_once(GREETING) {
            Some((_, answer)) => Ok(answer.to_owned()),
            None => bail!("bconsole reached no Director ({}): {}{}", said.status, said.stdout, said.stderr),
        }
    }
}
