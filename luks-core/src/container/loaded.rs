//! A LUKS container: what it is, and which slots it has.

use std::path::{Path, PathBuf};

use super::damage::HeaderRepair;
use super::enrolment::EnrolmentDigest;
use super::judged::Header;
use super::load_error::{LoadError, read_header};
use crate::crypt::session::Session;
use crate::header::disk_header::{DiskHeader, OFFSET_UNIT};
use crate::header::key_slot::KeySlot;
use crate::header::luks_uuid::LuksUuid;
use crate::header::slot_info::{self, SlotInfo};
use crate::header::version::LuksVersion;

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
    pub(crate) label: Option<String>,
    pub(crate) subsystem: Option<String>,
    pub(crate) cipher: String,
    integrity: Option<String>,
    sector_size: u32,
    data_offset_bytes: u64,
    /// Whether the header lies in a place of its own, so that the data may begin at the start of theirs.
    pub(crate) detached: bool,
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
