//! From a command line to an answer.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use super::arguments::{self, ArgumentError, Command, Invocation, Request};
use crate::changer::commands::CommandError;
use crate::changer::create::{Creation, Wish};
use crate::changer::opened::Changer;
use crate::config::Config;
use crate::config::environment::{Environment, Privileges};
use crate::config::generation::Generation;
use crate::files::log::{Level, Log};
use crate::library::model::LoadRefusal;
use crate::system::identity;

/// What a changer program prints and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For stdout.
    pub stdout: String,
    /// For stderr; empty when all went well, for bacula-sd reads both as one.
    pub stderr: String,
    /// The exit code: 0 done, 1 refused or failed, 255 no volumes created (0.8: nothing loaded or unloaded).
    pub code: u8,
    /// The configuration of a changer that has to be refreshed, which can't be done within the storage daemon's call:
    /// for [`start_refresh`](crate::start_refresh), once stdout was written.
    pub refresh_due: Option<PathBuf>,
}

const FAILED: u8 = 1;
/// vchanger returns -1 where volumes or a magazine could not be made; 0.8 also from a load or unload that fails.
const MINUS_ONE: u8 = 255;

const HELP: &str = "\
Usage:
  vchanger [options] CONFIG COMMAND [SLOT [DEVICE [DRIVE]]]
      what Bacula's storage daemon calls: COMMAND is list, listall, slots,
      loaded, load or unload
  vchanger [options] CONFIG LISTMAGS
      show the magazines as INDEX:VOLUMES:FIRST SLOT:DIRECTORY
  vchanger [options] CONFIG CREATEVOLS INDEX COUNT [START] [-l PREFIX] [--pool=POOL]
      make COUNT new volumes on magazine INDEX (the first is 0), named by
      PREFIX and a number of four digits, and have Bacula label them into POOL
  vchanger [options] CONFIG INITMAG BAY [-m NUMBER]
      with a configuration of the 0.8 generation: fill the magazine in BAY
  vchanger [options] CONFIG REFRESH [--force] [--if-owed] [--checked]
      look at the magazines and tell Bacula what changed; with --force, tell
      it in any case; with --if-owed, leave it to a refresh that is at work;
      with --checked, when the filesystems of the magazines that are here were
      checked, open their empty volumes that a write error closed
  vchanger --version
  vchanger --help

Options:
  -u, --user=NAME    user to run as when started by root
  -g, --group=NAME   group to run as when started by root
";

