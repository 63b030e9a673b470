//! Recognising a filesystem by the copies of its superblock, where its start was overwritten.
//!
//! Sources: the kernel's `Documentation/filesystems/ext4/` ("The Super Block", "Block Groups") and
//! `fs/btrfs/disk-io.h` (`btrfs_sb_offset`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use uuid::Uuid;

/// Block groups that keep a copy of the superblock: 1 and the powers of 3, 5 and 7.
const EXT_GROUPS: [u64; 9] = [1, 3, 5, 7, 9, 25, 27, 49, 81];
/// Magic number 0xEF53 and UUID, from the start of a superblock of ext2, ext3 or ext4.
const EXT_MAGIC: (usize, &[u8]) = (0x38, &[0x53, 0xef]);
const EXT_UUID: usize = 0x68;
/// Bytes from the start of the device.
const BTRFS_PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const BTRFS_MAGIC: (usize, &[u8]) = (0x40, b"_BHRfS_M");
const BTRFS_UUID: usize = 0x20;

/// Whether a copy of the superblock of the filesystem `uuid` lies where the type keeps one; never of a type that isn't
/// ext2, ext3, ext4 or btrfs.
pub fn has_copy(device: &Path, fs_type: &str, uuid: &str) -> bool {
    let (Ok(file), Ok(uuid)) = (File::open(device), uuid.parse::<Uuid>()) else { return false };
    match fs_type {
        "ext2" | "ext3" | "ext4" => {
            ext_places().any(|place| is_superblock(&file, place, EXT_MAGIC, EXT_UUID, uuid))
        }
        "btrfs" => {
            BTRFS_PLACES.iter().any(|place| is_superblock(&file, *place, BTRFS_MAGIC, BTRFS_UUID, uuid))
        }
        _ => false,
    }
}

/// A group has as many blocks as a block has bits; with blocks of 1 KiB the first one lies before the groups.
fn ext_places() -> impl Iterator<Item = u64> {
    [1024_u64, 2048, 4096].into_iter().flat_map(|block| {
        let first = u64::from(block == 1024);
        EXT_GROUPS.iter().map(move |group| (group * block * 8 + first) * block)
    })
}

fn is_superblock(file: &File, place: u64, magic: (usize, &[u8]), uuid_place: usize, uuid: Uuid) -> bool {
    let mut bytes = [0; 128];
    file.read_exact_at(&mut bytes, place).is_ok()
        && bytes.get(magic.0..).is_some_and(|rest| rest.starts_with(magic.1))
        && bytes.get(uuid_place..).is_some_and(|rest| rest.starts_with(uuid.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::program::Program;

    const UUID: &str = "e6ffe50b-bbe7-854f-fea8-766ae1265eba";

    #[test]
    fn a_filesystem_without_its_start_is_recognised_by_a_copy() {
        for block in ["1024", "2048", "4096"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(300 << 20).unwrap();
            let options = ["-q", "-F", "-b", block, "-U", UUID];
            Program::find("mkfs.ext4", "e2fsprogs")
                .unwrap()
                .args(options)
                .args([file.path()])
                .must()
                .unwrap();
            file.as_file().write_all_at(&vec![0; 1 << 20], 0).unwrap();
            assert!(has_copy(file.path(), "ext4", UUID), "{block}");
            assert!(!has_copy(file.path(), "ext4", "06ffe50b-bbe7-854f-fea8-766ae1265eba"), "{block}");
            assert!(!has_copy(file.path(), "xfs", UUID));
        }
    }

    #[test]
    fn btrfs_keeps_its_copies_at_fixed_places() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(65 << 20).unwrap();
        assert!(!has_copy(file.path(), "btrfs", UUID));
        let uuid: Uuid = UUID.parse().unwrap();
        file.as_file().write_all_at(uuid.as_bytes(), (64 << 20) + 0x20).unwrap();
        file.as_file().write_all_at(b"_BHRfS_M", (64 << 20) + 0x40).unwrap();
        assert!(has_copy(file.path(), "btrfs", UUID));
    }
}
