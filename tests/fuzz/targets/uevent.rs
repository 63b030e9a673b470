//! A kernel uevent, as any process that may send on its socket can word it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mount_by_uuid::fuzz::uevent(bytes));
