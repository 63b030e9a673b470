//! Bacula's configuration language: what is printed is what was read; the checks stand anything.
#![no_main]

use bacula_conf::Document;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(document) = text.parse::<Document>() {
        assert_eq!(document.to_string(), text);
    }
    let _findings = bacula_conf::check(&[("/etc/bacula/bacula-dir.conf".into(), text.to_owned())]);
});
