//! The programs that check filesystems, run so that what lies on a drive gains nothing by deceiving them.
//!
//! They parse what a stranger may have written. Each runs as a user that nothing else has, without capabilities and
//! without a way to gain any, with the one device that it checks as its only descriptor, bounded memory, and no system
//! call but those that its work needs. (What libblkid reads of a superblock is parsed by the daemon itself, as by udevd
//! and mount(8).)

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::base::failure::{Failure, OrFail as _};
use crate::base::filesystems::is_ext;
use crate::base::paths::Root;
use crate::base::program::account::Account;
use crate::base::program::{Files, Finished, Program};

/// The time limit of a check.
const LIMIT: Duration = Duration::from_hours(6);

/// The first of the users as whom checkers run: of a range that nobody hands out (systemd's "Users, Groups, UIDs and
/// GIDs").
const FIRST_USER: u32 = 1_879_048_192;

/// Number of such users: a check that runs beside others has one of its own.
const USERS: u32 = 65_536;

/// What every checker may take of memory, in bytes.
const MEMORY: u64 = 1 << 30;

/// What it may take beyond that: one byte for so many of the device.
///
/// e2fsck(8) is the one that needs most. It keeps some ten bitmaps with a bit for each block or inode (in trees, which
/// are smaller while what is on the drive isn't scattered), so at 4 KiB a block one byte of each stands for 32 KiB of the
/// device: this is room for 32 of them. xfs_repair(8) asks for one byte in 2048 and some for its inodes, and takes four
/// fifths of what it may have.
const DEVICE_BYTES_PER_BYTE: u64 = 1024;

/// A program that checks a filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checker {
    /// Its name, as a person types it.
    pub(super) name: &'static str,
    program: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    files: Files,
    /// The exit codes that mean sound, or repaired.
    sound: &'static [i32],
}

/// The checker of a filesystem, which repairs what can be repaired without a question (ext2 to ext4) or only looks.
pub(super) fn of(fs_type: &str) -> Option<Checker> {
    let checker = |name, program, package, arguments, files, sound| Checker {
        name,
        program,
        package,
        arguments,
        files,
        sound,
    };
    Some(match fs_type {
        // e2fsck(8): 0 clean, 1 repaired; everything above is for a person.
        ext if is_ext(ext) => checker("e2fsck", "e2fsck", "e2fsprogs", &["-p"], Files::Write, &[0, 1]),
        "xfs" => checker("xfs_repair", "xfs_repair", "xfsprogs", &["-n"], Files::Read, &[0]),
        "btrfs" => {
            checker("btrfs check", "btrfs", "btrfs-progs", &["check", "--readonly"], Files::Read, &[0])
        }
        "reiserfs" => checker(
            "reiserfsck",
            "reiserfsck",
            "reiserfsprogs",
            &["--check", "--yes", "--quiet"],
            Files::Write,
            &[0, 1],
        ),
        _ => return None,
    })
}

impl Checker {
    /// Checks the filesystem on a device.
    pub(super) fn run(&self, root: &Root, device: &Path) -> Result<Finished, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let user = FIRST_USER + NEXT.fetch_add(1, Ordering::Relaxed) % USERS;
        let cannot = || format!("cannot hand {} to {}", device.display(), self.name);
        let mut own = own_node(root, device, user).or_fail(cannot())?;
        let size = own.seek(SeekFrom::End(0)).or_fail(cannot())?;
        let path = format!("/dev/fd/{}", own.as_raw_fd());
        let account = Account { uid: user, gid: user, groups: Vec::new() };
        self.confined(size)?.args([path]).user(account).inherit(OwnedFd::from(own)).run()
    }

    /// The program, with its bounds for a device of `size` bytes; the device's path is its last argument.
    fn confined(&self, size: u64) -> Result<Program, Failure> {
        let program = Program::find(self.program, self.package)?.args(self.arguments);
        Ok(program.filter(self.files).memory(MEMORY + size / DEVICE_BYTES_PER_BYTE).limit(LIMIT))
    }

    /// Whether an exit code means that the filesystem may be used.
    pub(super) fn is_sound(&self, code: Option<i32>) -> bool {
        code.is_some_and(|code| self.sound.contains(&code))
    }
}

