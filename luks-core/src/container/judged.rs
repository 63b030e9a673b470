//! A header that was read once: what was judged is what opens the container.
//!
//! A drive that was in somebody's hands may answer each read otherwise. So the header's bytes are read once, judged, and
//! built anew in memory, with nothing in them but what was judged: that is what libcryptsetup gets, beside the device
//! with the data. Key material is read once as well, when a key is tried; the volume key's digest judges it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use libcryptsetup_rs::consts::vals::EncryptionFormat;
use serde_json::{Map, Value, json};

use super::damage::HeaderRepair;
use super::enrolment::{Enrolment, EnrolmentDigest, EnrolmentError, volume_key_digest};
use super::handle::{self, refuse_blind_digest};
use super::header_file::HeaderFile;
use super::known::Known;
use super::load_error::{LoadError, load_error};
use crate::crypt::session::Session;
use crate::header::disk_header::{self, SoundHeader};
use crate::header::key_slot::KeySlot;
use crate::header::luks_uuid::LuksUuid;
use crate::header::luks1_header::Luks1Header;
use crate::header::luks2_copy::{self, Copy};
use crate::header::slot_info::{self, SlotPbkdf};
use crate::header::suspicion;

/// The header of a container, read once from its device and judged; the device stays open for its key material.
///
/// All keys that are tried on one `Header` share one budget of time, so that a header with many costly slots can't hold
/// its reader up for long.
#[derive(Debug)]
pub struct Header {
    pub(crate) device: PathBuf,
    pub(crate) file: File,
    pub(crate) sound: SoundHeader,
    damage: Option<HeaderRepair>,
    bytes: Vec<u8>,
    pub(crate) fields: Known,
    pub(crate) enrolment: Enrolment,
    /// What was enrolled before, whose slots are tried first.
    pub(crate) known: Option<Enrolment>,
    pub(crate) detached: bool,
    pub(crate) spent: AtomicU64,
}

impl Enrolment {
    /// Reads the header that is on a device now, and makes sure that it is this one but for its key slots.
    ///
    /// # Errors
    /// [`EnrolmentError::Changed`] names everything that differs.
    pub fn read(&self, device: &Path) -> Result<Header, EnrolmentError> {
        let mut header = Header::read(device)?;
        let differences = self.differences(&header.enrolment);
        if !differences.is_empty() {
            return Err(EnrolmentError::Changed { device: device.to_owned(), differences });
        }
        header.known = Some(self.clone());
        Ok(header)
    }
}

impl EnrolmentDigest {
    /// As [`Enrolment::read`], where nothing but the digest is known.
    ///
    /// # Errors
    /// [`EnrolmentError::OtherDigest`] when the header has another one.
    pub fn read(self, device: &Path) -> Result<Header, EnrolmentError> {
        let header = Header::read(device)?;
        match header.enrolment.digest() {
            found if found == self => Ok(header),
            found => Err(EnrolmentError::OtherDigest { device: device.to_owned(), expected: self, found }),
        }
    }
}

impl Header {
    /// Reads and judges the header on a block device or in a file; never writes.
    ///
    /// One damaged copy of two is accepted, see [`Header::damage`]. Whether it is the header that was enrolled is another
    /// question: [`Enrolment::read`].
    ///
    /// # Errors
    /// As [`crate::Container::load`] but for [`LoadError::HeaderDamaged`].
    pub fn read(device: &Path) -> Result<Self, LoadError> {
        Self::read_as(device, false)
    }

    pub(crate) fn read_as(device: &Path, detached: bool) -> Result<Self, LoadError> {
        let file = disk_header::open(device).map_err(|source| load_error(device, source))?;
        Self::from_file(device, file, detached)
    }

    pub(crate) fn from_file(device: &Path, file: File, detached: bool) -> Result<Self, LoadError> {
        let (header, bytes) = disk_header::read_from(&file).map_err(|source| load_error(device, source))?;
        let known = Known::of(device, &header, detached)?;
        let (sound, damage) =
            header.into_sound().ok_or_else(|| LoadError::NotLuks { device: device.to_owned() })?;
        Ok(Self {
            device: device.to_owned(),
            file,
            enrolment: Enrolment::of(&sound, known.uuid),
            known: None,
            damage: damage.map(|(copy, reason)| HeaderRepair { copy, reason }),
            fields: known,
            sound,
            bytes,
            detached,
            spent: AtomicU64::new(0),
        })
    }

