//! What an installed configuration already says: with the layout `include`, the daemons' passwords are the
//! administrator's.

use std::path::PathBuf;

use crate::resources::{Program, Resource, Set};
use crate::secret::Password;
use crate::site::Bacula;
use crate::tree::Document;

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
