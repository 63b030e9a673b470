//! Trying keys on the slots of a header that was read once, within one budget of time.

use std::io;
use std::sync::atomic::Ordering;

use libcryptsetup_rs::consts::flags::CryptActivate;

use super::cost;
use super::header_file::HeaderFile;
use super::judged::{Header, HeaderSession, luks2_material, luks2_slots};
use super::load_error::LoadError;
use super::slots::TestKeyError;
use crate::crypt::session::{CryptsetupError, Session};
use crate::header::disk_header::SoundHeader;
use crate::header::key_slot::KeySlot;
use crate::secret::bytes::Secret;

/// A key that opens a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenedBy {
    /// Which of the keys given, from 0.
    pub key: usize,
    /// The slot that it opens.
    pub slot: KeySlot,
}

/// How trying keys ended.
pub(crate) enum Tried<T> {
    Opened(OpenedBy, T),
    /// No key opens any slot.
    Wrong,
    /// No key opens the slots that were tried, and these were too costly.
    TooCostly(Vec<KeySlot>),
}

impl Header {
    /// Finds a slot that one of the keys opens, without opening the container.
    ///
    /// # Errors
    /// [`TestKeyError::WrongKey`] when there is none, [`LoadError::TooCostly`] when there may be one in a slot that costs
    /// too much.
    pub fn test_keys(&self, keys: &[&Secret]) -> Result<OpenedBy, TestKeyError> {
        let session = &mut self.session(None)?;
        let tried = self.try_keys(session, &self.slots(), keys, test_in);
        self.tested(tried).map(|(opened, ())| opened)
    }

