//! The filesystems that a drive may have, and how each is mounted so that its own settings can't stop the server.

use mount_by_uuid::MountOptions;

use super::failure::{Exit, Failure};

/// What `prepare` makes, and the older versions of ext4 that its driver mounts.
const KNOWN: [&str; 6] = ["ext4", "xfs", "btrfs", "reiserfs", "ext3", "ext2"];

/// Whether a filesystem is of the ext2 family, which e2fsck checks.
pub fn is_ext(fs_type: &str) -> bool {
    matches!(fs_type, "ext2" | "ext3" | "ext4")
}

/// The options to mount a filesystem with; a kind that isn't known is refused: of its driver nothing is known either.
///
/// A superblock of the ext2 family may ask the kernel to panic at the first error. The others' can't: XFS shuts down,
/// Btrfs and ReiserFS go read-only.
pub fn mount_options(fs_type: &str) -> Result<MountOptions, Failure> {
    if !KNOWN.contains(&fs_type) {
        let message = format!("a {fs_type} filesystem isn't mounted here, but only {}", KNOWN.join(", "));
        return Err(Failure::new(Exit::Refused, message)
            .hint("copy what is on it to a drive that `offsite prepare` made; mount it by hand for that"));
    }
    let extra = if is_ext(fs_type) { vec!["errors=remount-ro".to_owned()] } else { Vec::new() };
    Ok(MountOptions { extra, ..MountOptions::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_can_not_ask_for_a_panic() {
        for fs_type in ["ext2", "ext3", "ext4"] {
            assert_eq!(mount_options(fs_type).unwrap().extra, ["errors=remount-ro"]);
        }
        for fs_type in ["xfs", "btrfs", "reiserfs"] {
            assert_eq!(mount_options(fs_type).unwrap(), MountOptions::default());
        }
        for fs_type in ["jfs", "f2fs", "vfat", "ntfs3", "hfsplus", "ext4dev", "fuse", "overlay", ""] {
            let failure = mount_options(fs_type).unwrap_err();
            assert_eq!(failure.exit(), Exit::Refused, "{fs_type}");
        }
    }
}
