//! Opening and closing containers through device-mapper.

use std::fs;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcryptsetup_rs::consts::flags::{CryptActivate, CryptDeactivate};
use nix::sys::stat::{major, minor};

use super::device_mapper;
use super::device_number::DeviceNumber;
use super::live::{self, Expected};
use super::status::{
    MappingStatus, StatusError, has_device_mapper, mapping_status, mapping_status_in, sectors, tags_name,
};
use crate::container::judged::Header;
use crate::container::key_trial::{OpenedBy, Tried};
use crate::container::load_error::LoadError;
use crate::container::loaded::Container;
use crate::crypt::session::{CryptsetupError, Session};
use crate::crypt::udev_sync;
use crate::header::disk_header::{self, OFFSET_UNIT};
use crate::secret::bytes::Secret;

/// Longest name of a mapping in bytes: `DM_NAME_LEN` of `linux/dm-ioctl.h` less the final NUL.
const NAME_MAX: usize = 127;
const NODE_DEADLINE: Duration = Duration::from_secs(10);
const NODE_POLL: Duration = Duration::from_millis(20);

/// How a container is opened.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the kernel, all off by default")]
pub struct OpenOptions {
    /// Makes the mapping read-only.
    pub read_only: bool,
    /// Passes discards (TRIM) through, which tells an attacker which sectors are unused.
    pub allow_discards: bool,
    /// Decrypts in the reader's context in place of a work queue (kernel 5.9).
    pub no_read_workqueue: bool,
    /// Encrypts in the writer's context in place of a work queue (kernel 5.9).
    pub no_write_workqueue: bool,
    /// Waits until udev has processed the new device, without a time limit: a hanging udevd, or a call from inside a
    /// udev rule, blocks for ever. Otherwise libdevmapper makes the node itself, and udev's links come later.
    pub wait_for_udev: bool,
    /// Where `sys` and `dev` are looked up; `/` outside tests.
    pub root: PathBuf,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            allow_discards: false,
            no_read_workqueue: false,
            no_write_workqueue: false,
            wait_for_udev: false,
            root: PathBuf::from("/"),
        }
    }
}

impl OpenOptions {
    fn flags(&self) -> CryptActivate {
        let chosen = [
            (self.read_only, CryptActivate::READONLY),
            (self.allow_discards, CryptActivate::ALLOW_DISCARDS),
            (self.no_read_workqueue, CryptActivate::NO_READ_WORKQUEUE),
            (self.no_write_workqueue, CryptActivate::NO_WRITE_WORKQUEUE),
        ];
        chosen
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .fold(CryptActivate::empty(), |flags, (_, flag)| flags | flag)
    }
}

/// An opened container. Dropping it doesn't close it, see [`close`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    name: String,
    path: PathBuf,
}

impl Mapping {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its block device, `/dev/mapper/NAME`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why a container was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is no name for a mapping.
    #[error(
        "'{name}' is no name for a mapping, use 1 to {NAME_MAX} of the characters A-Z a-z 0-9 # + - . : = @ _"
    )]
    Name {
        /// The asked name.
        name: String,
    },
    /// The kernel has no device-mapper.
    #[error("the kernel has no device-mapper; run: modprobe dm-crypt")]
    NoDeviceMapper,
    /// The container could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The state of the mapping could not be read.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// This very container is open under this name.
    #[error("{} is open already as '{name}'", device.display())]
    AlreadyOpen {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
    },
    /// A mapping of this name leads elsewhere: to a device that is gone, or to another container.
    #[error("mapping '{name}' exists and doesn't lead to {}; close it with force first", device.display())]
    Stale {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
    },
    /// The key opens no slot.
    #[error("the key opens no slot of {}; is it the key of this drive?", device.display())]
    WrongKey {
        /// The container.
        device: PathBuf,
    },
    /// The header alone was named.
    #[error("{} is a header without data; name the device that has them", header.display())]
    Detached {
        /// The header.
        header: PathBuf,
    },
    /// The device is mounted or open under another name.
    #[error("{} is in use; unmount it, or close the mapping that has it", device.display())]
    Busy {
        /// The container.
        device: PathBuf,
    },
    /// The new mapping doesn't lead to the container; it was closed again.
    #[error("mapping '{name}' did not come to lead to {}, it was closed again; try again", device.display())]
    NotConfirmed {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
    },
    /// The kernel made another mapping of the header than it asks for; it was closed again.
    #[error("mapping '{name}' of {} is not what its header asks for: {difference}; it was closed again", device.display())]
    OtherMapping {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
        /// What of it is otherwise.
        difference: String,
    },
    /// libcryptsetup failed otherwise.
    #[error("cannot open {} as '{name}': {source}", device.display())]
    Failed {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
}