    /// What identifies the container by this header.
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// The device or file that it was read from.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The UUID of the container.
    pub fn uuid(&self) -> LuksUuid {
        self.enrolment.uuid()
    }

    /// What is wrong with one of LUKS2's two copies; [`crate::Container::load_repairing`] mends it.
    pub fn damage(&self) -> Option<HeaderRepair> {
        self.damage.clone()
    }

    /// A handle of libcryptsetup on the header built anew, with the data on another device where `data` names one.
    pub(crate) fn session(&self, data: Option<&Path>) -> Result<HeaderSession, LoadError> {
        let unusable = |source| LoadError::Read { device: self.device.clone(), source };
        let bytes = self.rebuilt().ok_or_else(|| unusable(io::Error::other("it can't be built anew")))?;
        let file = HeaderFile::new(&bytes, self.end()).map_err(unusable)?;
        let refused = |source| LoadError::Refused { device: self.device.clone(), source };
        let opened = match data {
            Some(data) => Session::init_detached(file.path(), data),
            None => Session::init(file.path()),
        };
        let mut session = opened.map_err(refused)?;
        session.load().map_err(refused)?;
        if suspicion::has_uncommon_digest(&self.sound) {
            refuse_blind_digest(&self.device, &mut session)?;
        }
        Ok(HeaderSession { session, file })
    }

    /// The header as libcryptsetup gets it: of LUKS2 only the slots of the data, the digest and the segment.
    pub(crate) fn rebuilt(&self) -> Option<Vec<u8>> {
        match &self.sound {
            SoundHeader::Luks1(_) => self.bytes.get(..crate::header::luks1_header::LEN).map(<[u8]>::to_vec),
            SoundHeader::Luks2(copy) => rebuilt_luks2(copy),
        }
    }

    /// The header with all its key material, in memory; the bytes that were judged, and key material read now.
    pub(crate) fn copied(&self) -> io::Result<HeaderFile> {
        let file = HeaderFile::new(&self.bytes, self.end())?;
        let from = self.bytes.len() as u64;
        file.copy(&self.file, from, self.end().saturating_sub(from))?;
        Ok(file)
    }

    /// A handle of libcryptsetup on the very bytes that were read, without key material: it judges them as well.
    pub(crate) fn session_as_read(&self) -> Result<Session, LoadError> {
        let device = || self.device.clone();
        let file = HeaderFile::new(&self.bytes, self.end())
            .map_err(|source| LoadError::Read { device: device(), source })?;
        let refused = |source| LoadError::Refused { device: device(), source };
        let mut session = Session::init(file.path()).map_err(refused)?;
        session.load().map_err(refused)?;
        if suspicion::has_uncommon_digest(&self.sound) {
            refuse_blind_digest(&self.device, &mut session)?;
        }
        Ok(session)
    }

    /// A handle by which the header on the device is changed: what libcryptsetup has read there, and writes back with the
    /// change, is found to be what was judged. It reads no more of the header before it writes.
    ///
    /// A drive that shows it another header would get key material encrypted as that one says, which may be not at all. Of
    /// LUKS1 it tells no digest: that is compared with the volume key before a slot is written.
    pub(crate) fn session_to_change(&self) -> Result<Session, LoadError> {
        let mut session = handle::session(&self.device)?;
        let seen = match &self.sound {
            SoundHeader::Luks1(header) => luks1_seen(&mut session, header),
            SoundHeader::Luks2(copy) => luks2_seen(&mut session, copy),
        };
        let uuid = session.device().status_handle().get_uuid().ok();
        match seen {
            Some(true) if uuid == Some(self.uuid().as_uuid()) => Ok(session),
            _ => Err(LoadError::Inconstant { device: self.device.clone() }),
        }
    }

    pub(crate) fn pbkdf(&self, slot: KeySlot) -> Option<SlotPbkdf> {
        slot_info::pbkdf(&self.sound, slot)
    }

