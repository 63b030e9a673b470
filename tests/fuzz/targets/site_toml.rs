//! site.toml.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _either = offsite::site::description::Site::parse(text, "/etc/offsite/site.toml".as_ref());
});
