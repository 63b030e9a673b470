//! What this crate parses by itself, as entry points for a fuzzer (`tests/fuzz`); nobody else sees this module.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};
use sha2::{Digest, Sha256};

use crate::container::Known;
use crate::disk_header;
use crate::fingerprint::Fingerprint;
use crate::luks2_copy::BINARY_LEN;
use crate::recovery_key::RecoveryKey;

const SIZE: usize = 0x4000;
const CHECKSUM: usize = 448;
const OFFSET: usize = 256;

/// The bytes are what lies on a device.
pub fn device(bytes: &[u8]) {
    let Ok(memory) = memfd_create("device", MFdFlags::empty()) else { return };
    let mut file = File::from(memory);
    if file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).is_err() {
        return;
    }
    if let Ok(header) = disk_header::read_once(&file) {
        let _either = Known::from_header("device".as_ref(), header, false);
    }
}

/// The bytes are a LUKS2 header's fields and its JSON, which get the checksums that no fuzzer finds.
pub fn sealed_header(bytes: &[u8]) {
    let mut device = vec![0; 2 * SIZE];
    for (number, magic) in [b"LUKS\xba\xbe\0\x02", b"SKUL\xba\xbe\0\x02"].into_iter().enumerate() {
        let Some(copy) = device.get_mut(number * SIZE..(number + 1) * SIZE) else { return };
        let len = bytes.len().min(SIZE - BINARY_LEN);
        put(copy, 0, magic);
        put(copy, 8, &0x4000_u64.to_be_bytes());
        put(copy, 72, b"sha256");
        put(copy, 168, b"01234567-89ab-cdef-0123-456789abcdef");
        put(copy, OFFSET, &(number * SIZE).to_be_bytes());
        put(copy, BINARY_LEN, bytes.get(..len).unwrap_or_default());
        let digest = Sha256::digest(&*copy);
        put(copy, CHECKSUM, &digest);
    }
    self::device(&device);
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// The text is what a person typed.
pub fn typed(text: &str) {
    let _either = RecoveryKey::parse(text).is_ok();
    let _either = text.parse::<Fingerprint>();
    #[cfg(feature = "escrow")]
    if let Ok(share) = crate::KeyShare::parse(text) {
        assert!(crate::KeyShare::parse(&share.expose_text()).is_ok());
    }
}
