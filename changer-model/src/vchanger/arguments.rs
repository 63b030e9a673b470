//! The command line, read as GNU getopt_long reads it for vchanger 1.0.3: options may stand anywhere, may be
//! abbreviated, and end at `--`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::library::identifiers::{DriveIndex, Slot};

/// Why a command line is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// An argument is not UTF-8.
    #[error("argument {number} is not UTF-8 text")]
    NotUtf8 {
        /// Which one, from 1.
        number: usize,
    },
    /// There is no such option.
    #[error("unknown option {option:?}")]
    UnknownOption {
        /// The option.
        option: String,
    },
    /// The option lacks its value, or has one it does not take.
    #[error("option {option:?} {problem}")]
    OptionValue {
        /// The option.
        option: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The option belongs to another command.
    #[error("option {option} is not for command {command}")]
    WrongOption {
        /// The option.
        option: &'static str,
        /// The command.
        command: String,
    },
    /// Something is missing.
    #[error("missing parameter {number} ({what})")]
    Missing {
        /// The place, from 1.
        number: usize,
        /// What belongs there.
        what: &'static str,
    },
    /// There is no such command.
    #[error("'{command}' is not a recognized command")]
    UnknownCommand {
        /// The command.
        command: String,
    },
    /// A number is wrong.
    #[error("invalid {what} '{found}' in parameter {number}")]
    BadNumber {
        /// The place, from 1.
        number: usize,
        /// What belongs there.
        what: &'static str,
        /// What stands there.
        found: String,
    },
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Version,
    Command(Invocation),
}

/// A command with its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) config: PathBuf,
    pub(crate) command: Command,
    /// All five positions are there, as the storage daemon gives them.
    pub(crate) by_daemon: bool,
}

/// A command with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    List,
    ListAll,
    Slots,
    Loaded { drive: DriveIndex },
    Load { slot: Slot, drive: DriveIndex },
    Unload { drive: DriveIndex },
    ListMags,
    CreateVols { magazine: u32, count: u32, start: Option<u32>, prefix: Option<String>, pool: Option<String> },
    InitMag { bay: u32, number: Option<u32> },
    Refresh { force: bool, if_owed: bool, checked: bool },
}

