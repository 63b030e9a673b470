//! The virtual drives: links in the work directory that lead to the loaded volumes.
//!
//! vchanger 1.0's drive is `WORK/N`; 0.8's is `WORK/N/driveN`, here a link in a directory of the work directory,
//! so that loading writes nothing on the magazine.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::config::generation::Generation;
use crate::library::identifiers::DriveIndex;

/// Why a drive's link cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// Something else is where the link should be.
    #[error("{} is there and is no link of the changer; move it away (it may hold a volume)", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot change the drive's link {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Where a drive's volume appears: Bacula's `Archive Device`.
pub(crate) fn link_path(work_dir: &Path, generation: Generation, drive: DriveIndex) -> PathBuf {
    match generation {
        Generation::V1 => work_dir.join(drive.to_string()),
        Generation::V08 => work_dir.join(drive.to_string()).join(format!("drive{drive}")),
    }
}

/// Makes a drive lead to a file.
pub(crate) fn link(
    work_dir: &Path,
    generation: Generation,
    drive: DriveIndex,
    target: &Path,
) -> Result<(), DriveError> {
    let path = link_path(work_dir, generation, drive);
    let failed = |source| DriveError::Io { path: path.clone(), source };
    if generation == Generation::V08 {
        make_bay_directory(&work_dir.join(drive.to_string()))?;
    }
    if generation == Generation::V1 {
        remove_bay_directory(work_dir, drive);
    }
    match fs::symlink_metadata(&path) {
        Ok(data) if !data.is_symlink() => return Err(DriveError::Occupied { path }),
        Ok(_) if fs::read_link(&path).is_ok_and(|now| now == target) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let fresh = unfinished_path(&path, drive);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    symlink(target, &fresh).map_err(failed)?;
    fs::rename(&fresh, &path).map_err(failed)
}

/// Where a link is made before it replaces the drive's.
fn unfinished_path(path: &Path, drive: DriveIndex) -> PathBuf {
    path.with_file_name(format!(".drive{drive}.new"))
}

/// Whether a changer that was killed, or one that is at work, has made a drive's new link and not put it into place.
pub(crate) fn is_unfinished(work_dir: &Path, generation: Generation, drive: DriveIndex) -> bool {
    let path = unfinished_path(&link_path(work_dir, generation, drive), drive);
    fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink())
}

/// Removes the new link of a drive that was never put into place.
pub(crate) fn remove_unfinished(
    work_dir: &Path,
    generation: Generation,
    drive: DriveIndex,
) -> Result<(), DriveError> {
    remove_link(&unfinished_path(&link_path(work_dir, generation, drive), drive))
}

/// Where a drive's link leads now.
pub(crate) fn target(work_dir: &Path, generation: Generation, drive: DriveIndex) -> Option<PathBuf> {
    fs::read_link(link_path(work_dir, generation, drive)).ok()
}

/// Takes a drive's link away, and an unfinished one; what is no link stays.
pub(crate) fn unlink(work_dir: &Path, generation: Generation, drive: DriveIndex) -> Result<(), DriveError> {
    remove_unfinished(work_dir, generation, drive)?;
    remove_link(&link_path(work_dir, generation, drive))
}

fn remove_link(path: &Path) -> Result<(), DriveError> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_symlink() => match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DriveError::Io { path: path.to_owned(), source })
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Takes away what the 0.8 generation has where 1.0 has its link; where more is in it, it stays and is in the way.
fn remove_bay_directory(work_dir: &Path, drive: DriveIndex) {
    let directory = link_path(work_dir, Generation::V1, drive);
    if !fs::symlink_metadata(&directory).is_ok_and(|data| data.is_dir()) {
        return;
    }
    let inner = link_path(work_dir, Generation::V08, drive);
    if fs::symlink_metadata(&inner).is_ok_and(|data| data.is_symlink()) {
        let _ = fs::remove_file(&inner);
    }
    let _ = fs::remove_dir(&directory);
}

/// vchanger 0.8 kept a link to the mount point where the directory of ours must be.
fn make_bay_directory(path: &Path) -> Result<(), DriveError> {
    let failed = |source| DriveError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => return Ok(()),
        Ok(data) if data.is_symlink() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(DriveError::Occupied { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    DirBuilder::new().mode(0o750).create(path).map_err(failed)?;
    if let Some(parent) = path.parent() {
        let handle = fs::File::open(path).map_err(failed)?;
        crate::files::ownership::give_to_owner_of(parent, &handle).map_err(failed)?;
    }
    Ok(())
}
