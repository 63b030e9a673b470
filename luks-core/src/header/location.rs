//! Where on a drive containers begin, whatever the kernel shows of its partitions.
//!
//! A partition table counts in the drive's sectors. In an enclosure that shows sectors of another size (512 against 4096
//! bytes) the kernel sees no partition, or one in a wrong place, and a drive that is well looks as if its header were
//! lost. So tables are read here for both sizes, and what they name are only places to look at: a header found there
//! speaks for itself.
//!
//! Sources: UEFI Specification 2.10, 5.2 (MBR) and 5.3 (GPT); "LUKS2 On-Disk Format Specification" 1.1.1, chapter 2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::luks_uuid::LuksUuid;
use super::luks2_copy::{self, BINARY_LEN, HeaderCopy, SIZES};
use super::{disk_header, luks1_header};

/// Sizes of sectors that drives and enclosures show.
const SECTOR_SIZES: [u32; 2] = [512, 4096];
/// Where nearly all partitioning programs let the first partition begin, in bytes.
const USUAL_START: u64 = 1 << 20;
/// Maximum number of entries of a GPT that are read; more are used by nobody.
const ENTRIES_MAX: u32 = 128;
/// The part of a GPT entry that is read: type, own GUID, first and last sector.
const ENTRY_READ: usize = 48;
const GPT_SIGNATURE: &[u8] = b"EFI PART";
/// Of an MBR: entries, and the signature behind them.
const MBR_ENTRIES: usize = 446;
const MBR_SIGNATURE: &[u8] = &[0x55, 0xaa];
/// The type of the MBR entry that only protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// The UUID's place in both headers.
const UUID_PLACE: std::ops::Range<usize> = 168..208;

/// A container on a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// Where it begins, in bytes from the start of the drive.
    pub offset_bytes: u64,
    /// The UUID in its header.
    pub uuid: LuksUuid,
    /// Whether its header can be read: LUKS1's, or one of LUKS2's copies with a right checksum. Else only the UUID was
    /// recognised in what is left of it.
    pub is_readable: bool,
    /// Bytes of a sector in the partition table that names its place; `None` where no table does.
    pub table_sector_bytes: Option<u32>,
}

/// Finds the containers on a drive or in an image of one: at its start, in each partition of a GPT or MBR for sectors of
/// 512 or 4096 bytes, 1 MiB behind the start, and at the places given in `more` (in bytes).
///
/// What can't be read is passed over, since a damaged drive is looked at as well. Nothing is written.
///
/// # Errors
/// When the drive can't be opened, or is neither a block device nor a regular file.
pub fn locate(drive: &Path, more: &[u64]) -> io::Result<Vec<Location>> {
    let file = disk_header::open(drive)?;
    let mut places: BTreeMap<u64, Option<u32>> = BTreeMap::new();
    for listed in listed(&file) {
        places.entry(listed.start_bytes).or_insert(Some(listed.table_sector_bytes));
    }
    for place in [0, USUAL_START].iter().chain(more) {
        places.entry(*place).or_insert(None);
    }
    let found = places.into_iter().filter_map(|(offset_bytes, table_sector_bytes)| {
        let (uuid, is_readable) = header_at(&file, offset_bytes)?;
        Some(Location { offset_bytes, uuid, is_readable, table_sector_bytes })
    });
    Ok(found.collect())
}

/// A partition that a table on the drive names, whether or not the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedPartition {
    /// Where it begins, in bytes from the start of the drive.
    pub start_bytes: u64,
    /// Bytes of the sectors that the table counts in. An MBR doesn't say; it is read for both sizes.
    pub table_sector_bytes: u32,
}

/// The partitions in a GPT or MBR on a drive or in an image of one, for sectors of 512 and of 4096 bytes. What can't be
/// read is passed over.
///
/// # Errors
/// As [`locate`].
pub fn listed_partitions(drive: &Path) -> io::Result<Vec<ListedPartition>> {
    Ok(listed(&disk_header::open(drive)?))
}

fn listed(file: &File) -> Vec<ListedPartition> {
    let tables = SECTOR_SIZES.into_iter().flat_map(|sector| {
        let starts = table_starts(file, sector).into_iter();
        starts.map(move |start_bytes| ListedPartition { start_bytes, table_sector_bytes: sector })
    });
    tables.collect()
}

