//! Reads the headers of a device or file without libcryptsetup and without ever writing.
//!
//! libcryptsetup repairs a damaged copy as a side effect of loading; here the state is known before, and repairing is
//! a decision of the caller. Every byte is read once, so what was judged is what the caller goes on with: a drive may
//! answer the next read otherwise.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::luks1_header::{self, Luks1Header};
use super::luks2_copy::{self, BINARY_LEN, Copy, HeaderCopy, SIZES};

/// Another process that is just writing the header looks like damage for a moment.
const RETRIES: usize = 3;
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What a device begins with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DiskHeader {
    NotLuks,
    Luks1(Box<Luks1Header>),
    /// LUKS1, made unusable until a reencryption of its data has ended.
    Luks1Reencryption,
    /// Both copies are right and agree.
    Sound(Copy),
    /// One copy is right; the other one isn't, or is older.
    OneDamaged {
        damaged: HeaderCopy,
        reason: String,
        good: Copy,
    },
    /// It is LUKS, but no copy can be trusted.
    Ruined {
        reason: String,
    },
}

/// A header that can be used: LUKS1's, or a right copy of LUKS2's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SoundHeader {
    Luks1(Box<Luks1Header>),
    Luks2(Copy),
}

impl DiskHeader {
    /// What of it can be used, and what is wrong with the other copy.
    pub(crate) fn into_sound(self) -> Option<(SoundHeader, Option<(HeaderCopy, String)>)> {
        match self {
            Self::Luks1(header) => Some((SoundHeader::Luks1(header), None)),
            Self::Sound(copy) => Some((SoundHeader::Luks2(copy), None)),
            Self::OneDamaged { damaged, reason, good } => {
                Some((SoundHeader::Luks2(good), Some((damaged, reason))))
            }
            Self::NotLuks | Self::Luks1Reencryption | Self::Ruined { .. } => None,
        }
    }
}

/// Opens a regular file or block device for reading, without waiting for a pipe's other end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a block device nor a regular file"))
    }
}

/// Reads what is at `path`.
pub(crate) fn read(path: &Path) -> io::Result<DiskHeader> {
    read_from(&open(path)?).map(|(header, _)| header)
}

/// Reads what an open device begins with, and gives the bytes that say so: LUKS1's header, or both copies of a sound LUKS2
/// header.
pub(crate) fn read_from(file: &File) -> io::Result<(DiskHeader, Vec<u8>)> {
    let mut read = read_once(file)?;
    for _ in 0..RETRIES {
        if !matches!(read.0, DiskHeader::OneDamaged { .. }) {
            break;
        }
        std::thread::sleep(RETRY_AFTER);
        read = read_once(file)?;
    }
    Ok(read)
}

pub(crate) fn read_once(file: &File) -> io::Result<(DiskHeader, Vec<u8>)> {
    let start = read_at(file, 0, BINARY_LEN)?;
    if luks1_header::has_magic(&start) {
        let header = match luks1_header::parse(&start) {
            Some(header) => DiskHeader::Luks1(Box::new(header)),
            None => DiskHeader::Ruined { reason: "the LUKS1 header is cut off".to_owned() },
        };
        return Ok((header, start));
    }
    if luks1_header::has_reencryption_magic(&start) {
        return Ok((DiskHeader::Luks1Reencryption, start));
    }
    let is_luks = start.starts_with(b"LUKS\xba\xbe");
    let (mut bytes, primary) = read_copy(file, HeaderCopy::Primary, 0, start)?;
    let (second_bytes, secondary) = match &primary {
        Ok(copy) => {
            let binary = read_at(file, copy.size, BINARY_LEN)?;
            read_copy(file, HeaderCopy::Secondary, copy.size, binary)?
        }
        Err(_) => (Vec::new(), find_secondary(file)?),
    };
    bytes.extend(second_bytes);
    Ok((judge(is_luks, primary, secondary), bytes))
}

fn judge(is_luks: bool, primary: Result<Copy, String>, secondary: Result<Copy, String>) -> DiskHeader {
    match (primary, secondary) {
        (Ok(primary), Ok(secondary)) if primary.sequence > secondary.sequence => DiskHeader::OneDamaged {
            damaged: HeaderCopy::Secondary,
            reason: "is older than the primary one".to_owned(),
            good: primary,
        },
        (Ok(primary), Ok(secondary)) if primary.sequence < secondary.sequence => DiskHeader::OneDamaged {
            damaged: HeaderCopy::Primary,
            reason: "is older than the secondary one".to_owned(),
            good: secondary,
        },
        (Ok(primary), Ok(secondary)) if primary.agrees(&secondary) => DiskHeader::Sound(primary),
        (Ok(_), Ok(_)) => {
            DiskHeader::Ruined { reason: "both copies are intact but contradict each other".to_owned() }
        }
        (Ok(good), Err(reason)) => DiskHeader::OneDamaged { damaged: HeaderCopy::Secondary, reason, good },
        (Err(reason), Ok(good)) => DiskHeader::OneDamaged { damaged: HeaderCopy::Primary, reason, good },
        (Err(_), Err(_)) if !is_luks => DiskHeader::NotLuks,
        (Err(primary), Err(secondary)) => DiskHeader::Ruined {
            reason: format!("the primary copy {primary}, the secondary copy {secondary}"),
        },
    }
}

/// Looks for a sound secondary copy at every place where one may start.
fn find_secondary(file: &File) -> io::Result<Result<Copy, String>> {
    let mut reason = "is not there".to_owned();
    for offset in SIZES {
        let binary = read_at(file, offset, BINARY_LEN)?;
        if !luks2_copy::has_magic(&binary, HeaderCopy::Secondary) {
            continue;
        }
        match read_copy(file, HeaderCopy::Secondary, offset, binary)?.1 {
            Ok(copy) if copy.size == offset => return Ok(Ok(copy)),
            Ok(_) => "is not at the place that its size asks for".clone_into(&mut reason),
            Err(why) => reason = why,
        }
    }
    Ok(Err(reason))
}

/// Reads the rest of a copy that begins with `binary`, and parses the whole.
fn read_copy(
    file: &File,
    which: HeaderCopy,
    offset: u64,
    binary: Vec<u8>,
) -> io::Result<(Vec<u8>, Result<Copy, String>)> {
    let size = luks2_copy::claimed_size(&binary).filter(|_| luks2_copy::has_magic(&binary, which));
    let mut bytes = binary;
    if let Some(rest) = size.and_then(|size| usize::try_from(size).ok()?.checked_sub(bytes.len())) {
        bytes.extend(read_at(file, offset + bytes.len() as u64, rest)?);
    }
    let copy = luks2_copy::parse(&bytes, which, offset);
    Ok((bytes, copy))
}

/// Up to `len` bytes from `offset`; fewer at the end of the device.
pub(crate) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Bytes in the sectors that libcryptsetup counts offsets in.
pub(crate) const OFFSET_UNIT: u64 = 512;

/// Brings everything that was written to a device or file to stable storage.
pub(crate) fn flush(device: &Path) -> io::Result<()> {
    open(device)?.sync_all()
}
