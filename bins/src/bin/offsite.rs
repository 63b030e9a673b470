//! The `offsite` program: parses, calls a flow, maps its failure to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use offsite::cli::{Cli, Command};
use offsite::paths::Root;
use offsite::{
    adopt, as_bacula, conf, control, doctor, eject, failure, generate, identify, init, key, luks, plan,
    prepare, process, status, wipe,
};

fn main() -> ExitCode {
    process::protect();
    if let Some(code) = as_bacula::answer_if_asked() {
        return code;
    }
    let cli = Cli::parse();
    let root = Root::new(cli.root);
    failure::exit_code(match cli.command {
        Command::Init(options) => init::run(&root, &options),
        Command::Identify(options) => identify::run(&root, &options),
        Command::Wipe(options) => wipe::run(&root, &options),
        Command::Prepare(options) => prepare::run(&root, &options),
        Command::Adopt(options) => adopt::run(&root, &options),
        Command::Conf(options) => conf::run(&root, &options),
        Command::Status(options) => status::run(&root, &options),
        Command::Eject(options) => eject::run(&root, &options),
        Command::Unlock(options) => control::ask(&root, control::Verb::Unlock, &options),
        Command::Reload => control::reload_now(&root),
        Command::Lock(options) => control::ask(&root, control::Verb::Lock, &options),
        Command::Plan(options) => plan::run(&root, &options),
        Command::Doctor(options) => doctor::run(&root, &options),
        Command::Key(options) => key::run(&root, &options),
        Command::Luks(options) => luks::run(&root, &options),
        Command::Generate(options) => generate::run(&options),
    })
}
