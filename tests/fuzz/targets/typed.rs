//! Recovery keys, key shares and fingerprints as people type them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| luks_core::fuzz::typed(text));