impl Command {
    /// Whether the storage daemon gives it: it takes all that is printed for the answer.
    pub(crate) fn is_of_the_daemon(&self) -> bool {
        match self {
            Self::List
            | Self::ListAll
            | Self::Slots
            | Self::Loaded { .. }
            | Self::Load { .. }
            | Self::Unload { .. } => true,
            Self::ListMags | Self::CreateVols { .. } | Self::InitMag { .. } | Self::Refresh { .. } => false,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("list"),
            Self::ListAll => f.write_str("listall"),
            Self::Slots => f.write_str("slots"),
            Self::Loaded { drive } => write!(f, "loaded in drive {drive}"),
            Self::Load { slot, drive } => write!(f, "load slot {slot} into drive {drive}"),
            Self::Unload { drive } => write!(f, "unload drive {drive}"),
            Self::ListMags => f.write_str("listmags"),
            Self::CreateVols { magazine, count, .. } => {
                write!(f, "createvols {count} on magazine {magazine}")
            }
            Self::InitMag { bay, .. } => write!(f, "initmag in bay {bay}"),
            Self::Refresh { .. } => f.write_str("refresh"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opt {
    Version,
    Help,
    User,
    Group,
    Label,
    Pool,
    Force,
    IfOwed,
    Checked,
    Number,
}

const LONG: &[(&str, Opt)] = &[
    ("version", Opt::Version),
    ("help", Opt::Help),
    ("user", Opt::User),
    ("group", Opt::Group),
    ("label", Opt::Label),
    ("pool", Opt::Pool),
    ("force", Opt::Force),
    ("if-owed", Opt::IfOwed),
    ("checked", Opt::Checked),
];

/// `-m` is 0.8's, for `initmag`.
const SHORT: &[(char, Opt)] = &[('u', Opt::User), ('g', Opt::Group), ('l', Opt::Label), ('m', Opt::Number)];

impl Opt {
    fn takes_value(self) -> bool {
        !matches!(self, Self::Version | Self::Help | Self::Force | Self::IfOwed | Self::Checked)
    }
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Request, ArgumentError> {
    let mut texts = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let text = argument.to_str().ok_or(ArgumentError::NotUtf8 { number: index + 1 })?;
        texts.push(text);
    }
    let (options, positions) = split(&texts)?;
    let last =
        |wanted: Opt| options.iter().rev().find(|(opt, _)| *opt == wanted).map(|(_, value)| value.clone());
    if last(Opt::Help).is_some() {
        return Ok(Request::Help);
    }
    if last(Opt::Version).is_some() {
        return Ok(Request::Version);
    }
    let config = positions.first().ok_or(ArgumentError::Missing { number: 1, what: "config_file" })?;
    let name = positions.get(1).ok_or(ArgumentError::Missing { number: 2, what: "command" })?;
    let command = command(name.trim(), &positions, &last)?;
    let refuse =
        |option: &'static str| Err(ArgumentError::WrongOption { option, command: (*name).to_owned() });
    let creates = matches!(command, Command::CreateVols { .. });
    if !creates && last(Opt::Label).is_some_and(|v| !v.is_empty()) {
        return refuse("-l");
    }
    if !creates && last(Opt::Pool).is_some_and(|v| !v.is_empty()) {
        return refuse("--pool");
    }
    for (opt, option) in [(Opt::Force, "--force"), (Opt::IfOwed, "--if-owed"), (Opt::Checked, "--checked")] {
        if !matches!(command, Command::Refresh { .. }) && last(opt).is_some() {
            return refuse(option);
        }
    }
    if !matches!(command, Command::InitMag { .. }) && last(Opt::Number).is_some() {
        return Err(ArgumentError::UnknownOption { option: "-m".to_owned() });
    }
    Ok(Request::Command(Invocation {
        user: last(Opt::User),
        group: last(Opt::Group),
        config: PathBuf::from(config),
        command,
        by_daemon: positions.len() >= 5,
    }))
}

type Options = Vec<(Opt, String)>;

fn split<'a>(texts: &[&'a str]) -> Result<(Options, Vec<&'a str>), ArgumentError> {
    let mut options = Options::new();
    let mut positions = Vec::new();
    let mut rest = texts.iter().copied();
    while let Some(text) = rest.next() {
        if text == "--" {
            positions.extend(rest);
            break;
        } else if let Some(long) = text.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let opt = long_option(name)
                .ok_or_else(|| ArgumentError::UnknownOption { option: format!("--{name}") })?;
            let wrong = |problem| ArgumentError::OptionValue { option: format!("--{name}"), problem };
            let value = match (opt.takes_value(), value) {
                (true, Some(value)) => value,
                (true, None) => rest.next().ok_or_else(|| wrong("needs a value"))?.to_owned(),
                (false, None) => String::new(),
                (false, Some(_)) => return Err(wrong("takes no value")),
            };
            options.push((opt, value));
        } else if let Some(short) = text.strip_prefix('-').filter(|short| !short.is_empty()) {
            // every short option takes a value, so the first letter decides
            let mut letters = short.chars();
            let letter = letters.next().unwrap_or_default();
            let option = format!("-{letter}");
            let opt = SHORT.iter().find(|(known, _)| *known == letter).map(|(_, opt)| *opt);
            let opt = opt.ok_or_else(|| ArgumentError::UnknownOption { option: option.clone() })?;
            let attached = letters.as_str();
            let value = if attached.is_empty() {
                rest.next().ok_or(ArgumentError::OptionValue { option, problem: "needs a value" })?
            } else {
                attached
            };
            options.push((opt, value.to_owned()));
        } else {
            positions.push(text);
        }
    }
    Ok((options, positions))
}

fn long_option(name: &str) -> Option<Opt> {
    let mut matching = LONG.iter().filter(|(long, _)| !name.is_empty() && long.starts_with(name));
    let (_, first) = matching.next()?;
    matching.next().is_none().then_some(*first)
}

fn command(
    name: &str,
    positions: &[&str],
    option: &impl Fn(Opt) -> Option<String>,
) -> Result<Command, ArgumentError> {
    let at = |number: usize, what: &'static str| {
        positions.get(number - 1).copied().ok_or(ArgumentError::Missing { number, what })
    };
    let unsigned = |number: usize, what: &'static str, lowest: u32| {
        let text = at(number, what)?;
        leading_number(text).filter(|n| *n >= lowest).ok_or_else(|| ArgumentError::BadNumber {
            number,
            what,
            found: text.to_owned(),
        })
    };
    let drive = || {
        at(4, "archive device")?;
        let text = at(5, "drive index")?;
        let index = leading_number(text).filter(|_| text.starts_with(|c: char| c.is_ascii_digit()));
        index.and_then(DriveIndex::new).ok_or_else(|| ArgumentError::BadNumber {
            number: 5,
            what: "drive index",
            found: text.to_owned(),
        })
    };
    let slot = || {
        let number = unsigned(3, "slot number", 1)?;
        Slot::new(number).ok_or(ArgumentError::BadNumber {
            number: 3,
            what: "slot number",
            found: String::new(),
        })
    };
    Ok(match name.to_ascii_lowercase().as_str() {
        "list" => Command::List,
        "listall" => Command::ListAll,
        "slots" => Command::Slots,
        "listmags" => Command::ListMags,
        "refresh" => Command::Refresh {
            force: option(Opt::Force).is_some(),
            if_owed: option(Opt::IfOwed).is_some(),
            checked: option(Opt::Checked).is_some(),
        },
        "loaded" => {
            at(3, "slot number")?;
            Command::Loaded { drive: drive()? }
        }
        "load" => Command::Load { slot: slot()?, drive: drive()? },
        "unload" => {
            slot()?;
            Command::Unload { drive: drive()? }
        }
        "createvols" => Command::CreateVols {
            magazine: unsigned(3, "magazine index", 0)?,
            count: unsigned(4, "count", 1)?,
            start: match positions.get(4) {
                Some(text) if text.starts_with('-') => None,
                Some(_) => Some(unsigned(5, "start", 0)?),
                None => None,
            },
            prefix: option(Opt::Label).filter(|v| !v.is_empty()),
            pool: option(Opt::Pool).filter(|v| !v.is_empty()),
        },
        "initmag" => {
            let bay = unsigned(3, "bay", 1)?;
            let number = match option(Opt::Number) {
                None => None,
                Some(text) => Some(leading_number(&text).ok_or(ArgumentError::OptionValue {
                    option: "-m".to_owned(),
                    problem: "needs a number",
                })?),
            };
            Command::InitMag { bay, number }
        }
        _ => return Err(ArgumentError::UnknownCommand { command: name.to_owned() }),
    })
}