/// The UUID of the container that begins at `base`, and whether its header can be read.
fn header_at(file: &File, base: u64) -> Option<(LuksUuid, bool)> {
    let start = read_at(file, base, BINARY_LEN);
    if let Some(header) = luks1_header::parse(&start) {
        return Some((header.uuid.parse().ok()?, true));
    }
    let mut remains = None;
    let copies =
        std::iter::once((HeaderCopy::Primary, 0)).chain(SIZES.map(|size| (HeaderCopy::Secondary, size)));
    for (which, offset) in copies {
        let Some(at) = base.checked_add(offset) else { continue };
        let binary = if offset == 0 { start.clone() } else { read_at(file, at, BINARY_LEN) };
        if !luks2_copy::has_magic(&binary, which) {
            continue;
        }
        let size = luks2_copy::claimed_size(&binary).and_then(|size| usize::try_from(size).ok());
        let whole = size.map(|size| read_at(file, at, size)).unwrap_or_default();
        if let Ok(copy) = luks2_copy::parse(&whole, which, offset) {
            return Some((copy.uuid.parse().ok()?, true));
        }
        let text =
            String::from_utf8_lossy(luks2_copy::text_bytes(binary.get(UUID_PLACE).unwrap_or_default()));
        remains = remains.or(text.parse().ok());
    }
    Some((remains?, false))
}

/// Where the partitions begin by the tables for this size of sectors, in bytes.
fn table_starts(file: &File, sector: u32) -> Vec<u64> {
    let bytes = u64::from(sector);
    let first = read_at(file, 0, 512);
    let mut sectors = mbr_starts(&first);
    let last = file_len(file).map(|len| (len / bytes).saturating_sub(1));
    for header in std::iter::once(1).chain(last) {
        sectors.extend(gpt_starts(file, header, bytes));
    }
    sectors.into_iter().filter_map(|start| start.checked_mul(bytes)).filter(|start| *start > 0).collect()
}

fn mbr_starts(sector: &[u8]) -> Vec<u64> {
    if sector.get(510..512) != Some(MBR_SIGNATURE) {
        return Vec::new();
    }
    let entries = sector.get(MBR_ENTRIES..510).unwrap_or_default().chunks_exact(16);
    let used = entries.filter(|entry| !matches!(entry.get(4), None | Some(&0 | &PROTECTIVE)));
    used.filter_map(|entry| le32(entry, 8)).map(u64::from).collect()
}

/// By the GPT whose header is in the sector `header`. Neither of its checksums matters for where to look.
fn gpt_starts(file: &File, header: u64, sector: u64) -> Vec<u64> {
    let Some(at) = header.checked_mul(sector) else { return Vec::new() };
    let bytes = read_at(file, at, 92);
    if !bytes.starts_with(GPT_SIGNATURE) {
        return Vec::new();
    }
    let (Some(table), Some(count), Some(size)) = (le64(&bytes, 72), le32(&bytes, 80), le32(&bytes, 84))
    else {
        return Vec::new();
    };
    let entry = |number: u32| {
        let offset = u64::from(number).checked_mul(u64::from(size))?;
        let at = table.checked_mul(sector)?.checked_add(offset)?;
        let entry = read_at(file, at, ENTRY_READ);
        let is_used = entry.get(..16)?.iter().any(|byte| *byte != 0);
        is_used.then(|| le64(&entry, 32)).flatten()
    };
    (0..count.min(ENTRIES_MAX)).filter_map(entry).collect()
}

fn file_len(file: &File) -> Option<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0)).ok()
}

