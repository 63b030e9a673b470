//! What a Director, or somebody in its place, answers to the console's commands.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| changer_model::fuzz::console(text));
