//! /proc/PID/mountinfo, whose names other users choose.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _either = mount_by_uuid::MountTable::parse(bytes);
});