/// The number a text begins with; what follows does not count, as with strtol(3), but there must be a digit.
fn leading_number(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, ArgumentError> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&arguments)
    }

    fn command_of(line: &str) -> Invocation {
        match read(line) {
            Ok(Request::Command(invocation)) => invocation,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_stand_anywhere() {
        for line in ["-u me -g us c.conf LOADED 0 dev 2", "c.conf -ume LoAdEd 0 --gr=us dev 2 surplus"] {
            let found = command_of(line);
            assert_eq!(found.command, Command::Loaded { drive: DriveIndex::new(2).expect("small") });
            assert_eq!((found.user.as_deref(), found.group.as_deref()), (Some("me"), Some("us")));
            assert!(found.by_daemon);
        }
        assert_eq!(read("x --help"), Ok(Request::Help));
        assert_eq!(read("--vers"), Ok(Request::Version));
        assert_eq!(command_of("-- c.conf list").command, Command::List);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "c",
            "c transfer 1 d 0",
            "c size",
            "c listvols",
            "c list -1",
            "c load 0 d 0",
            "c load x d 0",
            "c load 1 d",
            "c load 1 d x",
            "c load 1 d -1",
            "c loaded",
            "c loaded 1",
            "c unload 0 d 0",
            "c list -l x",
            "c list --force",
            "c list --if-owed",
            "c list --checked",
            "c list --pool=x",
            "c createvols x 1",
            "c createvols 0 0",
            "c createvols 0",
            "c list --nope",
            "c list -u",
            "c loaded 1 d 10000",
            "c list -m 3",
            "--force=1 c refresh",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_may_have_tails() {
        let load = Command::Load { slot: Slot::new(3).expect("not 0"), drive: DriveIndex::default() };
        assert_eq!(command_of("c load 3abc d 0x").command, load);
        let create = command_of("c createvols 1 5 7 -l pre --pool P").command;
        let expected = Command::CreateVols {
            magazine: 1,
            count: 5,
            start: Some(7),
            prefix: Some("pre".into()),
            pool: Some("P".into()),
        };
        assert_eq!(create, expected);
    }
}
