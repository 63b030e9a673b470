//! What lies where on a drive whose header is to be restored, and what speaks against it.

use std::path::PathBuf;

use luks_core::{ListedPartition, Location, LuksUuid};
use media_wipe::Identity;
use mount_by_uuid::System;

use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::shell;
use crate::drives::unseen;
use crate::records::header_place::{self, Place};
use crate::site::description::{Magazine, Site};

/// What is in the way, and what to do about it.
pub(super) type Objection = (String, String);

/// A place where the header may belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) start_bytes: u64,
}

/// A partition that the kernel shows.
#[derive(Debug, Clone)]
struct Partition {
    path: PathBuf,
    start_bytes: u64,
    /// The filesystem on it.
    holds: Option<String>,
}

/// A drive, seen from the container whose header it has lost.
#[derive(Debug)]
pub(super) struct Survey {
    device: PathBuf,
    drive_bytes: u64,
    logical_sector: u32,
    luks: LuksUuid,
    recorded: Option<Place>,
    partitions: Vec<Partition>,
    listed: Vec<ListedPartition>,
    containers: Vec<Location>,
}

impl Survey {
    /// Looks at the drive; nothing is written.
    pub(super) fn make(root: &Root, identity: &Identity, luks: LuksUuid) -> Result<Self, Failure> {
        let device = &identity.device;
        let failed = || format!("cannot see the partitions of {}", device.display());
        let recorded = header_place::recorded(root, luks)?;
        let system = System::new(root.kernel());
        let mut partitions = Vec::new();
        for path in luks_core::partitions(root.kernel(), device).or_fail(failed())? {
            let start_bytes = luks_core::partition_start(root.kernel(), &path).or_fail(failed())?;
            let holds = system.probe(&path).ok().and_then(|found| found.fs_type);
            partitions.push(Partition { path, start_bytes, holds });
        }
        let more: Vec<u64> = recorded.iter().map(|place| place.start_bytes).collect();
        Ok(Self {
            device: device.clone(),
            drive_bytes: identity.size_bytes,
            logical_sector: identity.logical_sector,
            luks,
            recorded,
            partitions,
            listed: luks_core::listed_partitions(device).or_fail(failed())?,
            containers: luks_core::locate(device, &more).or_fail(failed())?,
        })
    }

    /// Where the header belongs, or may belong when that was never recorded.
    pub(super) fn candidates(&self, magazine: &Magazine) -> Result<Vec<Candidate>, Objection> {
        let candidates = if let Some(place) = self.recorded {
            vec![self.at(place.start_bytes).ok_or_else(|| self.not_shown(magazine, place))?]
        } else {
            let all: Vec<_> = self.reachable().collect();
            // What is left of its header settles it.
            let one = all.iter().find(|candidate| self.has_remains_at(candidate)).cloned();
            one.map_or(all, |one| vec![one])
        };
        let is_candidate = |start| candidates.iter().any(|c| c.start_bytes == start);
        let elsewhere = self.own().find(|found| found.is_readable && !is_candidate(found.offset_bytes));
        match elsewhere {
            None => Ok(candidates),
            Some(found) => Err(unseen::well(magazine, &self.device, found, self.logical_sector)),
        }
    }

    /// Whether what is left of a header at a place is this container's.
    pub(super) fn has_remains_at(&self, candidate: &Candidate) -> bool {
        self.own().any(|found| found.offset_bytes == candidate.start_bytes)
    }

    /// Another container, or another use of the drive, that the header would destroy.
    pub(super) fn foreign(&self, site: &Site, candidate: &Candidate) -> Option<Objection> {
        let device = self.device.display();
        for found in self.containers.iter().filter(|found| found.uuid != self.luks) {
            let enrolled = site.magazines.iter().find(|m| m.luks_uuid == Some(found.uuid));
            let whose = match enrolled {
                Some(other) => format!("magazine {other}"),
                None if found.is_readable => format!("the sound container {}, another drive's", found.uuid),
                None => continue,
            };
            return Some((
                format!("{device} is not overwritten: it carries {whose}"),
                "look again which drive is meant: offsite identify".into(),
            ));
        }
        let covers = |partition: &&Partition| candidate.start_bytes == 0 && partition.holds.is_some();
        let partition = self.partitions.iter().find(covers)?;
        Some((
            format!(
                "{device} is not overwritten: its partition {} holds {}",
                partition.path.display(),
                partition.holds.as_deref().unwrap_or_default()
            ),
            format!(
                "if nothing of it is needed, take the partition table away first: wipefs --all {}",
                shell::path(&self.device)
            ),
        ))
    }