/// How a mapping is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseMode {
    /// At once, or not at all when something holds it.
    Now,
    /// When the last holder lets go of it.
    Deferred,
    /// Also when something holds it: every access fails from now on, the device behind is released, and the mapping
    /// goes when the last holder lets go of it. Unwritten data is lost: meant for drives that were pulled out.
    Force,
}

/// What [`close`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The mapping is gone.
    Gone,
    /// There was none.
    WasAbsent,
    /// It is still there for those who hold it, and goes with the last of them.
    WhenReleased,
}

/// Why a mapping was not closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Something holds it.
    #[error("mapping '{name}' is in use; unmount it first, or close it deferred")]
    Busy {
        /// The mapping.
        name: String,
    },
    /// Its table could not be replaced by one that only fails.
    #[error("cannot make accesses to mapping '{name}' fail: {source}")]
    Force {
        /// The mapping.
        name: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// libcryptsetup failed otherwise.
    #[error("cannot close mapping '{name}': {source}")]
    Failed {
        /// The mapping.
        name: String,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The state of the mapping could not be read.
    #[error(transparent)]
    Status(#[from] StatusError),
}

impl Container {
    /// Opens the container as `/dev/mapper/NAME`, by the header that is on the device now; see [`Header::open`].
    ///
    /// # Errors
    /// [`OpenError::AlreadyOpen`] when it is open under this name, [`OpenError::Stale`] when the name leads elsewhere,
    /// [`OpenError::Detached`] when its data lie on another device.
    pub fn open(&self, name: &str, key: &Secret, options: &OpenOptions) -> Result<Mapping, OpenError> {
        self.header()?.open(name, &[key], options).map(|opened| opened.mapping)
    }

    /// Opens what lies on the device `data` by this container's header, which may be a backup in a file.
    ///
    /// That shows whether a header belongs to a drive before anything is written to it: with another drive's header the
    /// mapping shows noise.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn open_on(
        &self,
        data: &Path,
        name: &str,
        key: &Secret,
        options: &OpenOptions,
    ) -> Result<Mapping, OpenError> {
        self.header()?.open_on(data, name, &[key], options).map(|opened| opened.mapping)
    }
}

/// A container that was opened, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The mapping.
    pub mapping: Mapping,
    /// The key and its slot.
    pub by: OpenedBy,
}

impl Header {
    /// Opens the container as `/dev/mapper/NAME` by the first key that opens a slot.
    ///
    /// What opens it is this header as it was read and judged; of the device only key material and data are read. A mapping
    /// of this name that exists already is never taken over. Afterwards the new one has been found to lead to this container
    /// on this device, and to be in the kernel what the header asks for: its cipher, place, length, sectors and tags.
    ///
    /// # Errors
    /// As [`Container::open`], and [`OpenError::OtherMapping`] when the kernel has something else.
    pub fn open(&self, name: &str, keys: &[&Secret], options: &OpenOptions) -> Result<Opened, OpenError> {
        if self.detached {
            return Err(OpenError::Detached { header: self.device.clone() });
        }
        let number = device_number(&self.file.metadata());
        self.open_as(&self.device, number, name, keys, options)
    }

    /// As [`Header::open`], with the data on the device `data`; see [`Container::open_on`].
    ///
    /// # Errors
    /// As [`Header::open`].
    pub fn open_on(
        &self,
        data: &Path,
        name: &str,
        keys: &[&Secret],
        options: &OpenOptions,
    ) -> Result<Opened, OpenError> {
        self.open_as(data, device_number(&fs::metadata(data)), name, keys, options)
    }

    /// Makes sure that a mapping which exists already leads to this container on this device, and is in the kernel what the
    /// header asks for; without any switches, as [`OpenOptions::default`] makes it.
    ///
    /// # Errors
    /// [`OpenError::NotConfirmed`] when it leads elsewhere, [`OpenError::OtherMapping`] when it is something else.
    pub fn confirm_mapping(&self, name: &str) -> Result<(), OpenError> {
        let failed = |source| LoadError::Read { device: self.device.clone(), source };
        let options = OpenOptions::default();
        let number = device_number(&self.file.metadata());
        let sectors = sectors_of(&self.device).map_err(failed)?;
        let key_bytes = self.slots().first().map_or(0, |slot| self.key_bytes(*slot));
        let expected = self.expected(number, sectors, key_bytes, &options.flags());
        self.confirm(&self.device, number, name, &expected, &options)
    }