    /// Whether a key opens one particular slot.
    pub(crate) fn test_key_in(&self, key: &Secret, slot: KeySlot) -> Result<bool, TestKeyError> {
        if !self.slots().contains(&slot) {
            return Ok(false);
        }
        match self.test_in(&[slot], key) {
            Ok(_slot) => Ok(true),
            Err(TestKeyError::WrongKey { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first of some slots that a key opens.
    pub(crate) fn test_in(&self, slots: &[KeySlot], key: &Secret) -> Result<KeySlot, TestKeyError> {
        let session = &mut self.session(None)?;
        self.tested(self.try_keys(session, slots, &[key], test_in)).map(|(opened, ())| opened.slot)
    }

    /// The volume key, and the slot by which a key gives it.
    pub(crate) fn volume_key(&self, key: &Secret) -> Result<(KeySlot, Secret), TestKeyError> {
        let session = &mut self.session(None)?;
        let tried = self.try_keys(session, &self.slots(), &[key], |session, slot, key| {
            let len = session.device().status_handle().get_volume_key_size();
            let len = usize::try_from(len).unwrap_or_default();
            Secret::fill(len, |bytes| {
                let number = Some(slot.get().into());
                session
                    .call(|device| device.volume_key_handle().get(number, bytes, Some(key.expose())))
                    .map(drop)
            })
        });
        self.tested(tried).map(|(opened, volume_key)| (opened.slot, volume_key))
    }

    /// Whether the volume key that `key` opens here is the one that another header's digest proves: the data of both can
    /// be read by the same key, whatever else differs.
    ///
    /// # Errors
    /// As [`Header::test_keys`], for this header; when the other header can't be used.
    pub fn has_volume_key_of(&self, other: &Self, key: &Secret) -> Result<bool, TestKeyError> {
        let (_slot, volume_key) = self.volume_key(key)?;
        let session = &mut other.session(None)?;
        let verified = session.session.call(|device| device.volume_key_handle().verify(volume_key.expose()));
        match verified {
            Ok(()) => Ok(true),
            Err(error) if error.is(libc::EPERM) || error.is(libc::EINVAL) => Ok(false),
            Err(source) => Err(TestKeyError::Failed { device: other.device.clone(), source }),
        }
    }

    fn tested<T>(&self, tried: Result<Tried<T>, CryptsetupError>) -> Result<(OpenedBy, T), TestKeyError> {
        let device = || self.device.clone();
        match tried {
            Ok(Tried::Opened(opened, value)) => Ok((opened, value)),
            Ok(Tried::Wrong) => Err(TestKeyError::WrongKey { device: device() }),
            Ok(Tried::TooCostly(slots)) => Err(self.too_costly(&slots).into()),
            Err(source) => Err(TestKeyError::Failed { device: device(), source }),
        }
    }

    pub(crate) fn too_costly(&self, slots: &[KeySlot]) -> LoadError {
        let slots = slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let reason =
            format!("no other slot takes the key, and slots {slots} ask for more than one opening may cost");
        LoadError::TooCostly { device: self.device.clone(), reason }
    }

    /// The slots of the data, in the order in which keys are tried on them: those that are as they were enrolled, and the
    /// cheap ones, first.
    pub(crate) fn slots(&self) -> Vec<KeySlot> {
        let mut slots: Vec<KeySlot> = match &self.sound {
            SoundHeader::Luks1(header) => {
                KeySlot::first(8).filter(|slot| header.active_iterations(*slot).is_some()).collect()
            }
            SoundHeader::Luks2(copy) => luks2_slots(&copy.metadata),
        };
        slots.sort_by_key(|slot| (!self.is_known(*slot), cost::of_try(&self.sound, *slot), *slot));
        slots
    }

    fn is_known(&self, slot: KeySlot) -> bool {
        self.known.as_ref().is_some_and(|known| known.has_slot_of(&self.enrolment, slot))
    }

    /// Tries keys on slots, each of them within what is left of the budget, until `open` succeeds for one.
    ///
    /// A slot that can't be used for another reason than the key hides no good one.
    pub(crate) fn try_keys<T>(
        &self,
        session: &mut HeaderSession,
        slots: &[KeySlot],
        keys: &[&Secret],
        mut open: impl FnMut(&mut Session, KeySlot, &Secret) -> Result<T, CryptsetupError>,
    ) -> Result<Tried<T>, CryptsetupError> {
        let HeaderSession { session, file } = session;
        self.try_slots(file, slots, keys, |slot, key| open(session, slot, key))
    }

    fn try_slots<T>(
        &self,
        file: &HeaderFile,
        slots: &[KeySlot],
        keys: &[&Secret],
        mut open: impl FnMut(KeySlot, &Secret) -> Result<T, CryptsetupError>,
    ) -> Result<Tried<T>, CryptsetupError> {
        let mut failed = None;
        let mut skipped = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            for slot in slots {
                if !self.spend(*slot) {
                    skipped.push(*slot);
                    continue;
                }
                if let Err(source) = self.copy_material(file, *slot) {
                    failed = failed.or(Some(CryptsetupError::io(&source)));
                    continue;
                }
                match open(*slot, key) {
                    Ok(value) => return Ok(Tried::Opened(OpenedBy { key: number, slot: *slot }, value)),
                    Err(error) if error.is(libc::EPERM) || error.is(libc::ENOENT) => {}
                    // The mapping failed, not the key.
                    Err(error)
                        if [libc::EBUSY, libc::EEXIST, libc::EOPNOTSUPP]
                            .iter()
                            .any(|errno| error.is(*errno)) =>
                    {
                        return Err(error);
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        skipped.sort();
        skipped.dedup();
        match failed {
            _ if !skipped.is_empty() => Ok(Tried::TooCostly(skipped)),
            Some(error) => Err(error),
            None => Ok(Tried::Wrong),
        }
    }

    /// Takes the cost of one try from the budget. A slot that was enrolled is as costly as it was then, and is always tried,
    /// unless this machine hasn't the memory.
    fn spend(&self, slot: KeySlot) -> bool {
        let cost = cost::of_try(&self.sound, slot);
        let spent = self.spent.load(Ordering::Relaxed).saturating_add(cost);
        let granted = spent <= cost::BUDGET || (self.is_known(slot) && cost != u64::MAX);
        if granted {
            self.spent.store(spent, Ordering::Relaxed);
        }
        granted
    }

    fn copy_material(&self, to: &HeaderFile, slot: KeySlot) -> io::Result<()> {
        let place = match &self.sound {
            SoundHeader::Luks1(header) => header.material(slot),
            SoundHeader::Luks2(copy) => luks2_material(copy, slot),
        };
        let (start, len) = place.ok_or_else(|| io::Error::other("the slot has no place"))?;
        to.copy(&self.file, start, len)
    }
}

fn test_in(session: &mut Session, slot: KeySlot, key: &Secret) -> Result<(), CryptsetupError> {
    let number = Some(slot.get().into());
    session
        .call(|device| {
            device.activate_handle().activate_by_passphrase(
                None,
                number,
                key.expose(),
                CryptActivate::empty(),
            )
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use serde_json::json;

    use super::*;
    use crate::container::format::FormatOptions;
    use crate::container::loaded::Container;
    use crate::crypt::pbkdf::SecretKind;
    use crate::header::disk_header;
    use crate::header::luks2_copy;

    /// A drive with the same slot so many times, each of them as costly as a forger likes.
    fn drive_of_costly_slots(count: usize, iterations: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        let options = FormatOptions { keyslots_area_bytes: Some(1 << 20), ..FormatOptions::default() };
        let key = Secret::from_bytes(vec![1; 64]);
        Container::format(file.path(), &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
        let (header, _) = disk_header::read_from(file.as_file()).unwrap();
        let (SoundHeader::Luks2(copy), _) = header.into_sound().unwrap() else { panic!("no LUKS2") };
        let mut metadata = copy.metadata;
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let mut slot = metadata["keyslots"]["1"].clone();
        slot["kdf"]["iterations"] = json!(iterations);
        metadata["keyslots"] = numbers.iter().map(|number| (number.clone(), slot.clone())).collect();
        metadata["digests"]["0"]["keyslots"] = json!(numbers);
        let bytes = luks2_copy::encode(copy.size, &copy.uuid, metadata.to_string().as_bytes()).unwrap();
        file.as_file().write_all_at(&bytes, 0).unwrap();
        file
    }

    /// Tries keys on all slots without trying; returns how often, and how it ended.
    fn tries(header: &Header, keys: &[&Secret]) -> (usize, Tried<()>) {
        let mut count = 0;
        let key_slots = header.slots();
        let copied = HeaderFile::new(&[], header.end()).unwrap();
        let tried = header.try_slots(&copied, &key_slots, keys, |_slot, _key| {
            count += 1;
            Err(CryptsetupError::io(&io::Error::from_raw_os_error(libc::EPERM)))
        });
        (count, tried.unwrap())
    }

    #[test]
    fn all_slots_and_keys_share_one_budget() {
        let key = Secret::from_bytes(vec![2; 64]);
        let file = drive_of_costly_slots(31, 20_000_000);
        let header = Header::read(file.path()).unwrap();
        let (count, tried) = tries(&header, &[&key, &key, &key]);
        // 64 bytes of SHA-256 take two runs of all iterations.
        assert_eq!(count, 2);
        let Tried::TooCostly(skipped) = tried else { panic!("not too costly") };
        assert_eq!(skipped.len(), 31);
        assert_eq!(tries(&header, &[&key]).0, 0, "the budget is renewed");
        // As they were enrolled, they are tried: their cost was accepted then.
        let known = header.enrolment().read(file.path()).unwrap();
        assert_eq!(tries(&known, &[&key]).0, 31);
        let cheap = drive_of_costly_slots(31, 1000);
        let (count, tried) = tries(&Header::read(cheap.path()).unwrap(), &[&key, &key]);
        assert!(matches!(tried, Tried::Wrong) && count == 62, "{count}");
    }

    #[test]
    fn enrolled_and_cheap_slots_come_first() {
        let file = drive_of_costly_slots(3, 50_000);
        let enrolled = Header::read(file.path()).unwrap();
        let SoundHeader::Luks2(copy) = &enrolled.sound else { panic!("no LUKS2") };
        let mut metadata = copy.metadata.clone();
        metadata["keyslots"]["0"]["kdf"]["iterations"] = json!(2000);
        metadata["keyslots"]["1"]["kdf"]["iterations"] = json!(1000);
        let bytes = luks2_copy::encode(copy.size, &copy.uuid, metadata.to_string().as_bytes()).unwrap();
        file.as_file().write_all_at(&bytes, 0).unwrap();
        let numbers = |header: &Header| header.slots().iter().map(|slot| slot.get()).collect::<Vec<_>>();
        assert_eq!(numbers(&Header::read(file.path()).unwrap()), [1, 0, 2]);
        assert_eq!(numbers(&enrolled.enrolment().read(file.path()).unwrap()), [2, 1, 0]);
    }
}
