//! The changer's state files, which Bacula's user may write.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| changer_model::fuzz::state(bytes));
