//! What a file names of its own crate.

use crate::source::Word;

/// A name that a file brings in, or a path that it writes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// The path as it is written, `crate`, `self` and `super` included.
    pub(crate) path: Vec<String>,
    /// The name under which the file knows it; `None` for a path in an expression and for a glob.
    pub(crate) alias: Option<String>,
    /// Whether the file passes it on (`pub use`).
    pub(crate) passed_on: bool,
    /// The inline modules around it, the outermost first.
    pub(crate) within: Vec<String>,
}

/// All paths in a file that may lead into its own crate; those of `use`, and those in expressions and types.
pub(crate) fn imports(words: &[Word]) -> Vec<Import> {
    let mut found = Vec::new();
    let mut blocks: Vec<Option<String>> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let within = || blocks.iter().flatten().cloned().collect::<Vec<_>>();
        match word.as_str() {
            "use" => {
                let passed_on = is_public(words, at);
                let end = words
                    .iter()
                    .skip(at)
                    .position(|word| word == ";")
                    .map_or(words.len(), |length| at + length);
                let mut tree = words.get(at + 1..end).unwrap_or_default();
                let mut names = Vec::new();
                branches(&mut tree, &[], &mut names);
                found.extend(names.into_iter().map(|(path, alias)| Import {
                    path,
                    alias,
                    passed_on,
                    within: within(),
                }));
                at = end;
            }
            "{" => {
                let inline = (words.get(at.wrapping_sub(2)).map(String::as_str) == Some("mod"))
                    .then(|| words.get(at - 1).cloned())
                    .flatten();
                blocks.push(inline);
                at += 1;
            }
            "}" => {
                blocks.pop();
                at += 1;
            }
            _ if starts_path(words, at) => {
                let path = written_out(words, at);
                at += 2 * path.len() - 1;
                found.push(Import { path, alias: None, passed_on: false, within: within() });
            }
            _ => at += 1,
        }
    }
    found
}

/// Whether a visibility stands before the word at `at`.
fn is_public(words: &[Word], at: usize) -> bool {
    let before =
        |distance: usize| at.checked_sub(distance).and_then(|place| words.get(place)).map(String::as_str);
    before(1) == Some("pub")
        || before(1) == Some(")") && (2..8).any(|distance| before(distance) == Some("pub"))
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// A path of at least two names that doesn't go on from something before it.
fn starts_path(words: &[Word], at: usize) -> bool {
    let word = |place: usize| words.get(place).map(String::as_str);
    let before = |distance: usize| at.checked_sub(distance).and_then(word);
    // Behind a single dot it is a field or a method, behind two the end of a range.
    let goes_on = before(1) == Some("::") || before(1) == Some(".") && before(2) != Some(".");
    word(at).is_some_and(is_name)
        && !goes_on
        && word(at + 1) == Some("::")
        && word(at + 2).is_some_and(is_name)
}

fn written_out(words: &[Word], at: usize) -> Vec<String> {
    let mut path: Vec<String> = words.get(at).cloned().into_iter().collect();
    let mut rest = at + 1;
    while words.get(rest).is_some_and(|word| word == "::")
        && words.get(rest + 1).is_some_and(|word| is_name(word))
    {
        path.extend(words.get(rest + 1).cloned());
        rest += 2;
    }
    path
}

/// The paths of a `use` tree, each with its alias.
fn branches(tree: &mut &[Word], before: &[String], found: &mut Vec<(Vec<String>, Option<String>)>) {
    let mut path = before.to_vec();
    while let Some((word, rest)) = tree.split_first() {
        match word.as_str() {
            "::" => *tree = rest,
            "{" => {
                *tree = rest;
                while tree.first().is_some_and(|word| word != "}") {
                    branches(tree, &path, found);
                    if tree.first().is_some_and(|word| word == ",") {
                        *tree = tree.get(1..).unwrap_or_default();
                    }
                }
                *tree = tree.get(1..).unwrap_or_default();
                return;
            }
            "*" => {
                *tree = rest;
                found.push((path, None));
                return;
            }
            "as" => {
                let alias = rest.first().cloned();
                *tree = rest.get(1..).unwrap_or_default();
                found.push((path, alias));
                return;
            }
            "," | "}" => break,
            "self" if !path.is_empty() => *tree = rest,
            name => {
                path.push(name.to_owned());
                *tree = rest;
            }
        }
    }
    let alias = path.last().cloned();
    found.push((path, alias));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::words;

    fn found(text: &str) -> Vec<String> {
        let shown = |import: Import| {
            let alias = import.alias.map(|alias| format!(" as {alias}")).unwrap_or_default();
            let passed_on = if import.passed_on { "pub " } else { "" };
            format!("{passed_on}{}{alias}", import.path.join("::"))
        };
        imports(&words(text)).into_iter().map(shown).collect()
    }

    #[test]
    fn trees_are_taken_apart() {
        let text = "use crate::{a, b::{self, C as D, e::*}}; pub(crate) use f::G;";
        assert_eq!(
            found(text),
            ["crate::a as a", "crate::b as b", "crate::b::C as D", "crate::b::e", "pub f::G as G"]
        );
    }

    #[test]
    fn paths_in_code_count() {
        let text = "fn f() -> crate::a::B { super::c(); x.d::<E>(); std::mem::take(&mut g); ..crate::h::I }";
        assert_eq!(found(text), ["crate::a::B", "super::c", "std::mem::take", "crate::h::I"]);
    }

    #[test]
    fn inline_modules_are_remembered() {
        let text = "mod raw { use super::A; } use self::raw::B;";
        let all = imports(&words(text));
        assert_eq!(all.iter().map(|import| import.within.len()).collect::<Vec<_>>(), [1, 0]);
    }
}
