//! What the kernel writes into the pipe of an automount point.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mount_by_uuid::fuzz::autofs_packet(bytes));
