//! Rust source as words: without comments, literals and test code.

/// A word of the source: a name, or one character of punctuation (`::` is one word).
pub(crate) type Word = String;

/// The words of a source text.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let chars: Vec<char> = text.chars().collect();
    let mut words: Vec<Word> = Vec::new();
    let mut at = 0;
    while let Some(&here) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        match here {
            '/' if next == '/' => at = end_of_line(&chars, at),
            '/' if next == '*' => at = end_of_comment(&chars, at),
            '"' => at = end_of_string(&chars, at),
            '\'' => at = end_of_quote(&chars, at),
            ':' if next == ':' => {
                words.push("::".to_owned());
                at += 2;
            }
            _ if here.is_alphanumeric() || here == '_' => {
                let start = at;
                while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                    at += 1;
                }
                let word: String = chars.iter().skip(start).take(at - start).collect();
                match raw_string(&chars, at, &word) {
                    Some(end) => at = end,
                    None => words.push(word),
                }
            }
            _ => {
                if !here.is_whitespace() {
                    words.push(here.to_string());
                }
                at += 1;
            }
        }
    }
    words
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    chars.iter().skip(at).position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn end_of_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
            (Some('*'), Some('/')) => {
                (depth, at) = (depth.saturating_sub(1), at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The end of the string that begins at `at`.
fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while let Some(here) = chars.get(at) {
        match here {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The end of a character or of a lifetime's mark.
fn end_of_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let rest = chars.iter().skip(at + 3).position(|c| *c == '\'');
            rest.map_or(chars.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The end of a raw string, when `word` before `at` is its prefix.
fn raw_string(chars: &[char], at: usize, word: &str) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let hashes = chars.iter().skip(at).take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| {
        chars.get(*end) == Some(&'"')
            && chars.iter().skip(end + 1).take(hashes).filter(|c| **c == '#').count() == hashes
    };
    let end = (at + hashes + 1..chars.len()).find(closes)?;
    Some(end + 1 + hashes)
}

/// Takes out what is compiled for tests or for a fuzzer only; also returns the names of modules in files of their own
/// that are so.
pub(crate) fn without_tests(words: &[Word]) -> (Vec<Word>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match end_of_test_attribute(words, at) {
            None => {
                kept.extend(words.get(at).cloned());
                at += 1;
            }
            Some(begin) => {
                let end = end_of_item(words, begin);
                let item = words.get(begin..end).unwrap_or_default();
                if let Some(place) = item.iter().position(|word| word == "mod") {
                    modules.extend(item.get(place + 1).cloned());
                }
                at = end;
            }
        }
    }
    (kept, modules)
}

/// Where the item begins that an attribute `#[cfg(test)]` or `#[cfg(fuzzing)]` at `at` belongs to.
fn end_of_test_attribute(words: &[Word], at: usize) -> Option<usize> {
    let begin: Vec<&str> = words.iter().skip(at).take(4).map(String::as_str).collect();
    if begin != ["#", "[", "cfg", "("] {
        return None;
    }
    let length = words.iter().skip(at).position(|word| word == "]")?;
    let condition = words.get(at + 4..at + length)?;
    let not = condition.iter().any(|word| word == "not");
    let test = condition.iter().any(|word| word == "test" || word == "fuzzing");
    (test && !not).then_some(at + length + 1)
}

/// The end of the item at `at`: behind its semicolon or its closing brace.
fn end_of_item(words: &[Word], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(word) = words.get(at) {
        at += 1;
        match word.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && word == "}" {
                    return at;
                }
            }
            ";" | "," if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> String {
        words(text).join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        assert_eq!(joined("use a::b; // use c::d;\n/* e /* f */ g */ h"), "use a :: b ; h");
        assert_eq!(joined(r#"let a = "crate::b \" c"; d"#), "let a = ; d");
        assert_eq!(joined("r#\"crate::a \" b\"# c br\"d\" e"), "c e");
        assert_eq!(
            joined(r"match c { '\'' => 1, '\u{41}' => 2, 'x' => 3 } fn f<'a>(b: &'a str)"),
            "match c { = > 1 , = > 2 , = > 3 } fn f < a > ( b : & a str )"
        );
    }

    #[test]
    fn test_code_is_left_out() {
        let text =
            "use a; #[cfg(test)] mod t { use b; } #[cfg(test)] #[path = \"x\"] mod u; c #[cfg(not(test))] d;";
        let (kept, modules) = without_tests(&words(text));
        assert_eq!(kept.join(" "), "use a ; c # [ cfg ( not ( test ) ) ] d ;");
        assert_eq!(modules, ["t", "u"]);
    }
}
