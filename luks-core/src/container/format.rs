//! Making a container.

use std::io;
use std::path::{Path, PathBuf};

use libcryptsetup_rs::consts::flags::CryptVolumeKey;
use libcryptsetup_rs::consts::vals::{EncryptionFormat, KeyslotsSize, MetadataSize};
use libcryptsetup_rs::{
    CryptDevice, CryptParamsLuks1, CryptParamsLuks1Ref, CryptParamsLuks2, CryptParamsLuks2Ref, Either,
    LibcryptErr,
};

use super::load_error::LoadError;
use super::loaded::Container;
use crate::crypt::pbkdf::{self, SecretKind};
use crate::crypt::session::{CryptsetupError, Session};
use crate::header::disk_header::flush;
use crate::header::ends;
use crate::header::key_slot::KeySlot;
use crate::header::luks_uuid::LuksUuid;
use crate::header::target::Target;
use crate::header::version::LuksVersion;
use crate::secret::bytes::Secret;

const CIPHER: (&str, &str) = ("aes", "xts-plain64");
const VOLUME_KEY_BYTES: usize = 512 / 8;
/// Authenticates each sector; libcryptsetup's own default for ciphers that don't do it themselves.
const INTEGRITY: &str = "hmac(sha256)";
const INTEGRITY_KEY_BYTES: usize = 256 / 8;
/// LUKS2's default header: two copies and the area of the key slots (`LUKS2_DEFAULT_HDR_SIZE` of cryptsetup).
const LUKS2_HEADER_BYTES: u64 = 16 << 20;
/// LUKS1's header with a 512-bit key: eight slots of 4000 stripes, aligned to 1 MiB.
const LUKS1_HEADER_BYTES: u64 = 2 << 20;
const LUKS2_COPIES_BYTES: u64 = 2 * 0x4000;
const ALIGNMENT: u64 = 1 << 20;
const KEYSLOTS_AREA_UNIT: u64 = 4096;
const KEYSLOTS_AREA_MAX: u64 = 128 << 20;
/// `LUKS2_LABEL_L` less the final NUL.
const LABEL_MAX: usize = 47;
const BIG_SECTOR: u32 = 4096;

/// How a container is made; the cipher is always aes-xts-plain64 with 512 bits.
#[derive(Debug, Clone)]
pub struct FormatOptions {
    /// The version; LUKS2 unless said otherwise.
    pub version: LuksVersion,
    /// LUKS2: a label of at most 47 bytes.
    pub label: Option<String>,
    /// LUKS2: a subsystem of at most 47 bytes.
    pub subsystem: Option<String>,
    /// LUKS2: bytes in an encrypted sector (512, 1024, 2048, 4096); `None` chooses 4096 when the device's size and
    /// logical block size allow it, else 512.
    pub sector_size: Option<u32>,
    /// LUKS2: authenticates each sector (dm-integrity, HMAC-SHA-256), so that damage and tampering are read errors in
    /// place of wrong data. Takes a tenth of the room and halves the speed of writing. Formatting needs root and
    /// dm-integrity, and [`Container::write_tags`] must follow.
    pub authenticated: bool,
    /// The UUID; `None` makes a random one.
    pub uuid: Option<LuksUuid>,
    /// LUKS2: bytes for the key slots, a multiple of 4096 up to 128 MiB; `None` makes the usual header of 16 MiB.
    /// A slot needs 252 KiB.
    pub keyslots_area_bytes: Option<u64>,
    /// Where `sys` and `dev` are looked up; `/` outside tests.
    pub root: PathBuf,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self {
            version: LuksVersion::Luks2,
            label: None,
            subsystem: None,
            sector_size: None,
            authenticated: false,
            uuid: None,
            keyslots_area_bytes: None,
            root: PathBuf::from("/"),
        }
    }
}

impl FormatOptions {
    /// Bytes that the header will take, when the device asks for no other alignment.
    fn header_bytes(&self) -> u64 {
        match (self.version, self.keyslots_area_bytes) {
            (LuksVersion::Luks1, _) => LUKS1_HEADER_BYTES,
            (LuksVersion::Luks2, None) => LUKS2_HEADER_BYTES,
            (LuksVersion::Luks2, Some(area)) => {
                (LUKS2_COPIES_BYTES + area.min(KEYSLOTS_AREA_MAX)).next_multiple_of(ALIGNMENT)
            }
        }
    }

