//! A LUKS container: what it is, and which slots it has.

use std::io;
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::vals::EncryptionFormat;
use serde_json::Value;

use crate::cost;
use crate::disk_header::{self, DiskHeader};
use crate::key_slot::KeySlot;
use crate::luks_uuid::LuksUuid;
use crate::luks2_copy::HeaderCopy;
use crate::reencryption;
use crate::secret::Secret;
use crate::session::{CryptsetupError, Session};
use crate::slot_info::{self, SlotInfo};
use crate::suspicion;
use crate::version::LuksVersion;

/// Bytes in the sectors that libcryptsetup counts offsets in.
pub(crate) const OFFSET_UNIT: u64 = 512;

/// A LUKS container on a block device or in a file, as it was when it was loaded.
///
/// It holds no open file and no key: each operation opens the device again, and refuses when another container is
/// there by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub(crate) device: PathBuf,
    pub(crate) uuid: LuksUuid,
    pub(crate) version: LuksVersion,
    label: Option<String>,
    subsystem: Option<String>,
    cipher: String,
    integrity: Option<String>,
    sector_size: u32,
    data_offset_bytes: u64,
    /// Whether the header lies in a place of its own, so that the data may begin at the start of theirs.
    pub(crate) detached: bool,
}

/// Why a container could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such device or file.
    #[error("{} is not there; plug the drive in, or check the name", device.display())]
    Missing {
        /// The path.
        device: PathBuf,
    },
    /// The path can't be passed to libcryptsetup.
    #[error("the path {} is not valid UTF-8, which libcryptsetup needs; use another name", device.display())]
    PathNotUtf8 {
        /// The path.
        device: PathBuf,
    },
    /// It can't be read.
    #[error("cannot read {}: {source}", device.display())]
    Read {
        /// The path.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It has no LUKS header.
    #[error("{} is no LUKS container", device.display())]
    NotLuks {
        /// The path.
        device: PathBuf,
    },
    /// One of LUKS2's two header copies is damaged, the other one is sound.
    #[error("on {} the {damaged} header copy {reason}; the other copy is sound and can repair it", device.display())]
    HeaderDamaged {
        /// The path.
        device: PathBuf,
        /// The damaged copy.
        damaged: HeaderCopy,
        /// What is wrong with it.
        reason: String,
    },
    /// Its data are being reencrypted, so that nothing but cryptsetup may touch its header.
    #[error(
        "a reencryption of {} is under way, until its end no key and no header is touched; end it: cryptsetup reencrypt --resume-only {}",
        device.display(),
        device.display()
    )]
    Reencryption {
        /// The path.
        device: PathBuf,
    },
    /// It is LUKS, but its header can't be trusted.
    #[error("the LUKS header of {} is ruined: {reason}; restore it from its backup", device.display())]
    HeaderRuined {
        /// The path.
        device: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// libcryptsetup accepts the header, but something in it endangers data or keys.
    #[error("the LUKS header of {} is not to be trusted: {reason}; restore it from its backup", device.display())]
    Suspicious {
        /// The path.
        device: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Trying a key would take hours, and can't be interrupted.
    #[error("opening {} would take hours: {reason}; restore its header from the backup", device.display())]
    TooCostly {
        /// The path.
        device: PathBuf,
        /// What asks for how much.
        reason: String,
    },
    /// Another container is there than the one that was loaded before.
    #[error("{} now carries container {found} in place of {expected}; look for the drive anew", device.display())]
    Exchanged {
        /// The path.
        device: PathBuf,
        /// The container loaded before.
        expected: LuksUuid,
        /// The container that is there now.
        found: LuksUuid,
    },
    /// libcryptsetup refused the header.
    #[error("the LUKS header of {} is refused: {source}", device.display())]
    Refused {
        /// The path.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
}

/// Whether there is a LUKS header (version 1 or 2) on a device or in a file, sound or not.
///
/// Also true when only the second of LUKS2's two copies is left: that is a container whose start was overwritten, or
/// what a new filesystem has left of an older container. [`Container::load`] tells what state it is in.
///
/// # Errors
/// When it can't be read, or is neither a block device nor a regular file.
pub fn is_luks(device: &Path) -> Result<bool, LoadError> {
    Ok(read_header(device)? != DiskHeader::NotLuks)
}

pub(crate) fn read_header(device: &Path) -> Result<DiskHeader, LoadError> {
    disk_header::read(device).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { device: device.to_owned() },
        _ => LoadError::Read { device: device.to_owned(), source },
    })
}

