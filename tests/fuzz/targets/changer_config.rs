//! vchanger.conf of both generations.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _either = changer_model::Config::parse("/etc/vchanger.conf".as_ref(), text);
});
