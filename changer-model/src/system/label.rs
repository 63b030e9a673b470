//! Bacula's volume label: the first record of the first block of a volume's file.
//!
//! Layout after Bacula's `src/stored/block_util.c` (block header `BB02`: checksum, size, number, id, session id,
//! session time), `src/stored/record_util.c` (record header: file index, stream, size) and `src/stored/label.c`
//! (`ser_volume_label`), all numbers big-endian. Bareos writes the same with its own name in the first string.
//! Of the longer header `BB03` of later versions only the label behind it is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::library::identifiers::VolumeName;

/// What the beginning of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nothing is written yet.
    Blank,
    /// A volume with this label.
    Labelled(VolumeName),
    /// A block of Bacula's without a label that can be used.
    Damaged,
    /// Something else.
    Foreign,
}

const BLOCK_HEADER: usize = 24;
const RECORD_HEADER: usize = 12;
/// Where the label of a `BB03` block begins at the latest.
const LONGEST_HEADER: usize = 256;
/// A label takes some 200 bytes; its names are limited to 128 bytes each.
const LONGEST: usize = 4096;
/// `PRE_LABEL` and `VOL_LABEL` of Bacula's `src/stored/record.h`.
const LABEL_RECORDS: [i32; 2] = [-1, -2];

/// Reads the beginning of an open file.
pub(crate) fn read(file: &File) -> io::Result<Beginning> {
    let mut bytes = vec![0; LONGEST];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(parse(&bytes))
}

/// Judges the first bytes of a file.
pub(crate) fn parse(bytes: &[u8]) -> Beginning {
    if bytes.is_empty() {
        return Beginning::Blank;
    }
    let name = label(bytes).and_then(|name| VolumeName::new(name).ok());
    let is_block = matches!(bytes.get(12..16), Some(b"BB02" | b"BB03"));
    let otherwise = if is_block { Beginning::Damaged } else { Beginning::Foreign };
    name.map_or(otherwise, Beginning::Labelled)
}

fn label(bytes: &[u8]) -> Option<String> {
    match bytes.get(12..16)? {
        b"BB02" => label_record(first_record(bytes)?),
        // a longer header of later versions: the label's first string tells where it begins
        b"BB03" => {
            let near = bytes.get(BLOCK_HEADER..LONGEST_HEADER.min(bytes.len()))?;
            let begins = |id: &&[u8]| near.windows(id.len()).position(|window| window == *id);
            let ids: [&[u8]; 2] = [b"Bacula 1.0 immortal\n\0", b"Bareos 2.0 immortal\n\0"];
            let at = ids.iter().find_map(begins)?;
            label_record(bytes.get(BLOCK_HEADER + at..)?)
        }
        _ => None,
    }
}

/// The data of a block's first record, if that is a label.
fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { rest: bytes };
    let checksum = reader.u32()?;
    let block_size = usize::try_from(reader.u32()?).ok()?;
    if block_size < BLOCK_HEADER + RECORD_HEADER {
        return None;
    }
    // zero: checksums are switched off; longer than what was read: a block padded to tape size
    if let Some(covered) = bytes.get(4..block_size)
        && checksum != 0
        && checksum != crc32fast::hash(covered)
    {
        return None;
    }
    reader.take(16)?;
    let file_index = reader.u32()?.cast_signed();
    let _stream = reader.u32()?;
    let size = usize::try_from(reader.u32()?).ok()?;
    LABEL_RECORDS.contains(&file_index).then(|| reader.rest.get(..size).unwrap_or(reader.rest))
}

/// The volume's name in a label's data.
fn label_record(data: &[u8]) -> Option<String> {
    let mut record = Reader { rest: data };
    let id = record.string()?;
    if !(id.starts_with("Bacula ") || id.starts_with("Bareos ")) {
        return None;
    }
    let _version = record.u32()?;
    // label and write time twice: as 64-bit numbers and as the floating-point dates of old versions
    record.take(4 * 8)?;
    record.string()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let end = self.rest.iter().position(|b| *b == 0)?;
        let text = String::from_utf8(self.take(end)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }
}

/// The first block of a volume, with a label of this name.
pub(crate) fn block(name: &str) -> Vec<u8> {
    // nothing here comes near four gigabytes
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut record = b"Bacula 1.0 immortal\n\0".to_vec();
    record.extend(11u32.to_be_bytes());
    record.extend([0; 4 * 8]);
    for text in [name, "", "Pool", "Backup", "File", "host", "label", "program", "version", "date"] {
        record.extend(text.as_bytes());
        record.push(0);
    }
    let mut covered = size(BLOCK_HEADER + RECORD_HEADER + record.len()).to_vec();
    covered.extend(0u32.to_be_bytes());
    covered.extend(b"BB02");
    covered.extend([0; 8]);
    covered.extend((-2i32).to_be_bytes());
    covered.extend(0u32.to_be_bytes());
    covered.extend(size(record.len()));
    covered.extend(record);
    let mut block = crc32fast::hash(&covered).to_be_bytes().to_vec();
    block.extend(covered);
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_is_read_and_a_damaged_one_is_not() {
        let first = block("c0_0000_0001");
        assert_eq!(parse(&first), Beginning::Labelled(VolumeName::new("c0_0000_0001").expect("legal")));
        let mut bad = first.clone();
        bad[70] ^= 1;
        assert_eq!(parse(&bad), Beginning::Damaged);
        assert_eq!(parse(&block("two words")), Beginning::Damaged);
        assert_eq!(parse(&[]), Beginning::Blank);
        assert_eq!(parse(b"hello"), Beginning::Foreign);
    }

    /// Written by the storage daemon of Bacula 9.6.7.
    #[test]
    fn a_real_label_is_read() {
        let mut block = vec![0xd7, 0xf3, 0xd0, 0xdd, 0, 0, 0, 0xca, 0, 0, 0, 0];
        block.extend(b"BB02\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\xa6Bacula 1.0 immortal\n\0");
        block.extend([
            0, 0, 0, 0x0b, 0, 6, 0x60, 0xe9, 0xd9, 0xac, 0xd3, 0x2c, 0, 6, 0x60, 0xe9, 0xd9, 0xac, 0xd3, 0x36,
        ]);
        block.extend([0; 16]);
        block.extend(b"c0_0000_0000\0\0P\0Backup\0F\0vm\0sd\0Ver. 9.6.7 10 December 2020 \0");
        block.extend(b"Build Feb  7 2023 20:51:52 \0");
        block.resize(0xca, 0);
        assert_eq!(parse(&block), Beginning::Labelled(VolumeName::new("c0_0000_0000").expect("legal")));
    }

    #[test]
    fn a_longer_header_is_passed_over() {
        let old = block("vol");
        let mut block = old[..12].to_vec();
        block.extend(b"BB03");
        block.extend(&old[16..24]);
        block.extend([7; 16]);
        block.extend(&old[24..]);
        assert_eq!(parse(&block), Beginning::Labelled(VolumeName::new("vol").expect("legal")));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = parse(&bytes);
            let mut block = block("name");
            block.truncate(cut.max(1).min(block.len() - 1));
            block.extend(&bytes);
            let _ = parse(&block);
        }
    }
}