impl Container {
    /// Loads the container on a block device or in a file; never writes.
    ///
    /// # Errors
    /// Among others [`LoadError::NotLuks`], and [`LoadError::HeaderDamaged`] when one header copy needs a repair, see
    /// [`Container::load_repairing`].
    pub fn load(device: &Path) -> Result<Self, LoadError> {
        Self::load_with_session(device, false).map(|(container, _session)| container)
    }

    /// Loads a container from a header that was made to lie apart from its data (`cryptsetup luksFormat --header`); its
    /// data are opened by [`Container::open_on`].
    ///
    /// # Errors
    /// As [`Container::load`].
    pub fn load_detached(header: &Path) -> Result<Self, LoadError> {
        Self::load_with_session(header, true).map(|(container, _session)| container)
    }

    /// As [`Container::load`], with the handle that it was loaded by.
    pub(crate) fn load_with_session(device: &Path, detached: bool) -> Result<(Self, Session), LoadError> {
        let owned = || device.to_owned();
        let header = read_header(device)?;
        let uncommon = suspicion::has_uncommon_digest(&header);
        let known = Known::from_header(device, header, detached)?;
        let mut session = session(device)?;
        if uncommon {
            refuse_blind_digest(device, &mut session)?;
        }
        let (sector_size, data_offset) = {
            let handle = session.device();
            let offset = handle.status_handle().get_data_offset();
            (libcryptsetup_rs::get_sector_size(Some(handle)), offset)
        };
        let nonsense = |reason: &str| LoadError::HeaderRuined { device: owned(), reason: reason.to_owned() };
        let container = Self {
            device: owned(),
            uuid: known.uuid,
            version: known.version,
            label: known.label,
            subsystem: known.subsystem,
            cipher: known.cipher,
            integrity: known.integrity,
            sector_size: u32::try_from(sector_size).map_err(|_| nonsense("it has no sector size"))?,
            data_offset_bytes: data_offset
                .checked_mul(OFFSET_UNIT)
                .ok_or_else(|| nonsense("its data offset is beyond any device"))?,
            detached,
        };
        Ok((container, session))
    }

    /// The UUID in the header.
    pub fn uuid(&self) -> LuksUuid {
        self.uuid
    }

    /// The version of the format.
    pub fn version(&self) -> LuksVersion {
        self.version
    }

    /// The label (LUKS2 only), if there is one.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The subsystem (LUKS2 only), if there is one.
    pub fn subsystem(&self) -> Option<&str> {
        self.subsystem.as_deref()
    }

    /// The path that it was loaded from.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Cipher, mode and initialisation vector, such as `aes-xts-plain64`.
    pub fn cipher(&self) -> &str {
        &self.cipher
    }

    /// Whether each sector is authenticated (dm-integrity), so that changed data are read errors.
    pub fn is_authenticated(&self) -> bool {
        self.integrity.is_some()
    }

    /// Size of an encrypted sector in bytes, 512 to 4096.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Where the data begins, in bytes.
    pub fn data_offset_bytes(&self) -> u64 {
        self.data_offset_bytes
    }

    /// All key slots as they are on the disk now, 8 for LUKS1, 32 for LUKS2.
    ///
    /// # Errors
    /// As [`Container::load`].
    pub fn slots(&self) -> Result<Vec<SlotInfo>, LoadError> {
        let (header, mut session) = self.reopen()?;
        KeySlot::first(self.version.slot_count())
            .map(|slot| {
                let state = self.slot_state(&mut session, slot)?;
                let mut info = SlotInfo { slot, state, pbkdf: None };
                if info.is_active() {
                    info.pbkdf = slot_info::pbkdf(&header, slot);
                }
                Ok(info)
            })
            .collect()
    }

    pub(crate) fn slot_state(
        &self,
        session: &mut Session,
        slot: KeySlot,
    ) -> Result<slot_info::SlotState, LoadError> {
        session
            .call(|device| device.keyslot_handle().status(slot.get().into()))
            .map(Into::into)
            .map_err(|source| LoadError::Refused { device: self.device.clone(), source })
    }

    /// Loads again from the disk and makes sure that it is still the same container.
    pub(crate) fn reopen(&self) -> Result<(DiskHeader, Session), LoadError> {
        let (header, mut session) = (self.reread()?, session(&self.device)?);
        if suspicion::has_uncommon_digest(&header) {
            refuse_blind_digest(&self.device, &mut session)?;
        }
        Ok((header, session))
    }