    /// Whether another header says the same, key slots and labels included; key material isn't compared.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.sound == other.sound && self.damage == other.damage
    }

    /// Where the key material ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        match &self.sound {
            SoundHeader::Luks1(header) => header.end(),
            SoundHeader::Luks2(copy) => suspicion::header_end(copy),
        }
    }

    /// Bytes of the volume key, as a slot has it.
    pub(crate) fn key_bytes(&self, slot: KeySlot) -> u64 {
        match &self.sound {
            SoundHeader::Luks1(header) => header.key_bytes.into(),
            SoundHeader::Luks2(copy) => {
                let size = copy.metadata.pointer(&format!("/keyslots/{slot}/key_size"));
                size.and_then(Value::as_u64).unwrap_or_default()
            }
        }
    }
}

/// A handle of libcryptsetup and the header in memory that it reads.
pub(crate) struct HeaderSession {
    pub(crate) session: Session,
    pub(crate) file: HeaderFile,
}

/// Whether libcryptsetup has the same LUKS1 header, as far as it tells; `None` where it tells nothing.
fn luks1_seen(session: &mut Session, header: &Luks1Header) -> Option<bool> {
    let device = session.device();
    if device.format_handle().get_type().ok()? != EncryptionFormat::Luks1 {
        return None;
    }
    let mut status = device.status_handle();
    let cipher = format!("{}-{}", status.get_cipher().ok()?, status.get_cipher_mode().ok()?);
    let alike = cipher == header.cipher
        && status.get_data_offset() == u64::from(header.data_offset_sectors)
        && i64::from(status.get_volume_key_size()) == i64::from(header.key_bytes);
    let slots = KeySlot::first(8).all(|slot| {
        let seen = device.keyslot_handle().get_pbkdf(slot.get().into()).ok();
        let seen = seen.map(|pbkdf| (pbkdf.iterations, pbkdf.hash.unwrap_or_default()));
        seen == header.active_iterations(slot).map(|iterations| (iterations, header.hash.clone()))
    });
    Some(alike && slots)
}

/// Whether libcryptsetup has the same LUKS2 metadata.
fn luks2_seen(session: &mut Session, copy: &Copy) -> Option<bool> {
    let device = session.device();
    if device.format_handle().get_type().ok()? != EncryptionFormat::Luks2 {
        return None;
    }
    Some(device.status_handle().dump_json().ok()? == copy.metadata)
}

/// The slots that hold the volume key.
pub(crate) fn luks2_slots(metadata: &Value) -> Vec<KeySlot> {
    let listed = volume_key_digest(metadata).and_then(|(_, digest)| digest.get("keyslots")?.as_array());
    let numbers = listed.into_iter().flatten().filter_map(|number| number.as_str()?.parse().ok());
    let mut slots: Vec<KeySlot> =
        numbers.filter(|slot| metadata.pointer(&format!("/keyslots/{slot}")).is_some()).collect();
    slots.sort();
    slots.dedup();
    slots
}

pub(crate) fn luks2_material(copy: &Copy, slot: KeySlot) -> Option<(u64, u64)> {
    let slot = copy.metadata.pointer(&format!("/keyslots/{slot}"))?;
    let start = slot.pointer("/area/offset")?.as_str()?.parse().ok()?;
    Some((start, suspicion::af_len(slot.get("key_size")?.as_u64()?)))
}

fn rebuilt_luks2(copy: &Copy) -> Option<Vec<u8>> {
    let metadata = &copy.metadata;
    let slots = luks2_slots(metadata);
    let described: Map<String, Value> = slots
        .iter()
        .filter_map(|slot| Some((slot.to_string(), metadata.pointer(&format!("/keyslots/{slot}"))?.clone())))
        .collect();
    let (number, digest) = volume_key_digest(metadata)?;
    let mut digest = digest.clone();
    let names: Vec<String> = slots.iter().map(ToString::to_string).collect();
    digest.as_object_mut()?.insert("keyslots".to_owned(), json!(names));
    let config = metadata.get("config")?;
    let mut kept = Map::new();
    for name in ["json_size", "keyslots_size", "flags"] {
        if let Some(value) = config.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    let rebuilt = json!({
        "keyslots": described,
        "tokens": {},
        "segments": {"0": metadata.pointer("/segments/0")?},
        "digests": {number: digest},
        "config": kept,
    });
    luks2_copy::encode(copy.size, &copy.uuid, &serde_json::to_vec(&rebuilt).ok()?)
}
