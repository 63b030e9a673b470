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
        "$(touch /tmp/x)",
        "`id`",
        "~",
        "'",
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

/// A shell expands some paths when a daemon starts: what stands in `$( )` would run as Bacula's user.
#[test]
fn no_path_reaches_a_shell() {
    for path in ["/var/lib/$(touch x)", "/var/`id`", "/var/~root", "/var/\"; id; \"", "/var/a*", "/var/%c"] {
        for set in [
            |bacula: &mut Bacula, path: &str| bacula.paths.working = path.into(),
            |bacula: &mut Bacula, path: &str| bacula.paths.run = path.into(),
            |bacula: &mut Bacula, path: &str| bacula.paths.scripts = path.into(),
            |bacula: &mut Bacula, path: &str| bacula.paths.plugins = path.into(),
            |bacula: &mut Bacula, path: &str| bacula.restore.target = path.into(),
        ] {
            let mut bacula = Bacula::default();
            set(&mut bacula, path);
            assert!(files(&bacula).is_none(), "{path}");
        }
    }
    assert!(files(&Bacula::default()).is_some());
}

/// The address becomes an argument of the mail program.
#[test]
fn a_mail_address_is_one_plain_argument() {
    let mail = |address: &str| {
        let mut bacula = Bacula::default();
        bacula.messages.mail = Some(address.to_owned());
        files(&bacula)
    };
    for address in ["-f root", "a b", "a\"", "a\nb", "a@b, c@d", "%j", ""] {
        assert!(mail(address).is_none(), "{address:?}");
    }
    assert!(mail("night+backup@example.org").is_some());
}

fn files(bacula: &Bacula) -> Option<usize> {
    let secret = || Password::new("x").ok();
    let passwords =
        Passwords { director: secret()?, storage: secret()?, client: secret()?, console: secret()? };
    let changer = ChangerInput::new(vec!["/mnt/a".into()]);
    let source = Path::new("/etc/offsite/site.toml");
    generate(&Input { source, bacula, passwords: &passwords, changer: &changer })
        .ok()
        .map(|files| files.len())
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