    /// What speaks against a header for which nothing on the drive speaks.
    pub(super) fn unproven_objection(
        &self,
        site: &Site,
        magazine: &Magazine,
        candidates: &[Candidate],
    ) -> Option<Objection> {
        let device = self.device.display();
        let Some(serial) = &magazine.serial else {
            return Some((
                format!(
                    "{magazine} was enrolled without a serial number, so nothing says that {device} is its drive"
                ),
                "if its label says so, write the `serial` into its [[magazine]] table first".into(),
            ));
        };
        let twins: Vec<_> = site.with_serial(serial).iter().map(|m| m.name.as_str()).collect();
        if twins.len() > 1 {
            return Some((
                format!(
                    "{} were all enrolled with the serial number {serial:?}, so nothing says which of them {device} is",
                    twins.join(" and ")
                ),
                "write the serial numbers on the drives' labels into site.toml, and use a dock that passes them on".into(),
            ));
        }
        let [candidate] = candidates else {
            return Some((
                format!("nothing tells whether the container of {magazine} began on {device} itself or in a partition"),
                "if its partitions were made later and nothing of them is needed, take the table away first (wipefs)".into(),
            ));
        };
        match self.recorded {
            Some(place) if place.drive_bytes != self.drive_bytes => Some((
                format!(
                    "the drive of {magazine} had {} bytes, {device} has {}",
                    place.drive_bytes, self.drive_bytes
                ),
                "it is another drive, or one in another enclosure; use the one that it was enrolled in"
                    .into(),
            )),
            _ if candidate.start_bytes == 0 && self.has_table() => Some((
                format!(
                    "a partition table was written to {device} since the container of {magazine} was made on it"
                ),
                format!(
                    "if nothing of its partitions is needed, take it away first: wipefs --all {}",
                    shell::path(&self.device)
                ),
            )),
            _ => None,
        }
    }

    fn own(&self) -> impl Iterator<Item = &Location> {
        self.containers.iter().filter(|found| found.uuid == self.luks)
    }

    fn has_table(&self) -> bool {
        !self.partitions.is_empty() || !self.listed.is_empty()
    }

    fn reachable(&self) -> impl Iterator<Item = Candidate> {
        let whole = Candidate { path: self.device.clone(), start_bytes: 0 };
        let partitions = self.partitions.iter();
        let partitions = partitions.map(|p| Candidate { path: p.path.clone(), start_bytes: p.start_bytes });
        std::iter::once(whole).chain(partitions)
    }

    fn at(&self, start_bytes: u64) -> Option<Candidate> {
        self.reachable().find(|candidate| candidate.start_bytes == start_bytes)
    }

