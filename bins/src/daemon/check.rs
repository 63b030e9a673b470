//! Checking the filesystem of a drive that was pulled while in use, before it is mounted again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::sys::signal::Signal;

use super::checker;
use super::drive::Drive;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::filesystems::is_ext;
use crate::base::paths::Root;
use crate::drives::scoped_open::Mounted;
use crate::records::fsck_due::Torn;

/// Repairs what can be repaired without a question, if the drive is marked as torn out or the filesystem itself says
/// that it was not unmounted. XFS, Btrfs and ReiserFS replay their logs at the mount; they are looked at only after an
/// error in the filesystem itself. Says whether there was a reason to check it.
pub(super) fn check_if_due(
    root: &Root,
    drive: &Drive,
    torn: Option<&Torn>,
    path: &Path,
) -> Result<bool, Failure> {
    let magazine = drive.magazine();
    let ext = is_ext(&magazine.fs_type);
    let why = match torn {
        Some(Torn::Pulled) => "was pulled while in use",
        Some(Torn::Unflushed(_)) => "has not all that was written to it",
        Some(Torn::Errors(_)) => "had an error in its filesystem",
        None if ext && is_unclean(path).or_fail(format!("cannot look into {magazine}"))? => {
            "was not unmounted the last time"
        }
        None => return Ok(false),
    };
    let Some(checker) = checker::of(&magazine.fs_type) else { return Ok(true) };
    let damaged = matches!(torn, Some(Torn::Errors(_)));
    if !ext && !damaged {
        return Ok(true);
    }
    drive.say(&format!("{magazine} {why}: checking it"));
    if magazine.fs_type == "xfs" {
        // Its checker doesn't replay the log, and takes what is still in it for damage.
        Mounted::mount(root, path, &magazine.fs_type, false)?.unmount()?;
    }
    let finished = checker.run(root, path)?;
    if checker.is_sound(finished.code) {
        return Ok(true);
    }
    Err(match finished.signal {
        Some(Signal::SIGSYS) => intruder(checker.name),
        Some(signal) => beyond_repair(
            checker.name,
            format!("{} was ended by {signal} {}", checker.name, finished.text).trim(),
        ),
        None => beyond_repair(checker.name, finished.text.trim()),
    })
}

/// What to say of a checker that was ended for what it tried.
fn intruder(program: &str) -> Failure {
    let message = format!(
        "{program} was ended: it tried what no check needs (a program, a file or a connection of its own); \
         the filesystem may have been made to deceive it"
    );
    Failure::new(Exit::Refused, message)
        .hint("if the drive was out of your hands, take its contents for forged and prepare it again")
}

/// Maximum of a checker's words that are quoted, in bytes.
const QUOTED_BYTES: usize = 1000;

/// What to say of a filesystem that nobody but a person may repair.
fn beyond_repair(program: &str, why: &str) -> Failure {
    let end = why.floor_char_boundary(QUOTED_BYTES);
    let why = why.get(..end).unwrap_or_default();
    Failure::new(Exit::Refused, format!("its filesystem can't be repaired safely: {why}"))
        .hint(format!("make a copy of the drive, then run {program} on it by hand"))
}

/// What to say when a filesystem can't be mounted that the kernel calls damaged, or whose log is replayed at the mount
/// and whose drive was torn out.
pub(super) fn not_mountable(fs_type: &str, damaged: bool, torn: bool, why: &Failure) -> Option<Failure> {
    let checker = checker::of(fs_type).filter(|_| damaged || (torn && !is_ext(fs_type)))?;
    Some(beyond_repair(checker.name, why.message()))
}

/// Whether an ext2, ext3 or ext4 filesystem was left without being unmounted, or with errors.
///
/// The superblock's fields are those of the kernel's `Documentation/filesystems/ext4/super.rst`.
fn is_unclean(path: &Path) -> io::Result<bool> {
    const SUPERBLOCK: u64 = 1024;
    const STATE: u64 = 0x3a;
    const INCOMPATIBLE: u64 = 0x60;
    const CLEAN: u16 = 1;
    const NEEDS_RECOVERY: u32 = 4;
    let device = File::open(path)?;
    let (mut state, mut features) = ([0; 2], [0; 4]);
    device.read_exact_at(&mut state, SUPERBLOCK + STATE)?;
    device.read_exact_at(&mut features, SUPERBLOCK + INCOMPATIBLE)?;
    Ok(u16::from_le_bytes(state) != CLEAN || u32::from_le_bytes(features) & NEEDS_RECOVERY != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::program::Program;

    #[test]
    fn a_filesystem_that_was_left_mounted_is_unclean() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        let at = file.path();
        Program::find("mkfs.ext4", "e2fsprogs").unwrap().args(["-q", "-F"]).args([at]).must().unwrap();
        assert!(!is_unclean(at).unwrap());
        // As the kernel leaves it at a mount, and when it met an error.
        for (command, request) in [("feature needs_recovery", true), ("set_super_value state 3", true)] {
            Program::find("debugfs", "e2fsprogs")
                .unwrap()
                .args(["-w", "-R", command])
                .args([at])
                .must()
                .unwrap();
            assert_eq!(is_unclean(at).unwrap(), request, "{command}");
            Program::find("e2fsck", "e2fsprogs").unwrap().args(["-fy"]).args([at]).run().unwrap();
            assert!(!is_unclean(at).unwrap(), "after e2fsck");
        }
    }

    #[test]
    fn a_log_that_cannot_be_replayed_is_for_a_person() {
        let why = Failure::new(Exit::Failed, "cannot mount B: structure needs cleaning");
        let failure = not_mountable("xfs", false, true, &why).unwrap();
        assert_eq!(failure.exit(), Exit::Refused);
        assert!(failure.remedy().unwrap().contains("xfs_repair"), "{failure}");
        assert!(not_mountable("ext4", false, true, &why).is_none());
        assert!(not_mountable("xfs", false, false, &why).is_none());
        let failure = not_mountable("ext4", true, false, &why).unwrap();
        assert!(failure.remedy().unwrap().contains("run e2fsck on it by hand"), "{failure}");
    }
}
