//! Which directives each program knows in which resource, of which kind, and what counts where nothing is said.

mod director;
pub(crate) mod host;
mod jobs;
pub(crate) mod known;
mod others;
pub(crate) mod resources;
pub(crate) mod setting;
pub(crate) mod settings;
pub(crate) mod spec;
mod storage;
#[cfg(test)]
mod table;

use spec::{Kind, Spec, specs};

use crate::syntax::tree::same_key;
use crate::values::program::Program;

pub(crate) use crate::values::words::{Keyword, LEVELS, MESSAGE_TYPES};

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
    pub(crate) const fn new(name: &'static str, own: &'static [Spec]) -> Self {
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
