//! The first block of a volume's file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| changer_model::fuzz::volume_label(bytes));