/// Does what a command line asks for and returns what is to be printed; the arguments are those behind the
/// program's name.
///
/// Started by root, it becomes the configured user first and stays it, unless
/// [`Environment::privileges`] says otherwise.
pub fn run_command_line(args: &[OsString], env: &Environment) -> Outcome {
    match arguments::parse(args) {
        Ok(Request::Help) => done(HELP.to_owned()),
        Ok(Request::Version) => {
            done(concat!("vchanger (offsite) version ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
        }
        Ok(Request::Command(invocation)) => run(&invocation, env),
        // the storage daemon gives all parameters, and its job's log is no place for the help
        Err(error @ ArgumentError::BadNumber { .. }) if args.len() >= 5 => failed(&error, FAILED),
        Err(error) => Outcome { stdout: HELP.to_owned(), ..failed(&error, FAILED) },
    }
}

fn done(stdout: String) -> Outcome {
    Outcome { stdout, stderr: String::new(), code: 0, refresh_due: None }
}

fn failed(error: &dyn Error, code: u8) -> Outcome {
    Outcome { stdout: String::new(), stderr: line(error), code, refresh_due: None }
}

/// An error and its causes on one line.
fn line(error: &dyn Error) -> String {
    let mut text = format!("vchanger: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.push('\n');
    line
}

fn run(invocation: &Invocation, env: &Environment) -> Outcome {
    let config = match Config::load(&env.root, &invocation.config) {
        Ok(config) => config,
        Err(error) => return failed(&error, FAILED),
    };
    if env.privileges == Privileges::Drop {
        let (user, group) = (invocation.user.as_deref(), invocation.group.as_deref());
        if let Err(error) = identity::assume(&config, env, user, group) {
            return failed(&error, FAILED);
        }
    }
    let (mut log, log_error) = Log::open(&config, env);
    let changer = match Changer::open(&config, env) {
        Ok(changer) => changer,
        Err(error) => return failed(&error, FAILED),
    };
    let mut outcome = execute(&changer, invocation, &config);
    if invocation.by_daemon
        && invocation.command == Command::List
        && changer.is_refresh_due().unwrap_or(false)
    {
        outcome.refresh_due = Some(invocation.config.clone());
    }
    if outcome.stderr.is_empty() {
        log.write(Level::Notice, &format!("{}: done", invocation.command));
    } else {
        log.write(Level::Error, outcome.stderr.trim_end());
    }
    let mut remarks: Vec<String> = config.ignored().iter().map(|line| changer.left_out(line)).collect();
    remarks.extend(log_error.map(|error| line(&error).trim_end().to_owned()));
    for remark in changer.take_remarks() {
        log.tell(&remark);
    }
    for remark in changer.not_told(remarks) {
        log.tell(&remark);
        if !invocation.command.is_of_the_daemon() {
            outcome.stderr.push_str(&format!("{}\n", remark.replace(char::is_control, " ")));
        }
    }
    outcome
}

fn execute(changer: &Changer, invocation: &Invocation, config: &Config) -> Outcome {
    let daemon = invocation.by_daemon;
    match &invocation.command {
        Command::List => answered(changer.list(daemon)),
        Command::ListAll => answered(changer.list_all()),
        Command::Slots => answered(changer.slots(daemon)),
        Command::ListMags => answered(changer.list_magazines()),
        Command::Loaded { drive } => answered(changer.loaded(*drive)),
        Command::Load { slot, drive } => done_or_refused(changer.load(*slot, *drive), config),
        Command::Unload { drive } => done_or_refused(changer.unload(*drive), config),
        Command::Refresh { force, if_owed, checked } => {
            let told = match (if_owed, checked) {
                (true, _) => changer.refresh_if_owed(),
                (false, true) => changer.refresh_checked(*force),
                (false, false) => changer.refresh(*force),
            };
            match told {
                Ok(()) => done(String::new()),
                Err(error) => failed(&error, FAILED),
            }
        }
        Command::CreateVols { magazine, count, start, prefix, pool } => {
            if let Some(pool) = pool
                && !Config::is_pool_name(pool)
            {
                let error = ArgumentError::OptionValue {
                    option: "--pool".to_owned(),
                    problem: "needs the name of a pool: letters, digits, blanks and : . - _ /",
                };
                return failed(&error, FAILED);
            }
            let wish = Wish {
                magazine: *magazine,
                count: *count,
                start: *start,
                prefix: prefix.clone(),
                pool: pool.clone(),
            };
            let creation = changer.create_volumes(&wish);
            created(changer, creation.report(*magazine), creation)
        }
        Command::InitMag { bay, number } if config.generation() == Generation::V08 => {
            let (report, creation) = changer.initialise_magazine(*bay, *number);
            created(changer, report, creation)
        }
        Command::InitMag { .. } => {
            let error = ArgumentError::UnknownCommand { command: "initmag".to_owned() };
            Outcome { stdout: HELP.to_owned(), ..failed(&error, FAILED) }
        }
    }
}

fn answered(answer: Result<String, CommandError>) -> Outcome {
    match answer {
        Ok(text) => done(text),
        Err(error) => failed(&error, FAILED),
    }
}

/// vchanger 0.8 returns -1 from a load or unload that fails, but for a slot or drive that it does not have.
fn done_or_refused(outcome: Result<(), CommandError>, config: &Config) -> Outcome {
    let unknown = |error: &CommandError| {
        matches!(
            error,
            CommandError::NoSuchDrive { .. } | CommandError::Refused(LoadRefusal::NoSuchSlot { .. })
        )
    };
    match outcome {
        Ok(()) => done(String::new()),
        Err(error) if config.generation() == Generation::V08 && !unknown(&error) => failed(&error, MINUS_ONE),
        Err(error) => failed(&error, FAILED),
    }
}

/// New volumes are there whether or not Bacula can be told of them now; it will be at the next refresh. That it could
/// not is a failure all the same: a volume without a label is of no use to a job.
fn created(changer: &Changer, report: String, creation: Creation) -> Outcome {
    let told = if creation.names.is_empty() { Ok(()) } else { changer.tell_of_new() };
    match (creation.error, told) {
        (Some(error), _) if creation.names.is_empty() => failed(&error, MINUS_ONE),
        (Some(error), _) => Outcome { stdout: report, ..failed(&error, MINUS_ONE) },
        (None, Err(error)) => Outcome { stdout: report, ..failed(&error, FAILED) },
        (None, Ok(())) => done(report),
    }
}
