//! Key files, LUKS containers, key slots and header backups, over libcryptsetup.
//!
//! The crate makes and uses encrypted drives in place of the `cryptsetup` program, with the rules built in that a
//! person would have to remember: no weak key ever on the disk, never the last key removed, no key removed before
//! another one opened, no header written as a side effect of reading it. Everything it makes opens with plain
//! `cryptsetup`, and it opens what `cryptsetup` 1.x and 2.x made. It knows nothing of filesystems, mounts or backups.
//!
//! ```
//! use luks_core::{Container, FormatOptions, KeySlot, SecretKind, generate_key_file, load_key_file};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let (key_path, device) = (directory.path().join("key"), directory.path().join("drive"));
//! # std::fs::File::create(&device)?.set_len(32 << 20)?;
//! generate_key_file(&key_path, 4096)?;
//! let key = load_key_file(&key_path)?;
//! let container =
//!     Container::format(&device, &FormatOptions::default(), &key, SecretKind::KeyFile, KeySlot::ONE)?;
//! container.backup_header(&directory.path().join("drive.header"))?;
//! assert_eq!(Container::load(&device)?.test_key(&key)?, KeySlot::ONE);
//! # Ok(())
//! # }
//! ```
//!
//! # Drives that were in other hands
//! Nothing authenticates a LUKS header: whoever had a drive may have written another one, whose key he knows, or one that
//! encrypts nothing; and a drive may answer each read otherwise. So a [`Header`] is read once and judged by this crate's own
//! parser, and these bytes, not the drive's, are what libcryptsetup opens the data by; then the kernel's mapping is compared
//! with them. An [`Enrolment`] keeps what must stay the same for ever (the volume key's digest, place and cipher of the
//! data, requirements), so that a drive is opened as it was enrolled or not at all.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use luks_core::{Header, OpenOptions, load_key_file};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let enrolled = Header::read(Path::new("/var/lib/site/drive.header"))?.enrolment().clone();
//! let header = enrolled.read(Path::new("/dev/sdx"))?;
//! header.open("drive", &[&load_key_file(Path::new("/etc/site/key"))?], &OpenOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! # Failure model
//! Every operation opens the device anew and refuses when another container is there by now ([`LoadError::Exchanged`]).
//! Changes are flushed and then confirmed from the disk. [`Container::load`] never writes: damage to one of LUKS2's two
//! header copies is an error that names the copy, and
//! [`Container::load_repairing`] mends it. What libcryptsetup logs about a failure is part of the error.
//!
//! # Threads
//! All types are `Send` and `Sync`. libcryptsetup is not made for threads, so calls into it take turns in a process; one
//! that measures Argon2id holds the others up for seconds.
//!
//! # Features
//! `escrow`: key files sealed in the format of age, and split among several people. `gpt`: a drive with one partition.
//!
//! # Needs
//! libcryptsetup 2.4 or later (with libdevmapper). Formatting, key slots and backups need write access to the device or
//! file and no device-mapper; [`Container::open`] and [`close`] need root and dm-crypt (kernel 4.19; 5.9 for the work
//! queue switches).

mod container;
mod crypt;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod header;
mod mapping;
mod secret;

#[cfg(feature = "gpt")]
pub use header::partition_table::{PartitionError, make_partition, partition_start, partitions};
#[cfg(feature = "escrow")]
pub use secret::escrow::{
    EscrowError, is_sealed, is_sealed_to_passphrase, seal_to_passphrase, seal_to_recipients,
    unseal_by_identities, unseal_by_passphrase,
};
#[cfg(feature = "escrow")]
pub use secret::key_share::{KeyShare, KeyShareError, join_key, split_key};

pub use container::backup::BackupError;
pub use container::damage::HeaderRepair;
pub use container::enrolment::{
    Difference, Enrolment, EnrolmentDigest, EnrolmentError, ParseEnrolmentDigestError,
};
pub use container::format::{FormatError, FormatOptions};
pub use container::integrity::{TagError, TagProgress};
pub use container::judged::Header;
pub use container::key_trial::OpenedBy;
pub use container::load_error::LoadError;
pub use container::loaded::{Container, is_luks};
pub use container::repair::RepairError;
pub use container::restore::RestoreError;
pub use container::rotation::{RotateError, Rotated};
pub use container::slots::{AddKeyError, KillSlotError, TestKeyError};
pub use crypt::pbkdf::SecretKind;
pub use crypt::session::CryptsetupError;
pub use header::key_slot::{KeySlot, KeySlotError};
pub use header::location::{ListedPartition, Location, listed_partitions, locate};
pub use header::luks_uuid::{LuksUuid, ParseLuksUuidError};
pub use header::luks2_copy::HeaderCopy;
pub use header::slot_info::{SlotInfo, SlotPbkdf, SlotState};
pub use header::version::LuksVersion;
pub use mapping::device_number::DeviceNumber;
pub use mapping::open::{CloseError, CloseMode, Closed, Mapping, OpenError, OpenOptions, Opened, close};
pub use mapping::status::{
    MappingStatus, StatusError, has_device_mapper, mapping_status, mapping_status_in, mappings_of,
};
pub use secret::bytes::{Secret, SecretError};
pub use secret::fingerprint::{Fingerprint, ParseFingerprintError};
pub use secret::key_file::{
    DEFAULT_KEY_FILE_LEN, KeyFileError, generate_key_file, load_key_copy, load_key_file, save_key_file,
};
pub use secret::passphrase::{WeakPassphrase, check_passphrase};
pub use secret::qr_code::RecoveryKeyPicture;
pub use secret::recovery_key::{RecoveryKey, RecoveryKeyError};