/// Up to `len` bytes; fewer where the drive ends or can't be read.
fn read_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(read) => filled += read,
        }
    }
    bytes.truncate(filled);
    bytes
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Container, FormatOptions, KeySlot, LuksVersion, Secret, SecretKind};

    const MIB: u64 = 1 << 20;

    /// The header of a container, and its UUID.
    fn header(version: LuksVersion) -> (Vec<u8>, LuksUuid) {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(4 * MIB).unwrap();
        let area = (version == LuksVersion::Luks2).then_some(MIB);
        let options = FormatOptions { version, keyslots_area_bytes: area, ..FormatOptions::default() };
        let key = Secret::from_bytes(vec![1; 64]);
        let container =
            Container::format(image.path(), &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
        (std::fs::read(image.path()).unwrap(), container.uuid())
    }

    fn drive(mib: u64, parts: &[(u64, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib * MIB).unwrap();
        for (offset, bytes) in parts {
            file.as_file().write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    fn found(file: &tempfile::NamedTempFile, more: &[u64]) -> Vec<(u64, LuksUuid, bool, Option<u32>)> {
        let found = locate(file.path(), more).unwrap();
        found.into_iter().map(|l| (l.offset_bytes, l.uuid, l.is_readable, l.table_sector_bytes)).collect()
    }

    /// A GPT header and its only entry, as they lie behind each other.
    fn gpt(sector: u64, start: u64, entries_at: u64) -> [(u64, Vec<u8>); 2] {
        let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
        header.resize(92, 0);
        header[72..80].copy_from_slice(&entries_at.to_le_bytes());
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        let mut entry = vec![7; 32];
        entry.extend((start / sector).to_le_bytes());
        entry.extend((start / sector + 8).to_le_bytes());
        [(sector, header), (entries_at * sector, entry)]
    }

    #[test]
    fn containers_are_found_at_the_start_and_where_somebody_remembers_them() {
        for version in [LuksVersion::Luks1, LuksVersion::Luks2] {
            let (image, uuid) = header(version);
            assert_eq!(found(&drive(8, &[(0, &image)]), &[]), [(0, uuid, true, None)]);
            let elsewhere = drive(16, &[(7 * MIB + 4096, &image)]);
            assert_eq!(found(&elsewhere, &[]), []);
            assert_eq!(found(&elsewhere, &[7 * MIB + 4096]), [(7 * MIB + 4096, uuid, true, None)]);
            assert_eq!(found(&drive(8, &[(MIB, &image)]), &[]), [(MIB, uuid, true, None)]);
        }
        assert_eq!(found(&drive(1, &[]), &[]), []);
    }

    #[test]
    fn partitions_are_found_whatever_the_sectors_of_their_table() {
        let (image, uuid) = header(LuksVersion::Luks2);
        for sector in [512_u32, 4096] {
            let start = 3 * MIB;
            for (first, entries) in
                [(1, 2), (16 * MIB / u64::from(sector) - 1, 16 * MIB / u64::from(sector) - 40)]
            {
                let [(_, header), entry] = gpt(sector.into(), start, entries);
                let parts = [(first * u64::from(sector), &*header), (entry.0, &entry.1), (start, &image)];
                assert_eq!(found(&drive(16, &parts), &[]), [(start, uuid, true, Some(sector))], "{first}");
            }
            let mut mbr = vec![0; 512];
            mbr[446 + 4] = 0x83;
            mbr[446 + 8..446 + 12]
                .copy_from_slice(&u32::try_from(start / u64::from(sector)).unwrap().to_le_bytes());
            mbr[510..].copy_from_slice(&[0x55, 0xaa]);
            assert_eq!(
                found(&drive(16, &[(0, &mbr), (start, &image)]), &[]),
                [(start, uuid, true, Some(sector))]
            );
        }
    }

    #[test]
    fn a_uuid_is_recognised_in_what_is_left_of_a_header() {
        let (image, uuid) = header(LuksVersion::Luks2);
        let mut damaged = image.clone();
        damaged[..4096].fill(0);
        assert_eq!(
            found(&drive(8, &[(0, &damaged)]), &[]),
            [(0, uuid, true, None)],
            "the secondary copy is sound"
        );
        damaged[0x4000 + 4100] ^= 1;
        assert_eq!(found(&drive(8, &[(0, &damaged)]), &[]), [(0, uuid, false, None)]);
        damaged[0x4000..0x8000].fill(0xa5);
        assert_eq!(found(&drive(8, &[(0, &damaged)]), &[]), []);
    }

    proptest! {
        #[test]
        fn hostile_tables_do_no_harm(numbers: [u64; 3], count: u32, size: u32, mbr: [u8; 64]) {
            let [mut header, entry] = gpt(512, numbers[0], 2);
            header.1[72..80].copy_from_slice(&numbers[1].to_le_bytes());
            header.1[80..84].copy_from_slice(&count.to_le_bytes());
            header.1[84..88].copy_from_slice(&size.to_le_bytes());
            let mut sector = [0; 512];
            sector[446..510].copy_from_slice(&mbr);
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            let parts: [(u64, &[u8]); 3] = [(0, &sector), (header.0, &header.1), (entry.0, &entry.1)];
            prop_assert_eq!(found(&drive(1, &parts), &[numbers[2], u64::MAX]), []);
        }
    }
}
