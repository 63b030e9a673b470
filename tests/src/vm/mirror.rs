//! Where the host gets Debian from: the guest is built from the same archive, whatever its name.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// One archive as apt's sources name it (sources.list(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Archive {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The archive that has Debian's `suite`, by the host's own sources below `root`.
pub(super) fn find(root: &Path, suite: &str) -> Result<String> {
    let mut archives = Vec::new();
    let etc = root.join("etc/apt");
    if let Ok(text) = fs::read_to_string(etc.join("sources.list")) {
        archives.extend(one_line(&text));
    }
    let mut parts: Vec<_> =
        fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    parts.sort();
    for part in parts {
        let Ok(text) = fs::read_to_string(&part) else { continue };
        match part.extension().and_then(|e| e.to_str()) {
            Some("list") => archives.extend(one_line(&text)),
            Some("sources") => archives.extend(deb822(&text)),
            _ => {}
        }
    }
    choose(&archives, suite).with_context(|| {
        format!(
            "no source in {} has Debian's {suite} with component main; add one to build the guest",
            etc.display()
        )
    })
}

/// The archive of the suite itself; else one of another suite of Debian proper, which has all suites.
fn choose(archives: &[Archive], suite: &str) -> Option<String> {
    let main = |a: &&Archive| a.components.iter().any(|c| c == "main");
    let exact = archives.iter().filter(main).find(|a| a.suites.iter().any(|s| s == suite));
    let debian = || archives.iter().filter(main).find(|a| a.uri.trim_end_matches('/').ends_with("/debian"));
    exact.or_else(debian).map(|a| a.uri.clone())
}

/// `deb [options] uri suite component...`, a line each.
fn one_line(text: &str) -> Vec<Archive> {
    let parse = |line: &str| {
        let line = line.split('#').next()?.trim();
        let mut rest = line.strip_prefix("deb ")?.trim_start();
        if rest.starts_with('[') {
            rest = rest.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (uri, suite) = (words.next()?, words.next()?);
        Some(Archive { uri, suites: vec![suite], components: words.collect() })
    };
    text.lines().filter_map(parse).collect()
}

/// Paragraphs of `Key: values`, continued by indented lines.
fn deb822(text: &str) -> Vec<Archive> {
    let mut archives = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in lines.split(|line| line.trim().is_empty()) {
        let mut key = String::new();
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in paragraph {
            let value = match line.split_once(':') {
                Some((name, value)) if !line.starts_with([' ', '\t']) => {
                    key = name.trim().to_ascii_lowercase();
                    value
                }
                _ => line,
            };
            fields.extend(value.split_whitespace().map(|v| (key.clone(), v.to_owned())));
        }
        let all = |wanted: &str| -> Vec<String> {
            fields.iter().filter(|(k, _)| k == wanted).map(|(_, v)| v.clone()).collect()
        };
        if all("enabled").iter().any(|v| v == "no") || !all("types").iter().any(|v| v == "deb") {
            continue;
        }
        archives.extend(all("uris").into_iter().map(|uri| Archive {
            uri,
            suites: all("suites"),
            components: all("components"),
        }));
    }
    archives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_with_comments_and_continuations() {
        let text = "Types: deb deb-src\n# where from\nURIs: http://one.test/debian\n http://two.test/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\nEnabled: no\n\
                    URIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n\n\
                    Types: deb\nURIs: http://one.test/security\nSuites: bookworm-security\nComponents: main\n";
        let archives = deb822(text);
        assert_eq!(archives.len(), 3);
        assert_eq!(choose(&archives, "bookworm").as_deref(), Some("http://one.test/debian"));
    }

    #[test]
    fn lines_with_options_and_comments() {
        let text = "# deb http://off.test/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://vendor.test/apt stable main\n\
                    deb http://here.test/debian trixie main contrib # ours\n\
                    deb-src http://here.test/debian bookworm main\n";
        let archives = one_line(text);
        assert_eq!(archives.len(), 2);
        assert_eq!(choose(&archives, "bookworm").as_deref(), Some("http://here.test/debian"));
        assert_eq!(choose(&archives[..1], "bookworm"), None);
    }

    #[test]
    fn files_of_both_kinds_are_read_and_a_host_without_debian_is_told() {
        let root = tempfile::tempdir().unwrap();
        let parts = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        let error = find(root.path(), "bookworm").unwrap_err().to_string();
        assert!(error.contains("no source in") && error.contains("bookworm"), "{error}");
        fs::write(parts.join("debian.sources.disabled"), "deb http://no.test/debian bookworm main\n")
            .unwrap();
        fs::write(parts.join("debian.list"), "deb http://here.test/debian bookworm main\n").unwrap();
        assert_eq!(find(root.path(), "bookworm").unwrap(), "http://here.test/debian");
    }
}
