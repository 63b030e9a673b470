//! Headers as they lie on a device, with and without right checksums.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, rest)) => luks_core::fuzz::device(rest),
        Some((_, rest)) => luks_core::fuzz::sealed_header(rest),
        None => {}
    }
});