    /// The partition is gone, or the kernel can't see it.
    fn not_shown(&self, magazine: &Magazine, place: Place) -> Objection {
        if let Some(found) = self.own().find(|found| found.is_readable) {
            return unseen::well(magazine, &self.device, found, self.logical_sector);
        }
        let listed = self.listed.iter().find(|listed| listed.start_bytes == place.start_bytes);
        let hint = match listed {
            Some(listed) => unseen::remedy(listed.table_sector_bytes, self.logical_sector),
            None => format!(
                "write its partition table again, with one partition of type LUKS that begins at byte {} (sfdisk, gdisk)",
                place.start_bytes
            ),
        };
        let message = format!(
            "the container of {magazine} begins at byte {} of its drive, and the kernel shows no partition there on {}",
            place.start_bytes,
            self.device.display()
        );
        (message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const MIB: u64 = 1 << 20;
    const A: &str = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
    const B: &str = "0c5b725d-50c4-4605-b750-4f23575b9b5f";

    fn site() -> Site {
        let table = |name: &str, luks: &str, serial: &str| {
            format!(
                "[[magazine]]\nname = \"{name}\"\nluks_uuid = \"{luks}\"\nfs_uuid = \"{}\"\nfs_type = \"ext4\"\n{serial}\n",
                luks.replacen("5b", "00", 1)
            )
        };
        let text = table("A", A, "serial = \"S1\"") + &table("B", B, "serial = \"S2\"");
        Site::parse(&text, Path::new("site.toml")).unwrap()
    }

    /// A whole drive that shows nothing at all.
    fn survey(recorded: Option<u64>) -> Survey {
        Survey {
            device: "/dev/sdz".into(),
            drive_bytes: 100 * MIB,
            logical_sector: 4096,
            luks: A.parse().unwrap(),
            recorded: recorded.map(|start_bytes| Place { start_bytes, drive_bytes: 100 * MIB }),
            partitions: Vec::new(),
            listed: Vec::new(),
            containers: Vec::new(),
        }
    }

    fn partition(start_bytes: u64, holds: Option<&str>) -> Partition {
        Partition { path: "/dev/sdz1".into(), start_bytes, holds: holds.map(str::to_owned) }
    }

    /// What is found by the library's own eyes, since its type can't be made here.
    fn found(start_bytes: u64, sector: u64) -> (Vec<ListedPartition>, Vec<Location>) {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 * MIB).unwrap();
        let mut header = b"LUKS\xba\xbe\0\x01".to_vec();
        header.resize(592, 0);
        header.splice(168..204, A.bytes());
        file.as_file().write_all_at(&header, start_bytes).unwrap();
        if let Some(entry) = start_bytes.checked_div(sector) {
            let entry = u32::try_from(entry).unwrap().to_le_bytes();
            file.as_file()
                .write_all_at(&[0x83, 0, 0, 0, entry[0], entry[1], entry[2], entry[3]], 450)
                .unwrap();
            file.as_file().write_all_at(&[0x55, 0xaa], 510).unwrap();
        }
        let listed = luks_core::listed_partitions(file.path()).unwrap();
        let listed = listed.into_iter().filter(|l| u64::from(l.table_sector_bytes) == sector).collect();
        (listed, luks_core::locate(file.path(), &[start_bytes]).unwrap())
    }

    fn magazine(site: &Site) -> &Magazine {
        site.magazine("A").unwrap()
    }

    fn places(survey: &Survey) -> Vec<u64> {
        let site = site();
        survey.candidates(magazine(&site)).unwrap().iter().map(|c| c.start_bytes).collect()
    }

    #[test]
    fn the_recorded_place_is_the_only_one() {
        let mut drive = survey(Some(0));
        drive.partitions = vec![partition(MIB, None)];
        assert_eq!(places(&drive), [0], "a partition that was added since is no place for it");
        drive.recorded = Some(Place { start_bytes: MIB, drive_bytes: 100 * MIB });
        assert_eq!(places(&drive), [MIB]);
        drive.partitions[0].start_bytes = 2 * MIB;
        let site = site();
        let (message, hint) = drive.candidates(magazine(&site)).unwrap_err();
        assert!(
            message.contains("begins at byte 1048576") && hint.contains("write its partition table again"),
            "{message}; {hint}"
        );
    }

    #[test]
    fn an_unrecorded_place_is_what_the_drive_shows() {
        let mut drive = survey(None);
        assert_eq!(places(&drive), [0]);
        drive.partitions = vec![partition(MIB, None)];
        assert_eq!(places(&drive), [0, MIB]);
        drive.containers = found(MIB, 0).1;
        assert_eq!(places(&drive), [MIB], "its header is there");
    }

    #[test]
    fn a_header_in_a_partition_that_this_enclosure_hides_is_well() {
        let site = site();
        for recorded in [None, Some(0), Some(MIB)] {
            let mut drive = survey(recorded);
            (drive.listed, drive.containers) = found(MIB, 512);
            let (message, hint) = drive.candidates(magazine(&site)).unwrap_err();
            assert!(message.contains("the header of A is well"), "{message}");
            assert!(hint.contains("512") && hint.contains("4096"), "{hint}");
        }
    }

    #[test]
    fn what_is_not_this_container_is_not_overwritten() {
        let site = site();
        let mut drive = survey(Some(0));
        let whole = Candidate { path: drive.device.clone(), start_bytes: 0 };
        assert_eq!(drive.foreign(&site, &whole), None);
        drive.partitions = vec![partition(MIB, Some("vfat"))];
        let (message, hint) = drive.foreign(&site, &whole).unwrap();
        assert!(message.contains("/dev/sdz1 holds vfat") && hint.contains("wipefs"), "{message}; {hint}");
        drive.containers = found(MIB, 0).1;
        drive.luks = B.parse().unwrap();
        assert!(drive.foreign(&site, &whole).unwrap().0.contains("carries magazine A"));
        drive.luks = LuksUuid::random();
        let nobody = Site::parse("", Path::new("site.toml")).unwrap();
        assert!(drive.foreign(&nobody, &whole).unwrap().0.contains("another drive's"));
    }

    #[test]
    fn without_proof_serial_size_and_place_must_say_the_same() {
        let mut site = site();
        let objection = |drive: &Survey, site: &Site| {
            let candidates = drive.candidates(magazine(site)).unwrap();
            drive.unproven_objection(site, magazine(site), &candidates).map(|(message, _)| message)
        };
        let mut drive = survey(Some(0));
        assert_eq!(objection(&drive, &site), None);
        assert_eq!(objection(&survey(None), &site), None, "nothing else is on it");
        drive.drive_bytes = 99 * MIB;
        assert!(objection(&drive, &site).unwrap().contains("had 104857600 bytes"));
        let mut drive = survey(Some(0));
        drive.listed = found(MIB, 512).0;
        assert!(objection(&drive, &site).unwrap().contains("a partition table was written to"));
        let mut drive = survey(None);
        drive.partitions = vec![partition(MIB, None)];
        assert!(objection(&drive, &site).unwrap().contains("in a partition"));
        site.magazines[1].serial = Some("S1".into());
        assert!(objection(&survey(Some(0)), &site).unwrap().contains("A and B were all enrolled with"));
        site.magazines[0].serial = None;
        assert!(objection(&survey(Some(0)), &site).unwrap().contains("without a serial number"));
    }
}
