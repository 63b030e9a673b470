//! Whatever stands in site.toml, it never becomes a directive, a resource, an include or a command.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use bacula_conf::{BackupJob, Bacula, ChangerInput, Document, Input, Password, Passwords, generate};
use proptest::prelude::*;

/// Texts made of what ends strings, lines and blocks.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "\"",
        "\\",
        "\n",
        "\r",
        ";",
        "}",
        "{",
        "#",
        "@|touch /tmp/x",
        "@",
        "=",
        ",",
        " ",
        "a",
        "|",
        "ü",
        "%c",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 1..8).prop_map(|pieces| pieces.concat())
}

/// The names of all resources and directives in order, and every include.
fn shape(text: &str) -> Vec<String> {
    fn walk(items: &[bacula_conf::Item], found: &mut Vec<String>) {
        for item in items {
            match item {
                bacula_conf::Item::Block(block) => {
                    found.push(block.name().to_owned());
                    walk(block.items(), found);
                }
                bacula_conf::Item::Directive(directive) => found.push(directive.key().to_owned()),
                other => found.push(format!("{other:?}")),
            }
        }
    }
    let document: Document = text.parse().expect("generated text parses");
    let mut found = Vec::new();
    walk(document.items(), &mut found);
    found
}

fn shapes(
    job_path: &str,
    password: &str,
    magazine: &str,
    log: &str,
    mail: &str,
) -> Option<Vec<(PathBuf, Vec<String>)>> {
    let jobs = vec![BackupJob { paths: vec![Path::new("/").join(job_path)], ..BackupJob::default() }];
    let mut bacula = Bacula { jobs, ..Bacula::default() };
    bacula.messages.log = Path::new("/").join(log);
    bacula.messages.mail = Some(mail.to_owned());
    let secret = || Password::new(password).ok();
    let passwords =
        Passwords { director: secret()?, storage: secret()?, client: secret()?, console: secret()? };
    let changer = ChangerInput::new(vec![Path::new("/mnt").join(magazine)]);
    let source = Path::new("/etc/offsite/site.toml");
    let files =
        generate(&Input { source, bacula: &bacula, passwords: &passwords, changer: &changer }).ok()?;
    Some(files.into_iter().map(|file| (file.path, shape(&file.text))).collect())
}

proptest! {
    #[test]
    fn values_stay_values(path in hostile(), password in hostile(), magazine in hostile(), log in hostile(), mail in hostile()) {
        let harmless = shapes("a", "a", "a", "a", "a");
        prop_assert!(harmless.is_some());
        if let Some(shapes) = shapes(&path, &password, &magazine, &log, &mail) {
            prop_assert_eq!(Some(shapes), harmless);
        }
    }
}
