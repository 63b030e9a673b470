//! Recognising a drive by what it was filled with.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How many blocks are looked at.
const SPOTS: usize = 32;
/// Bytes of a block.
const BLOCK: usize = 4096;
/// What is usually made at a drive's start and end after the fill: headers, partition tables.
const START: u64 = 32 << 20;
const END: u64 = 4 << 20;

/// Checksums of some blocks of a filled drive, by which it is told from another one with the same serial number.
///
/// Of random bytes they reveal nothing. Take it when the drive is filled and before anything is made on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillMark {
    spots: Vec<Spot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spot {
    offset: u64,
    crc32: u32,
}

impl FillMark {
    /// Reads some blocks of a drive or file, away from its ends as far as it is large enough.
    pub fn take(device: &Path) -> io::Result<Self> {
        let mut file = File::open(device)?;
        let size = file.seek(SeekFrom::End(0))?;
        let start = START.min(size / 2);
        let end = size.saturating_sub(END).max(start.saturating_add(BLOCK as u64)).min(size);
        let blocks = (end - start) / BLOCK as u64;
        if blocks == 0 {
            return Err(io::Error::other("it is too small to be recognised by its contents"));
        }
        let mut spots = Vec::with_capacity(SPOTS);
        for _ in 0..SPOTS {
            let number = getrandom::u64().map_err(io::Error::from)? % blocks;
            let offset = start + number * BLOCK as u64;
            spots.push(Spot { offset, crc32: checksum(&file, offset)? });
        }
        Ok(Self { spots })
    }

    /// Whether most of the blocks hold what they held; one that can't be read any more doesn't.
    pub fn is_on(&self, device: &Path) -> io::Result<bool> {
        let file = File::open(device)?;
        let same = |spot: &&Spot| checksum(&file, spot.offset).is_ok_and(|crc32| crc32 == spot.crc32);
        Ok(self.spots.iter().filter(same).count() * 2 > self.spots.len())
    }
}

fn checksum(file: &File, offset: u64) -> io::Result<u32> {
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, offset)?;
    Ok(crc32fast::hash(&block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(bytes: usize) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut contents = vec![0; bytes];
        getrandom::fill(&mut contents).unwrap();
        std::fs::write(file.path(), contents).unwrap();
        file
    }

    #[test]
    fn a_filled_drive_is_told_from_a_blank_and_from_another_one() {
        for size in [8192, 1 << 20, 40 << 20] {
            let (drive, other) = (random(size), random(size));
            let blank = tempfile::NamedTempFile::new().unwrap();
            blank.as_file().set_len(size as u64).unwrap();
            let mark = FillMark::take(drive.path()).unwrap();
            let kept: FillMark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
            assert!(kept.is_on(drive.path()).unwrap());
            assert!(!kept.is_on(other.path()).unwrap() && !kept.is_on(blank.path()).unwrap(), "{size}");
        }
        assert!(FillMark::take(random(100).path()).is_err());
    }

    #[test]
    fn what_is_made_at_the_ends_changes_nothing() {
        let drive = random(48 << 20);
        let mark = FillMark::take(drive.path()).unwrap();
        drive.as_file().write_all_at(&vec![0; 17 << 20], 0).unwrap();
        drive.as_file().write_all_at(&vec![0; 4 << 20], 44 << 20).unwrap();
        assert!(mark.is_on(drive.path()).unwrap());
    }
}
