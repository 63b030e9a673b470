//! A device that was identified, confirmed, and is held open for overwriting.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::identity::examine::{Claim, IdentifyError, Identity, examine};
use crate::identity::refusal::Refusal;
use crate::io::device::DeviceIo;
use crate::system::ioctl;
use crate::system::node::Node;
use crate::system::root::System;
use crate::system::sysfs::BlockDevice;

/// A device or file that may be overwritten, held open (a block device exclusively) until it is dropped.
#[derive(Debug)]
pub struct Target {
    pub(crate) system: System,
    pub(crate) identity: Identity,
    pub(crate) io: DeviceIo,
}

/// Why a device was not opened for overwriting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The device could not be identified.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// The confirmed id is another device's.
    #[error("{} has the id \"{found}\", but \"{confirmed}\" was confirmed; look which drive you mean", device.display())]
    WrongId {
        /// The device.
        device: PathBuf,
        /// What the caller confirmed.
        confirmed: String,
        /// What the device shows.
        found: String,
    },
    /// Something speaks against overwriting it.
    #[error("{} is not overwritten: {}", device.display(), list(refusals))]
    Refused {
        /// The device.
        device: PathBuf,
        /// All that speaks against it.
        refusals: Vec<Refusal>,
    },
    /// It could not be opened for writing.
    #[error("can't open {} for writing; run as root, and see that nothing uses the drive", device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The device behind the path changed while it was being opened.
    #[error("{} became another device while it was opened ({what}); identify it again", device.display())]
    Changed {
        /// The device.
        device: PathBuf,
        /// What is different.
        what: String,
    },
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Target {
    /// Identifies a device, refuses what is unsafe, and opens it for overwriting.
    ///
    /// `confirm_id` must be the id that [`identify`](crate::identify) shows for it. A block device is opened
    /// exclusively, a regular file is locked; then the identity is read again, and must belong to the
    /// open descriptor, so that no other drive can slip under the path.
    pub fn open(system: &System, device: &Path, confirm_id: &str) -> Result<Self, TargetError> {
        let first = examine(system, device, Claim::Try)?;
        if first.id != confirm_id && !first.id.is_empty() {
            return Err(TargetError::WrongId {
                device: first.device,
                confirmed: confirm_id.into(),
                found: first.id,
            });
        }
        refuse(&first)?;
        let (file, direct) = open_exclusively(&first).map_err(|source| {
            let device = first.device.clone();
            match source.kind() {
                // A block device that was taken just now, or a file that another wipe has locked.
                io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => {
                    TargetError::Refused { device, refusals: vec![Refusal::Busy] }
                }
                _ => TargetError::Open { device, source },
            }
        })?;
        let identity = examine(system, &first.device, Claim::Held)?;
        refuse(&identity)?;
        if let Some(what) = difference(system, &first, &identity, &file) {
            return Err(TargetError::Changed { device: first.device, what });
        }
        let io = DeviceIo::new(file, direct, system, &identity)
            .map_err(|source| TargetError::Open { device: first.device, source })?;
        Ok(Self { system: system.clone(), identity, io })
    }

    /// Shows what was identified and is held.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn refuse(identity: &Identity) -> Result<(), TargetError> {
    if identity.refusals.is_empty() {
        return Ok(());
    }
    Err(TargetError::Refused { device: identity.device.clone(), refusals: identity.refusals.clone() })
}

/// Opens past the page cache, or through it where the filesystem knows no other way.
fn open_exclusively(identity: &Identity) -> io::Result<(File, bool)> {
    let exclusive = match identity.node {
        Node::Block(_) => libc::O_EXCL,
        Node::File { .. } => 0,
    };
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(exclusive | libc::O_NOFOLLOW | flags)
            .open(&identity.device)
    };
    let (file, direct) = match open(libc::O_DIRECT) {
        Ok(file) => (file, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (open(0)?, false),
        Err(error) => return Err(error),
    };
    if exclusive == 0 {
        file.try_lock()?;
    }
    Ok((file, direct))
}

/// What tells the open descriptor, or the identity read now, from the identity read first.
fn difference(system: &System, first: &Identity, again: &Identity, file: &File) -> Option<String> {
    let node = match file.metadata() {
        Ok(meta) => Node::of(&meta),
        Err(error) => return Some(error.to_string()),
    };
    if node != Some(first.node) || again.node != first.node {
        return Some("the device number".into());
    }
    let mut file = file;
    let size = match file.seek(SeekFrom::End(0)) {
        Ok(size) => size,
        Err(error) => return Some(error.to_string()),
    };
    if size != first.size_bytes || again.size_bytes != first.size_bytes {
        return Some(format!("{} bytes became {size}", first.size_bytes));
    }
    if again.id != first.id {
        return Some(format!("the id \"{}\" became \"{}\"", first.id, again.id));
    }
    let Node::Block(number) = first.node else { return None };
    // The descriptor and sysfs must speak of the same medium.
    if let Ok(held) = ioctl::disk_sequence(file)
        && let Ok(shown) =
            BlockDevice::by_number(system, number).and_then(|device| device.number_attribute("diskseq"))
        && shown.is_some_and(|shown| shown != held)
    {
        return Some("the medium's sequence number".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_by_its_path_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("disk");
        std::fs::write(&path, [1; 5000]).unwrap();
        let system = System::new(Path::new("/"));
        let error = Target::open(&system, &path, "/another").unwrap_err();
        assert!(matches!(error, TargetError::WrongId { .. }), "{error}");
        assert!(error.to_string().contains("/another") && error.to_string().contains(path.to_str().unwrap()));
        let target = Target::open(&system, &path, path.to_str().unwrap()).unwrap();
        assert_eq!(target.identity().size_bytes, 5000);
        let error = Target::open(&system, &path, path.to_str().unwrap()).unwrap_err();
        assert!(
            matches!(&error, TargetError::Refused { refusals, .. } if refusals == &[Refusal::Busy]),
            "{error}"
        );
    }

    #[test]
    fn an_empty_file_and_a_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("disk");
        std::fs::write(&path, "").unwrap();
        let system = System::new(Path::new("/"));
        let error = Target::open(&system, &path, path.to_str().unwrap()).unwrap_err();
        assert!(
            matches!(&error, TargetError::Refused { refusals, .. } if refusals == &[Refusal::Empty]),
            "{error}"
        );
        let error = Target::open(&system, dir.path(), "x").unwrap_err();
        assert!(matches!(error, TargetError::Identify(IdentifyError::NotStorage { .. })));
        let error = Target::open(&system, &dir.path().join("none"), "x").unwrap_err();
        assert!(matches!(error, TargetError::Identify(IdentifyError::Absent { .. })));
    }
}
