//! The generated files, whole: a change of any line shows in review.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use bacula_conf::{
    Bacula, ChangerInput, Document, GeneratedFile, Input, Layout, Origin, Password, Passwords,
};
use bacula_conf::{generate, inspect};

fn password(text: &str) -> Password {
    Password::new(text).expect("a good password")
}

fn files(bacula: &Bacula) -> Vec<GeneratedFile> {
    let mounts = ["6c5b725d-50c4-4605-b750-4f23575b9b5f", "e6ffe50b-bbe7-854f-fea8-766ae1265eba"];
    let changer = ChangerInput::new(mounts.map(|uuid| Path::new("/mnt/offsite").join(uuid)).to_vec());
    let passwords = Passwords {
        director: password("director-secret"),
        storage: password("storage-secret"),
        client: password("client-secret"),
        console: password("console \"quoted\" \\ secret"),
    };
    let source = Path::new("/etc/offsite/site.toml");
    generate(&Input { source, bacula, passwords: &passwords, changer: &changer }).expect("generated")
}

fn tree(bacula: &Bacula) -> String {
    let files = files(bacula);
    let mut tree = String::new();
    for file in &files {
        let (path, mode) = (file.path.display(), file.mode);
        let (owner, group, text) = (&file.owner, &file.group, &file.text);
        write!(tree, "==== {path} {mode:04o} {owner}:{group}\n{text}").expect("a string takes it");
    }
    tree
}

#[test]
fn complete() {
    insta::assert_snapshot!(tree(&Bacula::default()));
}

#[test]
fn include_with_two_drives() {
    let mut bacula = Bacula { layout: Layout::Include, ..Bacula::default() };
    bacula.autochanger.drives = 2;
    insta::assert_snapshot!(tree(&bacula));
}

#[test]
fn bareos() {
    insta::assert_snapshot!(tree(&Bacula { layout: Layout::Bareos, ..Bacula::default() }));
}

#[test]
fn what_is_generated_is_ours_and_parses_back_byte_for_byte() {
    for file in files(&Bacula::default()) {
        assert_eq!(inspect(&file.text), Origin::Ours, "{:?}", file.path);
        let parsed: Document = file.text.parse().unwrap_or_else(|error| panic!("{:?}: {error}", file.path));
        assert_eq!(parsed.to_string(), file.text);
    }
}

#[test]
fn the_same_description_gives_the_same_files() {
    assert!(files(&Bacula::default()) == files(&Bacula::default()));
}

#[test]
fn nothing_shows_a_password() {
    let shown = format!("{:?}", files(&Bacula::default()));
    assert!(!shown.contains("secret"), "{shown}");
}
