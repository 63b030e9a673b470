//! Hiding passwords where text is shown.

/// What secrets are called, in one word.
pub(crate) const SECRETS: [&str; 8] = [
    "password",
    "passwort",
    "dbpassword",
    "sdpassword",
    "fdpassword",
    "passphrase",
    "secretkey",
    "accesskey",
];

/// The text of a configuration as it may be shown: lines end behind what is called a password, or looks like a
/// misspelt one.
///
/// # Examples
/// ```
/// let shown = bacula_conf::hide_passwords("Name = a\nPasword = \"secret\"\n");
/// assert_eq!(shown, "Name = a\nPasword = (hidden)\n");
/// ```
pub fn hide_passwords(text: &str) -> String {
    let hide = |line: &str| {
        let (words, end) = line.split_at(line.trim_end_matches(['\r', '\n']).len());
        format!("{}{end}", hide_password(words))
    };
    text.split_inclusive('\n').map(hide).collect()
}

/// What a program said of a configuration, as it may be shown: neither the lines that it quotes nor its own words hold
/// what stands behind a password's name in the configuration.
pub fn hide_passwords_of(configuration: &str, said: &str) -> String {
    let mut said = hide_passwords(said);
    let separators = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | ';' | '{' | '}' | '#' | ',');
    for hidden in configuration.lines().filter_map(|line| line.get(end_of_name(line)?..)) {
        // Shorter ones are syllables of ordinary words.
        for secret in hidden.split(separators).filter(|word| word.len() > 2) {
            said = said.replace(secret, "(hidden)");
        }
    }
    said
}

/// The same of one line.
pub(crate) fn hide_password(line: &str) -> String {
    let Some((shown, hidden)) = end_of_name(line).and_then(|end| line.split_at_checked(end)) else {
        return line.to_owned();
    };
    match hidden.trim_start().strip_prefix('=') {
        _ if hidden.trim().is_empty() => line.to_owned(),
        Some(value) => format!("{} (hidden)", line.get(..line.len() - value.len()).unwrap_or(shown)),
        None => format!("{shown} (hidden)"),
    }
}

/// Where the name of a password ends in a line.
pub(crate) fn end_of_name(line: &str) -> Option<usize> {
    let words = words(line);
    words.iter().enumerate().find_map(|(index, (word, end))| {
        // `Pass Word` is `PassWord` to Bacula.
        let second = words.get(index + 1).filter(|(second, _)| is_like_a_secret(&format!("{word}{second}")));
        // Without a sign between, name and value are one word to it.
        let start = end - word.len();
        let shortest = || (6..=word.len()).find(|length| word.get(..*length).is_some_and(is_like_a_secret));
        let within = Some(word.len()).filter(|_| is_like_a_secret(word)).or_else(shortest);
        let within = within.map(|length| start + length_of_secret(word).unwrap_or(length));
        within.or(second.map(|(_, end)| *end))
    })
}

/// The length of the right name that a word begins with.
pub(crate) fn length_of_secret(word: &str) -> Option<usize> {
    let lower = word.to_ascii_lowercase();
    SECRETS.iter().filter(|secret| lower.starts_with(*secret)).map(|secret| secret.len()).max()
}

/// The words of letters in a line, each with the place of its end.
pub(crate) fn words(line: &str) -> Vec<(&str, usize)> {
    let mut at = 0;
    let mut found = Vec::new();
    for word in line.split(|c: char| !c.is_alphabetic()) {
        if !word.is_empty() {
            found.push((word, at + word.len()));
        }
        // One separator behind each word.
        at += word.len();
        at += line.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    found
}

pub(crate) fn is_like_a_secret(word: &str) -> bool {
    let word = word.to_lowercase();
    SECRETS.iter().any(|secret| strsim::damerau_levenshtein(&word, secret) <= secret.len() / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shown_line_holds_a_password() {
        assert_eq!(hide_password("  Password = \"x\""), "  Password = (hidden)");
        assert_eq!(hide_password("Name = a; PassWord=x"), "Name = a; PassWord= (hidden)");
        assert_eq!(hide_password("  Media Type = File"), "  Media Type = File");
        for line in [
            "  Pasword = x1",
            "  Passwrd=x1",
            "  Pass Word = x1",
            "  Passwort = \"x1\"",
            "  DB Pasword = x1",
            "  Password x1",
            "  SdPassword = x1 # ours",
            "Name = a Password = x1",
            "  Secret Key = x1",
            "  PASSWORT := x1",
            "  Pssword = x1",
            "  Pass Wrd = x1",
            "  bacula_password = x1",
        ] {
            assert!(
                !hide_password(line).contains("x1") && hide_password(line).contains("(hidden)"),
                "{line}"
            );
        }
        for line in
            ["  Address = a", "  Pass Through = 1", "  Keyword = k", "  Messages = Standard", "Password"]
        {
            assert_eq!(hide_password(line), line);
        }
    }

    #[test]
    fn what_bacula_says_of_a_password_is_not_repeated() {
        let text = "Director {\n  Password hunter2\n  Pasword = 123456; Name = a\n}\n";
        let said = "Keyword \"Passwordhunter2\" not permitted\nexpected a string, got T_NUMBER: 123456\n";
        let shown = hide_passwords_of(text, said);
        assert!(!shown.contains("hunter") && !shown.contains("1234"), "{shown}");
        assert!(shown.contains("expected a string, got T_NUMBER: (hidden)"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn one_typing_error_uncovers_no_password(at in 0..8_usize, kind in 0..3, letter in "[a-z]") {
            let mut word = String::from("password");
            match kind {
                0 => drop(word.remove(at)),
                1 => word.insert_str(at, &letter),
                _ => word.replace_range(at..=at, &letter),
            }
            for line in [format!("  {word} = hunter2;"), format!("{word} \"hunter2\""), format!("a = b; {word}=hunter2")] {
                proptest::prop_assert!(!hide_passwords(&line).contains("hunter2"), "{}", line);
            }
        }
    }
}