    fn open_as(
        &self,
        data: &Path,
        number: Option<DeviceNumber>,
        name: &str,
        keys: &[&Secret],
        options: &OpenOptions,
    ) -> Result<Opened, OpenError> {
        let device = || data.to_owned();
        if data.to_str().is_none() {
            return Err(LoadError::PathNotUtf8 { device: device() }.into());
        }
        if !is_name(name) {
            return Err(OpenError::Name { name: name.to_owned() });
        }
        if !has_device_mapper(&options.root) {
            return Err(OpenError::NoDeviceMapper);
        }
        if let status @ MappingStatus::Active { .. } = mapping_status_in(&options.root, name)? {
            let name = name.to_owned();
            return Err(if self.is_behind(&status, number) {
                OpenError::AlreadyOpen { device: device(), name }
            } else {
                OpenError::Stale { device: device(), name }
            });
        }
        let (by, expected) = self.activate(data, number, name, keys, options)?;
        let path = options.root.join("dev/mapper").join(name);
        let confirmed = if wait_for_node(&path) {
            self.confirm(data, number, name, &expected, options)
        } else {
            Err(OpenError::NotConfirmed { device: device(), name: name.to_owned() })
        };
        confirmed.inspect_err(|_| {
            let _reported_below = close(name, CloseMode::Now).or_else(|_| close(name, CloseMode::Deferred));
        })?;
        Ok(Opened { mapping: Mapping { name: name.to_owned(), path }, by })
    }

    fn activate(
        &self,
        data: &Path,
        number: Option<DeviceNumber>,
        name: &str,
        keys: &[&Secret],
        options: &OpenOptions,
    ) -> Result<(OpenedBy, Expected), OpenError> {
        let device = || data.to_owned();
        let session = &mut self.session(Some(data))?;
        udev_sync::set(options.wait_for_udev);
        let opened = self.try_keys(session, &self.slots(), keys, |session, slot, key| {
            let number = Some(slot.get().into());
            session.call(|device| {
                device.activate_handle().activate_by_passphrase(
                    Some(name),
                    number,
                    key.expose(),
                    options.flags(),
                )
            })
        });
        match opened {
            Ok(Tried::Opened(by, _slot)) => {
                let sectors =
                    sectors_of(data).map_err(|source| LoadError::Read { device: device(), source })?;
                Ok((by, self.expected(number, sectors, self.key_bytes(by.slot), &options.flags())))
            }
            Ok(Tried::Wrong) => Err(OpenError::WrongKey { device: device() }),
            Ok(Tried::TooCostly(slots)) => Err(self.too_costly(&slots).into()),
            Err(error) if error.is(libc::EBUSY) => Err(OpenError::Busy { device: device() }),
            Err(error) if error.is(libc::EEXIST) => {
                Err(OpenError::Stale { device: device(), name: name.to_owned() })
            }
            Err(error) if error.is(libc::EOPNOTSUPP) => Err(OpenError::NoDeviceMapper),
            Err(source) => Err(OpenError::Failed { device: device(), name: name.to_owned(), source }),
        }
    }

    /// Makes sure that the new mapping leads to the device and does what the header asks for.
    fn confirm(
        &self,
        data: &Path,
        number: Option<DeviceNumber>,
        name: &str,
        expected: &Expected,
        options: &OpenOptions,
    ) -> Result<(), OpenError> {
        let (device, name) = (|| data.to_owned(), || name.to_owned());
        if !self.is_behind(&mapping_status_in(&options.root, &name())?, number) {
            return Err(OpenError::NotConfirmed { device: device(), name: name() });
        }
        match live::difference(&name(), expected) {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => {
                Err(OpenError::OtherMapping { device: device(), name: name(), difference })
            }
            Err(source) => {
                let path = PathBuf::from("/dev/mapper/control");
                Err(StatusError { name: name(), path, source }.into())
            }
        }
    }

