//! Which directives each program knows in which resource, of which kind, and what counts where nothing is said.

mod director;
mod jobs;
mod others;
mod storage;
#[cfg(test)]
mod table;
mod words;

use crate::resources::Program;
use crate::tree::same_key;

pub(crate) use words::{Keyword, LEVELS, MESSAGE_TYPES};

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
    since: u8,
    bacula: bool,
    bareos: bool,
}

impl Spec {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: None, required: false, alias: None, since: 9, bacula: true, bareos: true }
    }

    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Another spelling of that directive.
    const fn means(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    /// The name by which the setting is known.
    pub(crate) fn canonical(&self) -> &'static str {
        self.alias.unwrap_or(self.name)
    }

    const fn since(mut self, version: u8) -> Self {
        self.since = version;
        self
    }

    const fn bacula(mut self) -> Self {
        self.bareos = false;
        self
    }

    const fn bareos(mut self) -> Self {
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
use specs;

/// What encryption needs, in every resource that stands for a connection (`src/lib/tls.h`).
const TLS: &[Spec] = {
    use Kind::{Path, Text, YesNo};
    specs! {
        TlsAuthenticate YesNo;
        TlsEnable YesNo;
        TlsRequire YesNo;
        TlsCaCertificateFile Path;
        TlsCaCertificateDir Path;
        TlsCertificate Path;
        TlsKey Path;
        TlsPskEnable YesNo, since(11), bacula();
        TlsCipherList Text, bareos();
        TlsCipherSuites Text, bareos();
        TlsProtocol Text, bareos();
        TlsCertificateRevocationList Path, bareos();
    }
};

/// What the end of a connection that is called needs besides.
const TLS_CALLED: &[Spec] = {
    use Kind::{Path, Texts, YesNo};
    specs! {
        TlsVerifyPeer YesNo, = "yes";
        TlsDhFile Path;
        TlsAllowedCn Texts;
    }
};

/// The same of the end that calls: Bareos has all of it there too.
const TLS_CALLING: &[Spec] = {
    use Kind::{Path, Texts, YesNo};
    specs! {
        TlsVerifyPeer YesNo, = "yes", bareos();
        TlsDhFile Path, bareos();
        TlsAllowedCn Texts, bareos();
    }
};

/// The same in the Director's clients.
const TLS_CLIENT: &[Spec] = {
    use Kind::{Path, Texts, YesNo};
    specs! {
        TlsVerifyPeer YesNo, = "yes", since(11);
        TlsDhFile Path, bareos();
        TlsAllowedCn Texts;
    }
};

/// A type of resource, as one program knows it.
#[derive(Clone, Copy)]
pub(crate) struct Resource {
    /// As Bacula's manual spells it.
    pub(crate) name: &'static str,
    parts: [&'static [Spec]; 3],
}

impl Resource {
    const fn new(name: &'static str, own: &'static [Spec]) -> Self {
        Self { name, parts: [own, &[], &[]] }
    }

    const fn called(name: &'static str, own: &'static [Spec]) -> Self {
        Self { name, parts: [own, TLS, TLS_CALLED] }
    }

    const fn calling(name: &'static str, own: &'static [Spec]) -> Self {
        Self { name, parts: [own, TLS, TLS_CALLING] }
    }

    pub(crate) fn specs(&self) -> impl Iterator<Item = &'static Spec> + use<> {
        self.parts.into_iter().flatten()
    }

    pub(crate) fn spec(&self, key: &str) -> Option<&'static Spec> {
        self.specs().find(|spec| same_key(spec.name, key))
    }
}

const DIRECTOR: &[Resource] = &[
    Resource::called("Director", director::DIRECTOR),
    Resource { name: "Client", parts: [director::CLIENT, TLS, TLS_CLIENT] },
    Resource::new("Job", jobs::JOB),
    Resource::new("JobDefs", jobs::JOB),
    Resource::calling("Storage", director::STORAGE),
    Resource::calling("Autochanger", director::STORAGE),
    Resource::new("Catalog", director::CATALOG),
    Resource::new("Schedule", director::SCHEDULE),
    Resource::new("FileSet", director::FILE_SET),
    Resource::new("Pool", jobs::POOL),
    Resource::new("Messages", others::MESSAGES),
    Resource::new("Counter", director::COUNTER),
    Resource::called("Console", director::CONSOLE),
    Resource::new("Profile", director::PROFILE),
    Resource::new("Statistics", others::STATISTICS),
    Resource::new("Tenant", director::TENANT),
];

const STORAGE: &[Resource] = &[
    Resource::called("Director", storage::DIRECTOR),
    Resource::called("Storage", storage::STORAGE),
    Resource::new("Device", storage::DEVICE),
    Resource::new("Autochanger", storage::AUTOCHANGER),
    Resource::new("Cloud", storage::CLOUD),
    Resource::new("Messages", others::MESSAGES),
    Resource::new("Statistics", others::STATISTICS),
];

const CLIENT: &[Resource] = &[
    Resource::called("Director", others::KNOWN_DIRECTOR),
    Resource::calling("FileDaemon", others::FILE_DAEMON),
    Resource::calling("Client", others::FILE_DAEMON),
    Resource::called("Console", others::KNOWN_CONSOLE),
    Resource::new("Schedule", others::CONNECTION_SCHEDULE),
    Resource::new("Messages", others::MESSAGES),
    Resource::new("Statistics", others::STATISTICS),
];

const CONSOLE: &[Resource] =
    &[Resource::calling("Director", others::CONSOLE_DIRECTOR), Resource::calling("Console", others::CONSOLE)];

/// The types of resources that a program knows; the changer has none.
pub(crate) fn resources(program: Program) -> &'static [Resource] {
    match program {
        Program::Director => DIRECTOR,
        Program::Storage => STORAGE,
        Program::Client => CLIENT,
        Program::Console => CONSOLE,
        Program::Changer => &[],
    }
}

/// One type of resource of a program.
pub(crate) fn resource(program: Program, kind: &str) -> Option<&'static Resource> {
    resources(program).iter().find(|resource| same_key(resource.name, kind))
}

/// A group of directives inside a resource.
pub(crate) fn group(kind: Kind) -> Option<Resource> {
    match kind {
        Kind::Script => Some(Resource::new("RunScript", jobs::SCRIPT)),
        Kind::FileList => Some(Resource::new("Include", director::FILE_LIST)),
        Kind::Options => Some(Resource::new("Options", director::OPTIONS)),
        _ => None,
    }
}

/// Whether a shell sees the value of the Director's, storage or file daemon's directive of that name.
pub(crate) fn is_expanded(key: &str) -> bool {
    let all = [DIRECTOR, STORAGE, CLIENT, CONSOLE];
    all.into_iter().flatten().filter_map(|resource| resource.spec(key)).any(|spec| spec.kind == Kind::Path)
}

/// A directive's name as people write it: `MediaType` is `Media Type`.
pub(crate) fn spaced(name: &str) -> String {
    let mut text = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            text.push(' ');
        }
        text.push(c);
        before = c;
    }
    text
}
