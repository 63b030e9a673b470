//! A LUKS container: what it is, and which slots it has.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cost;
use crate::disk_header::{self, DiskHeader};
use crate::enrolment::EnrolmentDigest;
use crate::header::Header;
use crate::key_slot::KeySlot;
use crate::luks_uuid::LuksUuid;
use crate::luks2_copy::HeaderCopy;
use crate::reencryption;
use crate::repair::HeaderRepair;
use crate::secret::Secret;
use crate::session::{CryptsetupError, Session};
use crate::slot_info::{self, SlotInfo};
use crate::suspicion::{self, Objection};
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
    identity: EnrolmentDigest,
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
    /// Trying a key would take too long, and can't be interrupted.
    #[error("opening {} would take too long: {reason}; restore its header from the backup", device.display())]
    TooCostly {
        /// The path.
        device: PathBuf,
        /// What asks for how much.
        reason: String,
    },
    /// The header requires what this crate doesn't know.
    #[error(
        "the LUKS header of {} requires {names}, which is not known here; open it with the program that made it so, or \
         restore its header",
        device.display()
    )]
    Requirements {
        /// The path.
        device: PathBuf,
        /// The names of the requirements.
        names: String,
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
    /// The header says something else than the read before: somebody changed it, or the drive answers each read otherwise.
    #[error(
        "the LUKS header of {} is another one than it was a moment ago: another program changes it, or the drive is not to \
         be trusted; nothing more is written to it",
        device.display()
    )]
    Inconstant {
        /// The path.
        device: PathBuf,
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
    disk_header::read(device).map_err(|source| load_error(device, source))
}

pub(crate) fn load_error(device: &Path, source: io::Error) -> LoadError {
    match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { device: device.to_owned() },
        _ => LoadError::Read { device: device.to_owned(), source },
    }
}

impl Container {
    /// Loads the container on a block device or in a file; never writes.
    ///
    /// # Errors
    /// Among others [`LoadError::NotLuks`], and [`LoadError::HeaderDamaged`] when one header copy needs a repair, see
    /// [`Container::load_repairing`].
    pub fn load(device: &Path) -> Result<Self, LoadError> {
        Self::load_as(device, false)
    }

    /// Loads a container from a header that was made to lie apart from its data (`cryptsetup luksFormat --header`); its
    /// data are opened by [`Container::open_on`].
    ///
    /// # Errors
    /// As [`Container::load`].
    pub fn load_detached(header: &Path) -> Result<Self, LoadError> {
        Self::load_as(header, true)
    }

    fn load_as(device: &Path, detached: bool) -> Result<Self, LoadError> {
        Self::of(&Header::read_as(device, detached)?)
    }

    /// The container that a header is of, unless a copy of the header is damaged.
    fn of(header: &Header) -> Result<Self, LoadError> {
        let device = || header.device().to_owned();
        if let Some(HeaderRepair { copy, reason }) = header.damage() {
            return Err(LoadError::HeaderDamaged { device: device(), damaged: copy, reason });
        }
        let mut session = header.session_as_read()?;
        let (sector_size, data_offset) = {
            let handle = session.device();
            let offset = handle.status_handle().get_data_offset();
            (libcryptsetup_rs::get_sector_size(Some(handle)), offset)
        };
        let nonsense = |reason: &str| LoadError::HeaderRuined { device: device(), reason: reason.to_owned() };
        let known = header.fields.clone();
        Ok(Self {
            device: device(),
            uuid: known.uuid,
            version: known.version,
            identity: header.enrolment().digest(),
            label: known.label,
            subsystem: known.subsystem,
            cipher: known.cipher,
            integrity: known.integrity,
            sector_size: u32::try_from(sector_size).map_err(|_| nonsense("it has no sector size"))?,
            data_offset_bytes: data_offset
                .checked_mul(OFFSET_UNIT)
                .ok_or_else(|| nonsense("its data offset is beyond any device"))?,
            detached: header.detached,
        })
    }

    /// The UUID in the header.
    pub fn uuid(&self) -> LuksUuid {
        self.uuid
    }

    /// The version of the format.
    pub fn version(&self) -> LuksVersion {
        self.version
    }

