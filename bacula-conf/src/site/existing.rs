//! What an installed configuration already says: with the layout `include`, the daemons' passwords are the
//! administrator's.

use std::path::PathBuf;

use super::description::Bacula;
use super::origin::{Origin, inspect};
use crate::schema::resources::{Resource, Set};
use crate::syntax::tree::Document;
use crate::values::name::Name;
use crate::values::password::Password;
use crate::values::program::Program;

/// The passwords that were found; `None` where a file or resource is not there.
#[derive(Default)]
pub struct ExistingPasswords {
    /// Of the Director's default console.
    pub director: Option<Password>,
    /// Between Director and storage daemon.
    pub storage: Option<Password>,
    /// Between Director and file daemon.
    pub client: Option<Password>,
    /// Of the restricted console.
    pub console: Option<Password>,
}

/// Takes over what an installed configuration calls its Director, catalog and messages, where the description names
/// something that is not there: the layouts `include` and `bareos` only add to what is installed.
pub fn adopt_names(bacula: &mut Bacula, files: &[(PathBuf, String)]) {
    // What was generated earlier is no word of the administrator's.
    let files: Vec<_> = files.iter().filter(|(_, text)| inspect(text) == Origin::Foreign).cloned().collect();
    let parsed: Vec<Option<Document>> = files.iter().map(|(_, text)| text.parse().ok()).collect();
    let set = Set::new(&files, &parsed);
    let adopt = |kind: &str, name: &mut Name| {
        let mut all = set.all(Program::Director, kind).map(Resource::name).peekable();
        let first = all.peek().copied();
        if !all.any(|known| known == name.as_str())
            && let Some(found) = first.and_then(|first| Name::new(first).ok())
        {
            *name = found;
        }
    };
    adopt("Director", &mut bacula.director.name);
    adopt("Catalog", &mut bacula.catalog.name);
    adopt("Messages", &mut bacula.messages.jobs);
    adopt("Client", &mut bacula.client.name);
    let port = set.director().and_then(|director| director.text("DIRport").or_else(|| director.text("Port")));
    if let Some(port) = port.and_then(|port| port.parse().ok()) {
        bacula.director.port = port;
    }
}

/// Finds the passwords in installed files, by the names that the site uses; files that can't be parsed are left out.
pub fn existing_passwords(bacula: &Bacula, files: &[(PathBuf, String)]) -> ExistingPasswords {
    let parsed: Vec<Option<Document>> = files.iter().map(|(_, text)| text.parse().ok()).collect();
    let set = Set::new(files, &parsed);
    let director = bacula.director.name.as_str();
    let known_to = |program| set.named(program, "Director", director);
    ExistingPasswords {
        director: password(
            known_to(Program::Director).or(known_to(Program::Console).filter(|known| unnamed(&set, known))),
        ),
        storage: password(known_to(Program::Storage).or_else(|| {
            let device = bacula.autochanger.name.as_str();
            set.storages().find(|storage| storage.text("Device") == Some(device))
        })),
        client: password(
            known_to(Program::Client).or_else(|| set.named(Program::Director, "Client", &bacula.client.name)),
        ),
        console: password(
            set.named(Program::Director, "Console", &bacula.console.name)
                .or_else(|| set.named(Program::Console, "Console", &bacula.console.name)),
        ),
    }
}

/// Whether a console's file has no named console, and so its Director's password is the real one.
fn unnamed(set: &Set<'_>, known: &Resource<'_>) -> bool {
    !set.all(Program::Console, "Console").any(|console| console.file == known.file)
}

fn password(resource: Option<&Resource<'_>>) -> Option<Password> {
    Password::new(resource?.text("Password")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_there_are_taken_over() {
        let text = "Director { Name = pelican-dir; DIRport = 9191; Query File = /q }\nCatalog { Name = Main }\n\
                    Messages { Name = Daemon }\nMessages { Name = Standard }\nClient { Name = pelican-fd }\n";
        let mut bacula = Bacula::default();
        adopt_names(&mut bacula, &[("/etc/bacula/bacula-dir.conf".into(), text.into())]);
        assert_eq!((bacula.director.name.as_str(), bacula.director.port), ("pelican-dir", 9191));
        assert_eq!((bacula.catalog.name.as_str(), bacula.messages.jobs.as_str()), ("Main", "Standard"));
        assert_eq!(bacula.client.name.as_str(), "pelican-fd");
        let mut untouched = Bacula::default();
        adopt_names(&mut untouched, &[]);
        assert_eq!(untouched, Bacula::default());
    }

    #[test]
    fn finds_what_the_administrator_wrote() {
        let files = [
            ("/etc/bacula/bacula-sd.conf", "Storage { Name = s; SDPort = 9103 }\nDirector { Name = mon; Password = no }\nDirector { Name = backup-dir; Password = \"of \\\"sd\\\"\" }\n"),
            ("/etc/bacula/bconsole.conf", "Director { Name = backup-dir; Address = x; Password = of-dir }\n"),
            ("/etc/bacula/broken", "Director {\n"),
        ]
        .map(|(path, text)| (PathBuf::from(path), text.to_owned()));
        let found = existing_passwords(&Bacula::default(), &files);
        assert_eq!(found.storage.as_ref().map(Password::reveal), Some("of \"sd\""));
        assert_eq!(found.director.as_ref().map(Password::reveal), Some("of-dir"));
        assert!(found.client.is_none() && found.console.is_none());
    }
}
