//! Text to tree and back, for any text of the language and for any tree.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use bacula_conf::{Block, Document, Item, Value, WordKind};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "Name",
        "Media Type",
        "Device",
        "Run Script",
        "Options",
        "File",
        "Schedule",
        "Password",
    ])
    .prop_map(str::to_owned)
}

/// Blanks, line ends and comments as people leave them; the first kind stays on its line.
fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", " ", "\t", "  "])
}

fn between() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![";", "\n", "\r\n", "  # a } comment\n", ";;\n\n", "\n# { \" }\n  ", " ; "])
}

fn value() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-z/][a-zA-Z0-9/._:-]{0,8}",
        "[0-9]{1,4} (weeks|gb)",
        r#""([a-z ;{}#=@|]|\\"|\\\\|\n){0,8}""#,
        Just("Full Set".to_owned()),
        Just("@/etc/list".to_owned()),
    ];
    (word, prop::option::of("[a-z]{1,5}"), prop::sample::select(vec![", ", " = ", ","])).prop_map(
        |(first, second, joint)| match second {
            Some(second) => format!("{first}{joint}{second}"),
            None => first,
        },
    )
}

fn items() -> impl Strategy<Value = String> {
    let include = prop::sample::select(vec!["@/etc/x.conf", "@\"/etc/a b\"", "@|\"sh -c 'echo }'\""]);
    let leaf = prop_oneof![
        8 => (name(), blank(), blank(), value(), between()).prop_map(|(key, a, b, value, end)| format!("{key}{a}={b}{value}{end}")),
        1 => include.prop_map(|include| format!("{include}\n")),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            (
                name(),
                prop::sample::select(vec![" ", "\n", "=", " = "]),
                prop::collection::vec(inner.clone(), 0..5),
                between(),
                between()
            )
                .prop_map(|(name, gap, items, first, last)| format!(
                    "{name}{gap}{{{first}{}}}{last}",
                    items.concat()
                )),
            prop::collection::vec(inner, 0..4).prop_map(|items| items.concat()),
        ]
    })
}

/// A tree made by a program.
fn made() -> impl Strategy<Value = Block> {
    let text = prop::collection::vec(
        prop::sample::select(vec![
            "a", "B", "7", " ", "\"", "\\", ";", "}", "{", "#", "@", "=", ",", "/", "ü", "|",
        ]),
        0..8,
    )
    .prop_map(|pieces| pieces.concat());
    let leaf = (name(), prop::collection::vec((name(), text), 0..5)).prop_map(|(kind, directives)| {
        directives.into_iter().fold(Block::new(kind), |block, (key, text)| {
            block.with(&key, Value::string(&text).expect("no control characters"))
        })
    });
    leaf.prop_recursive(3, 20, 4, |inner| {
        (inner.clone(), prop::collection::vec(inner, 0..4), "[ -~ü\n]{0,20}").prop_map(
            |(outer, blocks, comment)| blocks.into_iter().fold(outer, Block::containing).commented(&comment),
        )
    })
}

/// What a tree means, without how it is laid out.
fn meaning(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .flat_map(|item| match item {
            Item::Block(block) => {
                let mut lines = vec![format!("{} {{", block.name())];
                lines.extend(meaning(block.items()));
                lines.push("}".to_owned());
                lines
            }
            Item::Directive(directive) => {
                let words: Vec<_> =
                    directive.value().words().iter().map(|word| (&word.text, word.kind)).collect();
                vec![format!("{} = {words:?}", directive.key())]
            }
            Item::Include(include) => vec![include.raw().to_owned()],
            other => panic!("a new kind of item: {other:?}"),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_was_read_is_printed_byte_for_byte(text in items()) {
        let document: Document = text.parse().map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(document.to_string(), text);
    }

    #[test]
    fn what_was_made_means_the_same_when_read(blocks in prop::collection::vec(made(), 0..4)) {
        let mut document = Document::default();
        for block in blocks {
            document.push(block);
        }
        let read: Document = document.to_string().parse().map_err(|error| TestCaseError::fail(format!("{error}: {document}")))?;
        prop_assert_eq!(meaning(read.items()), meaning(document.items()));
        prop_assert_eq!(read.to_string(), document.to_string());
    }

    #[test]
    fn an_edit_changes_only_its_own_value(text in items(), new in "[a-z]{1,8}") {
        let mut document: Document = format!("Name = first; # kept\n{text}").parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        let top = document.directives().filter(|directive| directive.is("Name")).count();
        document.set("Name", Value::string(&new).expect("plain"));
        document.push(Block::new("Added").with("Name", Value::number(7)));
        let read: Document = document.to_string().parse().map_err(|error| TestCaseError::fail(format!("{error}: {document}")))?;
        prop_assert_eq!(read.text("name"), Some(new.as_str()));
        prop_assert_eq!(read.directives().filter(|directive| directive.is("Name")).count(), top);
        prop_assert_eq!(meaning(read.items()), meaning(document.items()));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z{}=;@|#\"\\\\ \n,0-9ü]{0,60}") {
        if let Ok(document) = text.parse::<Document>() {
            prop_assert_eq!(document.to_string(), text);
        }
    }
}

#[test]
fn a_run_line_reads_over_braces() {
    let text = "Schedule {\n  Name = s\n  Run = Full sun at 23:05 }\n}\n";
    let document: Document = text.parse().expect("parses");
    let schedule = document.blocks_named("schedule").next().expect("a schedule");
    let run = schedule.directive("Run").expect("a run");
    assert_eq!(run.value().line(), "Full sun at 23:05 }");
    assert!(run.value().words().iter().any(|word| word.kind == WordKind::Brace));
    assert_eq!(document.to_string(), text);
}
