//! Making the filesystem inside a container.

use std::path::Path;
use std::time::Duration;

use mount_by_uuid::FsUuid;

use crate::base::confirm::size;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::program::Program;
use crate::commands::arguments::Filesystem;

/// The most volumes that one magazine takes: their number has four digits.
const MOST_VOLUMES: u64 = 9999;

/// The name under which mount(8) knows it.
pub(super) fn fs_type(fs: Filesystem) -> &'static str {
    match fs {
        Filesystem::Ext4 => "ext4",
        Filesystem::Xfs => "xfs",
        Filesystem::Btrfs => "btrfs",
        Filesystem::Reiserfs => "reiserfs",
    }
}

/// The mkfs program of one filesystem.
pub(super) struct Maker {
    program: Program,
    fs: Filesystem,
}

impl Maker {
    /// Finds the program, so that its absence is known before anything is written.
    pub(super) fn find(fs: Filesystem) -> Result<Self, Failure> {
        let (name, package) = match fs {
            Filesystem::Ext4 => ("mkfs.ext4", "e2fsprogs"),
            Filesystem::Xfs => ("mkfs.xfs", "xfsprogs"),
            Filesystem::Btrfs => ("mkfs.btrfs", "btrfs-progs"),
            Filesystem::Reiserfs => ("mkfs.reiserfs", "reiserfsprogs"),
        };
        Ok(Self { program: Program::find(name, package)?, fs })
    }

    /// Makes the filesystem with the given UUID; the sticker becomes its label where it fits.
    pub(super) fn make(self, device: &Path, uuid: &FsUuid, sticker: &str) -> Result<(), Failure> {
        let uuid = uuid.to_string();
        let label = |longest: usize| sticker.get(..longest.min(sticker.len())).unwrap_or_default().to_owned();
        let arguments: Vec<String> = match self.fs {
            // No blocks are kept for root: Bacula, which isn't root, would meet a full drive 5 % early.
            Filesystem::Ext4 => ["-q", "-F", "-m", "0", "-e", "remount-ro", "-U", &uuid, "-L", &label(16)]
                .map(String::from)
                .into(),
            Filesystem::Xfs => {
                ["-q", "-f", "-m", &format!("uuid={uuid}"), "-L", &label(12)].map(String::from).into()
            }
            Filesystem::Btrfs => ["-q", "-f", "-U", &uuid, "-L", &label(255)].map(String::from).into(),
            Filesystem::Reiserfs => {
                ["-q", "-f", "-f", "-u", &uuid, "-l", &label(16)].map(String::from).into()
            }
        };
        self.program.args(arguments).args([device]).limit(Duration::from_hours(1)).must().map(drop)
    }
}

/// Refuses a drive on which not one volume of `volume_bytes` can find room, before hours are spent on filling it.
///
/// What the filesystem takes for itself isn't known yet, so a drive that is just too small is only found out later.
pub(super) fn refuse_too_small(
    drive_bytes: u64,
    header_bytes: u64,
    volume_bytes: u64,
) -> Result<(), Failure> {
    let room = drive_bytes.saturating_sub(header_bytes);
    if room - room / 100 >= volume_bytes {
        return Ok(());
    }
    Err(no_volume_fits(volume_bytes, room))
}

fn no_volume_fits(volume_bytes: u64, bytes: u64) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("not even one volume of {} fits in the {} of the drive", size(volume_bytes), size(bytes)),
    )
    .hint("make bacula.pool.maximum_volume_bytes in site.toml smaller, or give --volumes")
}

/// How many volumes of `volume_bytes` find room, leaving 1 % for the filesystem's own growth.
pub(super) fn volumes_that_fit(at: &Path, volume_bytes: u64) -> Result<u32, Failure> {
    let room = nix::sys::statvfs::statvfs(at).or_fail(format!("cannot measure {}", at.display()))?;
    let bytes = room.blocks_available() * room.fragment_size();
    let fit = (bytes - bytes / 100).checked_div(volume_bytes).unwrap_or(0);
    if fit == 0 {
        return Err(no_volume_fits(volume_bytes, bytes));
    }
    Ok(u32::try_from(fit.min(MOST_VOLUMES)).unwrap_or(u32::MAX))
}
