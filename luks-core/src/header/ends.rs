//! The two ends of a drive, where nearly all signatures lie.
//!
//! Members of a RAID, of a ZFS pool or of a volume group, and the second copy of a GPT, are recognised by what lies at a
//! drive's end. A container made at its start doesn't reach there, and a drive with two signatures is taken for neither,
//! or for the older one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes at either end. The signature farthest from the end is bcachefs' with 1 MiB and some sectors; the labels of ZFS
/// begin 512 KiB before it.
pub(crate) const SPAN: u64 = 2 << 20;
const PIECE: usize = 64 << 10;

/// Overwrites both ends of a device of `size` bytes with random bytes: a drive that was filled with them before looks as
/// it did.
pub(crate) fn overwrite(device: &Path, size: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(device)?;
    overwrite_in(&file, size)?;
    file.sync_all()
}

/// As [`overwrite`], on an open device and without flushing it.
pub(crate) fn overwrite_in(file: &File, size: u64) -> io::Result<()> {
    let span = SPAN.min(size);
    for start in [0, size - span] {
        let mut piece = vec![0; PIECE];
        let mut offset = start;
        while offset < start + span {
            let len = usize::try_from(start + span - offset).unwrap_or(PIECE).min(PIECE);
            let Some(bytes) = piece.get_mut(..len) else { break };
            getrandom::fill(bytes).map_err(io::Error::from)?;
            file.write_all_at(bytes, offset)?;
            offset += len as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_overwritten_and_nothing_else() {
        for size in [5, 4096, SPAN + 512, 3 * SPAN + 512] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
            overwrite(file.path(), size).unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            assert_eq!(bytes.len() as u64, size);
            for (number, block) in (0..).zip(bytes.chunks(512)) {
                let offset = number * 512;
                let is_end = offset < SPAN || offset + 512 > size.saturating_sub(SPAN);
                assert_eq!(block.iter().any(|byte| *byte != 0xa5), is_end || size < 512, "{size}: {offset}");
            }
        }
    }
}
