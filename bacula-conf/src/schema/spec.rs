//! How a directive is described.

use crate::values::words::Keyword;

/// Whose programs read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Bacula,
    Bareos,
}

/// What makes the daemons run a shell over a path (`do_shell_expansion` of `src/lib/util.c`).
pub(crate) const SHELL: &[char] = &['~', '\\', '$', '[', ']', '*', '?', '`', '\'', '<', '>', '"'];

/// What a directive's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name of a resource, at most 127 bytes.
    Name,
    /// Any text.
    Text,
    /// A text of at most 127 bytes.
    ShortText,
    /// A path; a shell expands `~`, `$`, backquotes and the like in it when the daemon starts.
    Path,
    /// A password.
    Password,
    /// `yes`, `no`, `true` or `false`.
    YesNo,
    /// The same, or the name of a storage.
    YesNoOrName,
    /// A number; quotes and what stands behind the whole digits don't matter.
    Number,
    /// A whole number without quotes.
    Integer,
    /// A port to listen on, without quotes: a number or a service.
    Port,
    /// A number of bytes, with a unit behind it.
    Size,
    /// The same, at most 20,000,000 (`MAX_BLOCK_SIZE` of `src/stored/block.h`).
    BlockSize,
    /// Bytes a second, with a unit behind it.
    Speed,
    /// A duration.
    Period,
    /// One of some keywords.
    Word(&'static [Keyword]),
    /// Letters and digits, each of which stands for an option.
    Codes,
    /// Digits, of which nothing is reckoned.
    Digits,
    /// Any text; the directive may be repeated.
    Each,
    /// Texts with commas between them; the directive may be repeated.
    Texts,
    /// The same; what follows the last text is skipped.
    List,
    /// Texts with commas between them that somebody may use; the directive may be repeated.
    Acl,
    /// The name of a resource of that type.
    Reference(&'static str),
    /// Names of resources of that type.
    References(&'static str),
    /// An address to listen on, without quotes.
    Address,
    /// A group of addresses.
    Addresses,
    /// Kinds of messages, behind as many destinations.
    Messages(Destinations),
    /// A line of a schedule.
    Run,
    /// A group of directives: `RunScript`.
    Script,
    /// A group of directives: `Include` and `Exclude` of a set of files.
    FileList,
    /// A group of directives: `Options` of a list of files.
    Options,
}

/// How many destinations stand before the kinds of messages, each part with `=` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destinations {
    None,
    One,
    Several,
}

/// A directive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// As Bacula's own JSON spells it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What counts when it isn't there.
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    /// The name under which another spelling counts.
    alias: Option<&'static str>,
    /// The first version of Bacula that has it, as far back as 9.
    pub(super) since: u8,
    pub(super) bacula: bool,
    pub(super) bareos: bool,
}

impl Spec {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: None, required: false, alias: None, since: 9, bacula: true, bareos: true }
    }

    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Another spelling of that directive.
    pub(crate) const fn means(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    /// The name by which the setting is known.
    pub(crate) fn canonical(&self) -> &'static str {
        self.alias.unwrap_or(self.name)
    }

    pub(super) const fn since(mut self, version: u8) -> Self {
        self.since = version;
        self
    }

    pub(super) const fn bacula(mut self) -> Self {
        self.bareos = false;
        self
    }

    pub(super) const fn bareos(mut self) -> Self {
        self.bacula = false;
        self
    }

    /// The first version of Bacula that has it.
    pub(crate) fn bacula_since(&self) -> Option<u8> {
        self.bacula.then_some(self.since)
    }

    /// Whether Bareos has it.
    pub(crate) fn in_bareos(&self) -> bool {
        self.bareos
    }

    /// Why a program of that flavour may refuse the directive.
    pub(crate) fn foreign(&self, flavour: Flavour) -> Option<String> {
        match flavour {
            Flavour::Bacula if !self.bacula => Some("Bareos has it, Bacula does not".to_owned()),
            Flavour::Bareos if !self.bareos => Some("Bacula has it, Bareos does not".to_owned()),
            Flavour::Bacula if self.since > 9 => {
                Some(format!("Bacula has it from version {} on", self.since))
            }
            _ => None,
        }
    }

    /// Whether it may stand in a resource more than once, each time with a meaning of its own.
    pub(crate) fn adds_up(&self) -> bool {
        match self.kind {
            Kind::Each
            | Kind::Texts
            | Kind::List
            | Kind::Acl
            | Kind::References(_)
            | Kind::Messages(_)
            | Kind::Run
            | Kind::YesNoOrName
            | Kind::Script
            | Kind::FileList
            | Kind::Options
            | Kind::Addresses => true,
            _ => {
                self.name.contains("Run") && self.name.ends_with("Job")
                    || matches!(self.name, "MailCommand" | "OperatorCommand" | "Command" | "Console")
            }
        }
    }
}

/// Writes a list of directives: name, kind, default, and what else there is to say.
macro_rules! specs {
    ($($name:ident $kind:expr $(, = $default:literal)? $(, $say:ident($($argument:expr)?))*;)*) => {
        &[$(Spec::new(stringify!($name), $kind)$(.or($default))?$(.$say($($argument)?))*),*]
    };
}

pub(crate) use specs;