    fn check(&self) -> Result<(), FormatError> {
        let option = |option, reason| Err(FormatError::Option { option, reason });
        if self.version == LuksVersion::Luks1 {
            let luks2_only = [
                ("label", self.label.is_some()),
                ("subsystem", self.subsystem.is_some()),
                ("sector size", self.sector_size.is_some_and(|size| size != 512)),
                ("key slots area", self.keyslots_area_bytes.is_some()),
                ("authenticated encryption", self.authenticated),
            ];
            if let Some((name, _)) = luks2_only.into_iter().find(|(_, given)| *given) {
                return option(name, "LUKS1 has none; leave it out or choose LUKS2");
            }
        }
        for (name, text) in [("label", &self.label), ("subsystem", &self.subsystem)] {
            if text.as_ref().is_some_and(|text| text.len() > LABEL_MAX || text.contains('\0')) {
                return option(name, "it must be at most 47 bytes without NUL");
            }
        }
        if self.sector_size.is_some_and(|size| !matches!(size, 512 | 1024 | 2048 | 4096)) {
            return option("sector size", "it must be 512, 1024, 2048 or 4096");
        }
        let area_fits =
            |area: u64| area > 0 && area <= KEYSLOTS_AREA_MAX && area.is_multiple_of(KEYSLOTS_AREA_UNIT);
        if self.keyslots_area_bytes.is_some_and(|area| !area_fits(area)) {
            return option("key slots area", "it must be a multiple of 4096 bytes, at most 128 MiB");
        }
        Ok(())
    }

    fn choose_sector_size(&self, target: &Target) -> Result<u32, FormatError> {
        let fits = |size: u32| target.size.is_multiple_of(size.into()) && target.logical_block <= size;
        match self.sector_size {
            Some(size) if fits(size) => Ok(size),
            Some(_) => Err(FormatError::Option {
                option: "sector size",
                reason: "the device's size is no multiple of it, or its own blocks are larger",
            }),
            None if self.version == LuksVersion::Luks2 && fits(BIG_SECTOR) => Ok(BIG_SECTOR),
            None => Ok(512),
        }
    }
}

