//! What this crate parses by itself, as entry points for a fuzzer (`tests/fuzz`); nobody else sees this module.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::container::judged::Header;
use crate::header::luks2_copy::{self, BINARY_LEN};
use crate::secret::fingerprint::Fingerprint;
use crate::secret::recovery_key::RecoveryKey;

const SIZE: usize = 0x4000;

/// The bytes are what lies on a device.
pub fn device(bytes: &[u8]) {
    let Ok(memory) = memfd_create("device", MFdFlags::empty()) else { return };
    let mut file = File::from(memory);
    if file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).is_err() {
        return;
    }
    if let Ok(header) = Header::from_file("device".as_ref(), file, false) {
        // Whatever the bytes are, what was accepted is the same as itself and can be built anew.
        assert!(header.enrolment().differences(header.enrolment()).is_empty());
        let _either = header.rebuilt();
    }
}

/// The bytes are a LUKS2 header's JSON, which gets the checksums that no fuzzer finds.
pub fn sealed_header(bytes: &[u8]) {
    let json = bytes.get(..bytes.len().min(SIZE - BINARY_LEN - 1)).unwrap_or_default();
    let size = u64::try_from(SIZE).unwrap_or_default();
    if let Some(header) = luks2_copy::encode(size, "01234567-89ab-cdef-0123-456789abcdef", json) {
        device(&header);
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
