//! What this crate reads of others, as entry points for a fuzzer (`tests/fuzz`); no other code sees this module.

/// The bytes are a packet of the kernel's autofs.
pub fn autofs_packet(bytes: &[u8]) {
    crate::automount::directory::fuzz_packet(bytes);
}

/// The bytes are a message on the kernel's uevent socket.
pub fn uevent(bytes: &[u8]) {
    crate::hotplug::fuzz_uevent(bytes);
}
