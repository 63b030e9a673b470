//! Real texts, spoiled at random: whatever comes, it is read and printed back, or refused with its place; nothing panics.
//!
//! A few hundred texts each time; `OFFSITE_FUZZ_CASES=1000000 cargo test --release -p bacula-conf --test mutations`
//! goes on for an hour.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bacula_conf::{Document, Period, Rotation, check, check_rotation, settings};
use proptest::prelude::*;

/// What to do with a text, at a place given as a fraction of its length.
#[derive(Clone, Debug)]
enum Change {
    Cut(f64, usize),
    Repeat(f64, usize),
    Insert(f64, &'static str),
    /// Takes a part of another text.
    Splice(f64, usize, f64, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let special = prop::sample::select(vec![
        "{",
        "}",
        "\"",
        "\\",
        "=",
        ";",
        ",",
        "#",
        "@",
        "@|",
        "@\"",
        "\n",
        "\r\n",
        "\t",
        "\u{feff}",
        "ü",
        "\0",
        "{{{{",
        "Run = ",
        "Name = ",
        "99999999999999999999",
        "-1",
        " weeks",
        "$(id)",
        "@/etc/bacula/x\n",
        "\u{b}",
    ]);
    let place = || 0.0..1.0_f64;
    prop_oneof![
        (place(), 1..200_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (place(), 1..200_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        (place(), special).prop_map(|(at, text)| Change::Insert(at, text)),
        (place(), 0..50_usize, place(), 1..400_usize)
            .prop_map(|(at, text, from, length)| Change::Splice(at, text, from, length)),
    ]
}

/// All fixtures.
fn texts() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut texts = Vec::new();
    let mut directories = vec![directory];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).expect("fixtures") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                texts.push(fs::read_to_string(path).expect("text"));
            }
        }
    }
    texts.sort();
    texts
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a text"
)]
fn place(text: &str, fraction: f64) -> usize {
    text.floor_char_boundary((text.len() as f64 * fraction) as usize)
}

fn part(text: &str, from: f64, length: usize) -> String {
    let from = place(text, from);
    text.get(from..text.floor_char_boundary(from + length)).unwrap_or("").to_owned()
}

fn spoil(text: &mut String, change: &Change, others: &[String]) {
    match change {
        Change::Cut(at, length) => {
            let from = place(text, *at);
            let to = text.floor_char_boundary(from + length);
            text.replace_range(from..to, "");
        }
        Change::Repeat(at, length) => {
            let part = part(text, *at, *length);
            text.insert_str(place(text, *at), &part);
        }
        Change::Insert(at, special) => text.insert_str(place(text, *at), special),
        Change::Splice(at, other, from, length) => {
            let part =
                others.get(other % others.len()).map(|other| part(other, *from, *length)).unwrap_or_default();
            text.insert_str(place(text, *at), &part);
        }
    }
}

#[test]
fn spoiled_texts_are_read_or_refused() {
    let cases = std::env::var("OFFSITE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    let all = texts();
    let names = ["bacula-dir.conf", "bareos-dir.d/job/a.conf", "vchanger.conf"];
    let strategy =
        (0..all.len(), prop::collection::vec(change(), 1..12), prop::sample::select(names.to_vec()));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&strategy, |(index, changes, name)| {
        let mut text = all.get(index).cloned().unwrap_or_default();
        for change in &changes {
            spoil(&mut text, change, &all);
        }
        match text.parse::<Document>() {
            Ok(document) => prop_assert_eq!(document.to_string(), text.clone()),
            Err(error) => prop_assert!(error.render("file", &text).contains('^')),
        }
        let files = [(PathBuf::from("/etc").join(name), text.clone())];
        for finding in
            check(&files).iter().chain(&check_rotation(&files, &Rotation::new(6, Period::weeks(1))))
        {
            prop_assert!(finding.render(&text).contains("hint: "));
        }
        prop_assert!(settings(&files).len() <= text.len());
        Ok(())
    });
    outcome.expect("no text does harm");
}