    /// What identifies the container. Each operation reads the header again, and refuses one with another digest.
    pub fn digest(&self) -> EnrolmentDigest {
        self.identity
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
        let header = self.header()?;
        let mut session = header.session_as_read()?;
        KeySlot::first(self.version.slot_count())
            .map(|slot| {
                let state = self.slot_state(&mut session, slot)?;
                let mut info = SlotInfo { slot, state, pbkdf: None };
                if info.is_active() {
                    info.pbkdf = header.pbkdf(slot);
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

    /// Reads the header again and makes sure that it is still the same container's; all further reading is from it.
    pub(crate) fn header(&self) -> Result<Header, LoadError> {
        let header = Header::read_as(&self.device, self.detached)?;
        let device = || self.device.clone();
        if let Some(HeaderRepair { copy, reason }) = header.damage() {
            return Err(LoadError::HeaderDamaged { device: device(), damaged: copy, reason });
        }
        if header.uuid() != self.uuid {
            return Err(LoadError::Exchanged { device: device(), expected: self.uuid, found: header.uuid() });
        }
        if header.enrolment().digest() != self.identity {
            return Err(LoadError::Inconstant { device: device() });
        }
        Ok(header)
    }
}

/// Lets libcryptsetup verify a random volume key, which must fail: a digest whose hash its crypto library can't compute
/// lets every key pass.
pub(crate) fn refuse_blind_digest(device: &Path, session: &mut Session) -> Result<(), LoadError> {
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

/// A handle on the header that is on a device; what it has read there may be another one than was judged, see
/// [`Header::session_to_change`].
pub(crate) fn session(device: &Path) -> Result<Session, LoadError> {
    if device.to_str().is_none() {
        return Err(LoadError::PathNotUtf8 { device: device.to_owned() });
    }
    let refused = |source| LoadError::Refused { device: device.to_owned(), source };
    let mut session = Session::init(device).map_err(refused)?;
    session.load().map_err(refused)?;
    Ok(session)
}

/// What the header says by itself.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) uuid: LuksUuid,
    version: LuksVersion,
    label: Option<String>,
    subsystem: Option<String>,
    cipher: String,
    integrity: Option<String>,
}

impl Known {
    /// Judges a header; of two copies one may be damaged.
    pub(crate) fn of(device: &Path, header: &DiskHeader, detached: bool) -> Result<Self, LoadError> {
        let owned = || device.to_owned();
        let ruined = |reason: &str| LoadError::HeaderRuined { device: owned(), reason: reason.to_owned() };
        let uuid = |text: &str| text.parse().map_err(|_| ruined("its UUID is unreadable"));
        let named = |text: &String| (!text.is_empty()).then(|| text.clone());
        if reencryption::is_under_way(header) {
            return Err(LoadError::Reencryption { device: owned() });
        }
        if let Some(reason) = cost::absurdity(header) {
            return Err(LoadError::TooCostly { device: owned(), reason });
        }
        match suspicion::about(header, detached) {
            None => {}
            Some(Objection::Suspicious(reason)) => {
                return Err(LoadError::Suspicious { device: owned(), reason });
            }
            Some(Objection::Requirements(required)) => {
                return Err(LoadError::Requirements { device: owned(), names: required });
            }
        }
        match header {
            DiskHeader::NotLuks => Err(LoadError::NotLuks { device: owned() }),
            DiskHeader::Luks1Reencryption => Err(LoadError::Reencryption { device: owned() }),
            DiskHeader::Ruined { reason } => Err(ruined(reason)),
            DiskHeader::Luks1(header) => Ok(Self {
                uuid: uuid(&header.uuid)?,
                version: LuksVersion::Luks1,
                label: None,
                subsystem: None,
                cipher: header.cipher.clone(),
                integrity: None,
            }),
            DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => {
                let text = |place: &str| copy.metadata.pointer(place).and_then(Value::as_str);
                Ok(Self {
                    uuid: uuid(&copy.uuid)?,
                    version: LuksVersion::Luks2,
                    cipher: text("/segments/0/encryption")
                        .ok_or_else(|| ruined("it names no cipher"))?
                        .to_owned(),
                    integrity: text("/segments/0/integrity/type").map(str::to_owned),
                    label: named(&copy.label),
                    subsystem: named(&copy.subsystem),
                })
            }
        }
    }
}
