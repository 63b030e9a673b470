//! The programs that check filesystems, run so that what lies on a drive gains nothing by deceiving them.
//!
//! They parse what a stranger may have written. Each runs as a user that nothing else has, without capabilities and
//! without a way to gain any, with the one device that it checks as its only descriptor. (What libblkid reads of a
//! superblock is parsed by the daemon itself, as by udevd and mount(8).)

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::failure::{Failure, OrFail as _};
use crate::filesystems::is_ext;
use crate::paths::Root;
use crate::program::{Account, Finished, Program};

/// The time limit of a check.
const LIMIT: Duration = Duration::from_hours(6);

/// The first of the users as whom checkers run: of a range that nobody hands out (systemd's "Users, Groups, UIDs and
/// GIDs").
const FIRST_USER: u32 = 1_879_048_192;

/// Number of such users: a check that runs beside others has one of its own.
const USERS: u32 = 65_536;

/// A program that checks a filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checker {
    /// Its name, as a person types it.
    pub(super) name: &'static str,
    program: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// The exit codes that mean sound, or repaired.
    sound: &'static [i32],
}

/// The checker of a filesystem, which repairs what can be repaired without a question (ext2 to ext4) or only looks.
pub(super) fn of(fs_type: &str) -> Option<Checker> {
    let checker =
        |name, program, package, arguments, sound| Checker { name, program, package, arguments, sound };
    Some(match fs_type {
        // e2fsck(8): 0 clean, 1 repaired; everything above is for a person.
        ext if is_ext(ext) => checker("e2fsck", "e2fsck", "e2fsprogs", &["-p"], &[0, 1]),
        "xfs" => checker("xfs_repair", "xfs_repair", "xfsprogs", &["-n"], &[0]),
        "btrfs" => checker("btrfs check", "btrfs", "btrfs-progs", &["check", "--readonly"], &[0]),
        "reiserfs" => {
            checker("reiserfsck", "reiserfsck", "reiserfsprogs", &["--check", "--yes", "--quiet"], &[0, 1])
        }
        _ => return None,
    })
}

impl Checker {
    /// Checks the filesystem on a device.
    pub(super) fn run(&self, root: &Root, device: &Path) -> Result<Finished, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let user = FIRST_USER + NEXT.fetch_add(1, Ordering::Relaxed) % USERS;
        let program = Program::find(self.program, self.package)?;
        let own = own_node(root, device, user).or_fail(format!(
            "cannot hand {} to {}",
            device.display(),
            self.name
        ))?;
        let path = format!("/dev/fd/{}", own.as_raw_fd());
        let account = Account { uid: user, gid: user, groups: Vec::new() };
        program.args(self.arguments).args([path]).user(account).inherit(OwnedFd::from(own)).limit(LIMIT).run()
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