    /// Whether an active mapping was opened from this container and reads from that device.
    fn is_behind(&self, status: &MappingStatus, number: Option<DeviceNumber>) -> bool {
        let MappingStatus::Active { luks_uuid, .. } = status else { return false };
        // libcryptsetup puts a loop device of its own below a file's mapping.
        let same_device = number.is_none_or(|number| status.is_backed_by(number.major, number.minor));
        *luks_uuid == Some(self.uuid()) && same_device
    }
}

/// Closes a mapping of this machine.
///
/// Works also when the device behind it has disappeared. Closing an absent mapping is no error.
///
/// # Errors
/// [`CloseError::Busy`] for [`CloseMode::Now`] when something holds it.
pub fn close(name: &str, mode: CloseMode) -> Result<Closed, CloseError> {
    if !has_device_mapper(Path::new("/")) || mapping_status(name)? == MappingStatus::Absent {
        return Ok(Closed::WasAbsent);
    }
    let closed = match mode {
        CloseMode::Now => deactivate(name, CryptDeactivate::empty()),
        CloseMode::Deferred => deactivate(name, CryptDeactivate::DEFERRED),
        CloseMode::Force => {
            make_fail(name)?;
            let closed = deactivate(name, CryptDeactivate::DEFERRED);
            // The mapping that keeps the tags of a container with authenticated encryption: nothing is on it any more.
            let tags = tags_name(name);
            if mapping_status(&tags)? != MappingStatus::Absent {
                make_fail(&tags)?;
                let _reported_by_its_status = deactivate(&tags, CryptDeactivate::DEFERRED);
            }
            closed
        }
    };
    match closed {
        Ok(()) => {}
        // Somebody else closed it meanwhile.
        Err(error) if error.is(libc::ENODEV) => return Ok(Closed::WasAbsent),
        Err(error) if error.is(libc::EBUSY) => return Err(CloseError::Busy { name: name.to_owned() }),
        Err(source) => return Err(CloseError::Failed { name: name.to_owned(), source }),
    }
    Ok(match mapping_status(name)? {
        MappingStatus::Absent => Closed::Gone,
        MappingStatus::Active { .. } => Closed::WhenReleased,
    })
}

fn make_fail(name: &str) -> Result<(), CloseError> {
    let Some(sectors) = sectors(Path::new("/"), name)? else { return Ok(()) };
    device_mapper::make_fail(name, sectors)
        .map_err(|source| CloseError::Force { name: name.to_owned(), source })
}

fn deactivate(name: &str, flags: CryptDeactivate) -> Result<(), CryptsetupError> {
    let mut session = Session::of_mapping(name)?;
    udev_sync::set(false);
    session.call(|device| device.activate_handle().deactivate(name, flags))
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && !matches!(name, "." | ".." | "control")
}

/// The number of a block device; `None` for a file, or for what isn't there.
fn device_number(metadata: &io::Result<fs::Metadata>) -> Option<DeviceNumber> {
    let metadata = metadata.as_ref().ok().filter(|metadata| metadata.file_type().is_block_device())?;
    let number = |number: u64| u32::try_from(number).ok();
    Some(DeviceNumber { major: number(major(metadata.rdev()))?, minor: number(minor(metadata.rdev()))? })
}

/// The size of a device or file in sectors of 512 bytes.
fn sectors_of(device: &Path) -> io::Result<u64> {
    Ok(disk_header::open(device)?.seek(SeekFrom::End(0))? / OFFSET_UNIT)
}

/// Waits until a block device node is there; without udevd it is at once.
fn wait_for_node(path: &Path) -> bool {
    let deadline = Instant::now() + NODE_DEADLINE;
    loop {
        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(NODE_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_name_a_mapping() {
        for name in ["blue", "offsite-0123", "a", &"x".repeat(127), "a.b:c=d@e_f+g#h"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "control", "a/b", "a b", "é", "a\\x2f", &"x".repeat(128)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn closing_what_is_not_open_is_no_error() {
        for mode in [CloseMode::Now, CloseMode::Deferred, CloseMode::Force] {
            assert_eq!(close("offsite-test-of-an-absent-mapping", mode).unwrap(), Closed::WasAbsent);
        }
    }

    #[test]
    fn options_become_flags() {
        assert!(OpenOptions::default().flags().is_empty());
        let options = OpenOptions { read_only: true, allow_discards: true, ..OpenOptions::default() };
        let expected = CryptActivate::READONLY | CryptActivate::ALLOW_DISCARDS;
        assert_eq!(options.flags().bits(), expected.bits());
    }
}
