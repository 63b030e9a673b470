//! The `offsite` program: parses, calls a flow, maps its failure to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use offsite::bacula::as_bacula;
use offsite::base::paths::Root;
use offsite::base::{failure, process};
use offsite::commands::arguments::{Cli, Command};
use offsite::commands::{
    adopt, conf, doctor, eject, generate, identify, init, key, luks, plan, prepare, status, wipe,
};
use offsite::protocol::socket;

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
        Command::Unlock(options) => offsite::commands::ask_daemon::ask(&root, socket::Verb::Unlock, &options),
        Command::Reload => offsite::commands::ask_daemon::reload_now(&root),
        Command::Lock(options) => offsite::commands::ask_daemon::ask(&root, socket::Verb::Lock, &options),
        Command::Plan(options) => plan::run(&root, &options),
        Command::Doctor(options) => doctor::run(&root, &options),
        Command::Key(options) => key::run(&root, &options),
        Command::Luks(options) => luks::run(&root, &options),
        Command::Generate(options) => generate::run(&options),
    })
}