/// Opens a device by a node that belongs to `user` and has no name any more: by its descriptor that user can open it as
/// often as the checker needs, and nobody else gets at it.
fn own_node(root: &Root, device: &Path, user: u32) -> io::Result<File> {
    let number = std::fs::metadata(device)?.rdev();
    let node = root.join(format!("/dev/.offsite-check-{user}"));
    match std::fs::remove_file(&node) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error), // of a run that was killed
        _ => {}
    }
    mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, number)?;
    let opened = chown(&node, Some(user), Some(user))
        .and_then(|()| OpenOptions::new().read(true).write(true).open(&node));
    std::fs::remove_file(&node)?;
    opened
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    const MIB: u64 = 1 << 20;

    /// A file with a filesystem in it.
    fn image(fs_type: &str, size: u64, options: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let mkfs = Program::find(&format!("mkfs.{fs_type}"), "xfsprogs, btrfs-progs or e2fsprogs").unwrap();
        mkfs.args(["-q"]).args(options).args([file.path()]).must().unwrap();
        file
    }

    fn debugfs(file: &tempfile::NamedTempFile, request: &str) {
        let debugfs = Program::find("debugfs", "e2fsprogs").unwrap();
        debugfs.args(["-w", "-R", request]).args([file.path()]).must().unwrap();
    }

    /// What the checker says of a file, with all bounds that it has for a device.
    fn checked(fs_type: &str, file: &tempfile::NamedTempFile) -> Finished {
        let size = file.as_file().metadata().unwrap().len();
        of(fs_type).unwrap().confined(size).unwrap().args([file.path()]).run().unwrap()
    }

    #[test]
    fn confined_checkers_find_what_is_sound_sound() {
        for (fs_type, size) in [("ext2", 16), ("ext4", 64), ("xfs", 400), ("btrfs", 200)] {
            let finished = checked(fs_type, &image(fs_type, size * MIB, &[]));
            assert_eq!(finished.code, Some(0), "{fs_type}: {finished:?}");
        }
    }

    #[test]
    fn confined_checkers_repair_and_judge_what_is_damaged() {
        // Counts and an inode that a power cut left behind: repaired without a question.
        let ext = image("ext4", 64 * MIB, &[]);
        for request in ["mkdir lost", "clri lost", "ssv free_blocks_count 7", "ssv state 0"] {
            debugfs(&ext, request);
        }
        let finished = checked("ext4", &ext);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert_eq!(checked("ext4", &ext).code, Some(0));
        // Without its root directory: for a person.
        debugfs(&ext, "clri <2>");
        debugfs(&ext, "ssv state 0");
        let finished = checked("ext4", &ext);
        assert_eq!(finished.code, Some(4), "{finished:?}");
        // Junk over the trees of an allocation group; over all trees, between both superblocks.
        let junk: Vec<u8> =
            (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let xfs = image("xfs", 400 * MIB, &[]);
        xfs.as_file().write_all_at(&junk[..16 << 10], 4096).unwrap();
        let finished = checked("xfs", &xfs);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let btrfs = image("btrfs", 200 * MIB, &[]);
        for at in 17..63 {
            btrfs.as_file().write_all_at(&junk, at * MIB).unwrap();
        }
        let finished = checked("btrfs", &btrfs);
        assert_eq!(finished.code, Some(1), "{finished:?}");
    }

    #[test]
    fn a_whole_check_of_a_large_drive_keeps_within_its_memory() {
        const SIZE: u64 = 8 << 40;
        let large = image("ext4", SIZE, &["-E", "lazy_itable_init=1,lazy_journal_init=1"]);
        debugfs(&large, "ssv state 0");
        let finished = checked("ext4", &large);
        assert!(matches!(finished.code, Some(0 | 1)), "{finished:?}");
        // Less than it may have by a factor that room is left for what is scattered.
        let small =
            of("ext4").unwrap().confined(SIZE).unwrap().memory(1 << 30).args(["-f"]).args([large.path()]);
        assert_eq!(small.run().unwrap().code, Some(0));
    }

    #[test]
    fn a_checker_without_memory_says_so() {
        let ext = image("ext4", 64 * MIB, &[]);
        debugfs(&ext, "ssv state 0");
        let starved = of("ext4").unwrap().confined(0).unwrap().memory(MIB).args([ext.path()]).run();
        let sound = starved.is_ok_and(|finished| of("ext4").unwrap().is_sound(finished.code));
        assert!(!sound);
    }
}