/// Why a container was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// An option makes no sense.
    #[error("the {option} is not possible: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// The slot doesn't exist in this version.
    #[error("{version} has no slot {slot}; choose one below {}", version.slot_count())]
    NoSuchSlot {
        /// The version.
        version: LuksVersion,
        /// The asked slot.
        slot: KeySlot,
    },
    /// It can't be opened or examined.
    #[error("cannot examine {}: {source}", device.display())]
    Examine {
        /// The path.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The path can't be passed to libcryptsetup.
    #[error("the path {} is not valid UTF-8, which libcryptsetup needs; use another name", device.display())]
    PathNotUtf8 {
        /// The path.
        device: PathBuf,
    },
    /// Somebody uses it.
    #[error("{} is in use: {reason}; unmount and close it first", device.display())]
    InUse {
        /// The path.
        device: PathBuf,
        /// By whom.
        reason: String,
    },
    /// It is too small.
    #[error("{} has {size} bytes, the container needs at least {needed}", device.display())]
    TooSmall {
        /// The path.
        device: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The least possible size in bytes.
        needed: u64,
    },
    /// What was on the device before can't be overwritten.
    #[error("cannot overwrite what was on {} before: {source}", device.display())]
    Clear {
        /// The path.
        device: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// libcryptsetup failed; what was on the device may be gone.
    #[error("cannot format {}: {source}", device.display())]
    Failed {
        /// The path.
        device: PathBuf,
        /// What it said.
        #[source]
        source: CryptsetupError,
    },
    /// The new container could not be read back.
    #[error("{} was formatted but cannot be read back", device.display())]
    ReadBack {
        /// The path.
        device: PathBuf,
        /// The reason.
        #[source]
        source: LoadError,
    },
    /// The new container is there but its key was not confirmed.
    #[error("{} was formatted but its key was not confirmed: {reason}; format it again", device.display())]
    NotConfirmed {
        /// The path.
        device: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl Container {
    /// Makes a container on a block device or in a file whose only key is `key` in `slot`; what was there is lost.
    ///
    /// Both ends of the device are overwritten, so that no signature of an earlier use (a RAID, a volume group, a partition
    /// table) is left beside the container. No other key ever touches the disk: the container is made without one, and
    /// `key` is added by the volume key. The key was tested against the header on the disk when this returns.
    ///
    /// # Errors
    /// [`FormatError::InUse`] when the device is mounted or mapped, [`FormatError::TooSmall`] and
    /// [`FormatError::Option`] before anything is written.
    pub fn format(
        device: &Path,
        options: &FormatOptions,
        key: &Secret,
        kind: SecretKind,
        slot: KeySlot,
    ) -> Result<Self, FormatError> {
        let owned = || device.to_owned();
        options.check()?;
        if !options.version.has_slot(slot) {
            return Err(FormatError::NoSuchSlot { version: options.version, slot });
        }
        if device.to_str().is_none() {
            return Err(FormatError::PathNotUtf8 { device: owned() });
        }
        let target = Target::examine(&options.root, device)
            .map_err(|source| FormatError::Examine { device: owned(), source })?;
        if let Some(reason) = target.used_by {
            return Err(FormatError::InUse { device: owned(), reason });
        }
        // libcryptsetup would grow a small file and only log that it is too small.
        let needed = options.header_bytes() + u64::from(BIG_SECTOR);
        if target.size < needed {
            return Err(FormatError::TooSmall { device: owned(), size: target.size, needed });
        }
        let sector_size = options.choose_sector_size(&target)?;
        ends::overwrite(device, target.size)
            .map_err(|source| FormatError::Clear { device: owned(), source })?;
        write(device, options, sector_size, key, kind, slot)
            .map_err(|source| FormatError::Failed { device: owned(), source })?;
        let not_confirmed = |reason| FormatError::NotConfirmed { device: owned(), reason };
        flush(device).map_err(|error| not_confirmed(format!("flushing failed: {error}")))?;
        let container =
            Self::load(device).map_err(|source| FormatError::ReadBack { device: owned(), source })?;
        let needed = container.data_offset_bytes().saturating_add(u64::from(BIG_SECTOR));
        if target.size < needed {
            return Err(FormatError::TooSmall { device: owned(), size: target.size, needed });
        }
        match container.test_key_in(key, slot) {
            Ok(true) => Ok(container),
            Ok(false) => Err(not_confirmed(format!("the key doesn't open slot {slot}"))),
            Err(error) => Err(not_confirmed(error.to_string())),
        }
    }
}

fn write(
    device: &Path,
    options: &FormatOptions,
    sector_size: u32,
    key: &Secret,
    kind: SecretKind,
    slot: KeySlot,
) -> Result<(), CryptsetupError> {
    let mut session = Session::init(device)?;
    session.call(|device| {
        // Set before formatting, else libcryptsetup measures for seconds; the volume key is random in any case.
        device.settings_handle().set_pbkdf_type(&pbkdf::minimal())?;
        write_header(device, options, sector_size)
    })?;
    session.call(|device| {
        pbkdf::choose(device, kind, options.version)?;
        device.keyslot_handle().add_by_key(
            Some(slot.get().into()),
            None,
            key.expose(),
            CryptVolumeKey::empty(),
        )
    })?;
    Ok(())
}

fn write_header(
    device: &mut CryptDevice,
    options: &FormatOptions,
    sector_size: u32,
) -> Result<(), LibcryptErr> {
    let uuid = options.uuid.map(LuksUuid::as_uuid);
    let integrity_key = if options.authenticated { INTEGRITY_KEY_BYTES } else { 0 };
    let volume_key = Either::Right(VOLUME_KEY_BYTES + integrity_key);
    match options.version {
        LuksVersion::Luks1 => {
            let params = CryptParamsLuks1 { hash: "sha256".to_owned(), data_alignment: 0, data_device: None };
            let mut params: CryptParamsLuks1Ref<'_> = (&params).try_into()?;
            let format = EncryptionFormat::Luks1;
            device.context_handle().format(format, CIPHER, uuid, volume_key, Some(&mut params))
        }
        LuksVersion::Luks2 => {
            if let Some(area) = options.keyslots_area_bytes {
                let area = KeyslotsSize::try_from(area)?;
                device.settings_handle().set_metadata_size(MetadataSize::Kb16, area)?;
            }
            let params = CryptParamsLuks2 {
                pbkdf: None,
                integrity: options.authenticated.then(|| INTEGRITY.to_owned()),
                integrity_params: None,
                data_alignment: 0,
                data_device: None,
                sector_size,
                label: options.label.clone(),
                subsystem: options.subsystem.clone(),
            };
            let mut params: CryptParamsLuks2Ref<'_> = (&params).try_into()?;
            let format = EncryptionFormat::Luks2;
            device.context_handle().format(format, CIPHER, uuid, volume_key, Some(&mut params))
        }
    }
}