    /// As [`Container::reopen`], for data that lie on another device than the header.
    pub(crate) fn reopen_on(&self, data: &Path) -> Result<Session, LoadError> {
        let header = self.reread()?;
        let mut session = loaded(&self.device, data, || Session::init_detached(&self.device, data))?;
        if suspicion::has_uncommon_digest(&header) {
            refuse_blind_digest(&self.device, &mut session)?;
        }
        Ok(session)
    }

    fn reread(&self) -> Result<DiskHeader, LoadError> {
        let header = read_header(&self.device)?;
        let found = Known::from_header(&self.device, header.clone(), self.detached)?.uuid;
        if found != self.uuid {
            return Err(LoadError::Exchanged { device: self.device.clone(), expected: self.uuid, found });
        }
        Ok(header)
    }
}

/// Lets libcryptsetup verify a random volume key, which must fail: a digest whose hash its crypto library can't compute
/// lets every key pass.
fn refuse_blind_digest(device: &Path, session: &mut Session) -> Result<(), LoadError> {
    let size = session.device().status_handle().get_volume_key_size();
    let random = usize::try_from(size).ok().and_then(|size| Secret::random(size).ok());
    let passes = random
        .is_none_or(|key| session.call(|handle| handle.volume_key_handle().verify(key.expose())).is_ok());
    if passes {
        let reason =
            "its digest can't tell a right key from a wrong one, its hash is unknown here".to_owned();
        return Err(LoadError::Suspicious { device: device.to_owned(), reason });
    }
    Ok(())
}

/// A handle on a device whose header has been checked.
pub(crate) fn session(device: &Path) -> Result<Session, LoadError> {
    loaded(device, device, || Session::init(device))
}

fn loaded(
    device: &Path,
    data: &Path,
    init: impl FnOnce() -> Result<Session, CryptsetupError>,
) -> Result<Session, LoadError> {
    for path in [device, data] {
        if path.to_str().is_none() {
            return Err(LoadError::PathNotUtf8 { device: path.to_owned() });
        }
    }
    let refused = |source| LoadError::Refused { device: device.to_owned(), source };
    let mut session = init().map_err(refused)?;
    session
        .call(|handle| handle.context_handle().load::<()>(None::<EncryptionFormat>, None))
        .map_err(refused)?;
    Ok(session)
}

/// What the header says by itself.
pub(crate) struct Known {
    uuid: LuksUuid,
    version: LuksVersion,
    label: Option<String>,
    subsystem: Option<String>,
    cipher: String,
    integrity: Option<String>,
}

impl Known {
    pub(crate) fn from_header(device: &Path, header: DiskHeader, detached: bool) -> Result<Self, LoadError> {
        let owned = || device.to_owned();
        let ruined = |reason: &str| LoadError::HeaderRuined { device: owned(), reason: reason.to_owned() };
        let uuid = |text: &str| text.parse().map_err(|_| ruined("its UUID is unreadable"));
        let named = |text: String| (!text.is_empty()).then_some(text);
        if reencryption::is_under_way(&header) {
            return Err(LoadError::Reencryption { device: owned() });
        }
        if let Some(reason) = cost::absurdity(&header) {
            return Err(LoadError::TooCostly { device: owned(), reason });
        }
        if let Some(reason) = suspicion::about(&header, detached) {
            return Err(LoadError::Suspicious { device: owned(), reason });
        }
        match header {
            DiskHeader::NotLuks => Err(LoadError::NotLuks { device: owned() }),
            DiskHeader::Luks1Reencryption => Err(LoadError::Reencryption { device: owned() }),
            DiskHeader::OneDamaged { damaged, reason, .. } => {
                Err(LoadError::HeaderDamaged { device: owned(), damaged, reason })
            }
            DiskHeader::Ruined { reason } => Err(LoadError::HeaderRuined { device: owned(), reason }),
            DiskHeader::Luks1(header) => Ok(Self {
                uuid: uuid(&header.uuid)?,
                version: LuksVersion::Luks1,
                label: None,
                subsystem: None,
                cipher: header.cipher,
                integrity: None,
            }),
            DiskHeader::Sound(copy) => Ok(Self {
                uuid: uuid(&copy.uuid)?,
                version: LuksVersion::Luks2,
                cipher: copy
                    .metadata
                    .pointer("/segments/0/encryption")
                    .and_then(Value::as_str)
                    .ok_or_else(|| ruined("it names no cipher"))?
                    .to_owned(),
                integrity: copy
                    .metadata
                    .pointer("/segments/0/integrity/type")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                label: named(copy.label),
                subsystem: named(copy.subsystem),
            }),
        }
    }
}
