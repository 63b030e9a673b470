//! Which mappings exist and what is behind them, read from sysfs.
//!
//! Source: `Documentation/ABI/testing/sysfs-block-dm` of the kernel (`dm/name`, `dm/uuid`), and cryptsetup's
//! `dm_prepare_uuid` for the form `CRYPT-LUKS2-<uuid without hyphens>-<name>`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::device_mapper;
use super::device_number::DeviceNumber;
use crate::header::luks_uuid::LuksUuid;

/// Whether a mapping of some name exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingStatus {
    /// There is no mapping of this name.
    Absent,
    /// There is one.
    Active {
        /// The container it was opened from; `None` when it is no LUKS mapping.
        luks_uuid: Option<LuksUuid>,
        /// The device that it reads from; `None` when that one is gone, or when it reads from several or none.
        backing: Option<DeviceNumber>,
        /// Whether it is mounted or held open. Without the right to ask device-mapper (root), only mappings on top of
        /// it are seen.
        in_use: bool,
    },
}

impl MappingStatus {
    /// Whether the mapping reads from the device of this number.
    ///
    /// A mapping is stale when it isn't backed by the device that carries its LUKS UUID now.
    pub fn is_backed_by(&self, major: u32, minor: u32) -> bool {
        matches!(self, Self::Active { backing: Some(backing), .. } if *backing == DeviceNumber { major, minor })
    }
}

/// Why the state of a mapping is not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the state of mapping '{name}' from {}: {source}", path.display())]
pub struct StatusError {
    /// The mapping, or the UUID that was looked for.
    pub name: String,
    /// What could not be read.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub source: io::Error,
}

/// Whether the kernel has device-mapper, without which nothing can be opened; `root` is usually `/`.
pub fn has_device_mapper(root: &Path) -> bool {
    root.join("sys/class/misc/device-mapper").exists()
}

/// Finds out whether a mapping exists and what is behind it.
///
/// # Errors
/// When sysfs can't be read.
pub fn mapping_status(name: &str) -> Result<MappingStatus, StatusError> {
    mapping_status_in(Path::new("/"), name)
}

/// As [`mapping_status`], with `sys` looked up below `root`.
///
/// # Errors
/// When sysfs can't be read.
pub fn mapping_status_in(root: &Path, name: &str) -> Result<MappingStatus, StatusError> {
    let Some(block) = find(root, name)? else { return Ok(MappingStatus::Absent) };
    let uuid = fs::read_to_string(block.join("dm/uuid")).unwrap_or_default();
    let held = fs::read_dir(block.join("holders")).is_ok_and(|mut holders| holders.next().is_some());
    Ok(MappingStatus::Active {
        luks_uuid: luks_uuid(uuid.trim_end()),
        backing: backing(&block),
        in_use: held || device_mapper::open_count(name).is_ok_and(|count| count > Some(0)),
    })
}

/// The size of a mapping in sectors of 512 bytes; `None` when there is no such mapping.
pub(crate) fn sectors(root: &Path, name: &str) -> Result<Option<u64>, StatusError> {
    let Some(block) = find(root, name)? else { return Ok(None) };
    let failed = |source| StatusError { name: name.to_owned(), path: block.clone(), source };
    let size = fs::read_to_string(block.join("size")).map_err(failed)?;
    size.trim().parse().map(Some).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// The names of all mappings that were opened from a container, whoever opened them, in alphabetical order.
///
/// # Errors
/// When sysfs can't be read.
pub fn mappings_of(uuid: LuksUuid) -> Result<Vec<String>, StatusError> {
    mappings_of_in(Path::new("/"), uuid)
}

fn mappings_of_in(root: &Path, uuid: LuksUuid) -> Result<Vec<String>, StatusError> {
    let of_container = |block: &Path| {
        fs::read_to_string(block.join("dm/uuid")).is_ok_and(|text| luks_uuid(text.trim_end()) == Some(uuid))
    };
    let all = all(root).map_err(|(path, source)| StatusError { name: uuid.to_string(), path, source })?;
    let mut names: Vec<_> =
        all.into_iter().filter(|(_, block)| of_container(block)).map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

/// The sysfs directory of the mapping.
fn find(root: &Path, name: &str) -> Result<Option<PathBuf>, StatusError> {
    let all = all(root).map_err(|(path, source)| StatusError { name: name.to_owned(), path, source })?;
    Ok(all.into_iter().find(|(found, _)| found == name).map(|(_, block)| block))
}

/// Names and sysfs directories of all mappings; the error names what could not be read.
fn all(root: &Path) -> Result<Vec<(String, PathBuf)>, (PathBuf, io::Error)> {
    let blocks = root.join("sys/class/block");
    let entries = match fs::read_dir(&blocks).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err((blocks, source)),
    };
    // Devices come and go while the directory is read: what has no name is no mapping, or none any more.
    let named = entries.into_iter().filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("dm/name")).ok()?;
        Some((name.strip_suffix('\n').unwrap_or(&name).to_owned(), entry.path()))
    });
    Ok(named.collect())
}

/// The single device below a mapping, when it is still there.
fn backing(block: &Path) -> Option<DeviceNumber> {
    let slave = only_slave(block)?;
    let name = |block: &Path| fs::read_to_string(block.join("dm/name")).unwrap_or_default();
    // With authenticated encryption another mapping lies between the two.
    let keeps_tags = name(&slave).trim_end() == tags_name(name(block).trim_end());
    let device = if keeps_tags { only_slave(&slave)? } else { slave };
    DeviceNumber::parse(&fs::read_to_string(device.join("dev")).ok()?)
}

fn only_slave(block: &Path) -> Option<PathBuf> {
    let mut slaves = fs::read_dir(block.join("slaves")).ok()?;
    let slave = slaves.next()?.ok()?;
    slaves.next().is_none().then(|| slave.path())
}

/// What libcryptsetup calls the dm-integrity mapping below a mapping (`LUKS2_activate` in its source).
pub(crate) fn tags_name(name: &str) -> String {
    format!("{name}_dif")
}

/// The container's UUID in a device-mapper UUID.
fn luks_uuid(dm_uuid: &str) -> Option<LuksUuid> {
    let rest = dm_uuid.strip_prefix("CRYPT-LUKS1-").or_else(|| dm_uuid.strip_prefix("CRYPT-LUKS2-"))?;
    let (uuid, _name) = rest.split_once('-')?;
    (uuid.len() == 32).then(|| uuid.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    /// A sysfs tree with one mapping `dm-0`.
    fn tree(name: &str, dm_uuid: &str, slaves: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let block = root.path().join("sys/devices/virtual/block/dm-0");
        for directory in ["dm", "slaves", "holders"] {
            fs::create_dir_all(block.join(directory)).unwrap();
        }
        fs::write(block.join("dm/name"), format!("{name}\n")).unwrap();
        fs::write(block.join("dm/uuid"), format!("{dm_uuid}\n")).unwrap();
        let class = root.path().join("sys/class/block");
        fs::create_dir_all(&class).unwrap();
        symlink(&block, class.join("dm-0")).unwrap();
        fs::create_dir_all(class.join("sda")).unwrap();
        for (slave, number) in slaves {
            let directory = root.path().join("sys/devices").join(slave);
            if let Some(number) = number {
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("dev"), format!("{number}\n")).unwrap();
            }
            symlink(&directory, block.join("slaves").join(slave)).unwrap();
        }
        root
    }

    fn dm_uuid(version: u8) -> String {
        format!("CRYPT-LUKS{version}-{}-blue", UUID.replace('-', ""))
    }

    #[test]
    fn an_active_mapping_is_found_by_name_with_uuid_and_device() {
        for version in [1, 2] {
            let root = tree("blue", &dm_uuid(version), &[("sdb", Some("8:16"))]);
            let status = mapping_status_in(root.path(), "blue").unwrap();
            let expected = MappingStatus::Active {
                luks_uuid: Some(UUID.parse().unwrap()),
                backing: Some(DeviceNumber { major: 8, minor: 16 }),
                in_use: false,
            };
            assert_eq!(status, expected);
            assert!(status.is_backed_by(8, 16));
            assert!(!status.is_backed_by(8, 32));
            assert_eq!(mapping_status_in(root.path(), "blu").unwrap(), MappingStatus::Absent);
            assert_eq!(mappings_of_in(root.path(), UUID.parse().unwrap()).unwrap(), ["blue"]);
            assert!(mappings_of_in(root.path(), LuksUuid::random()).unwrap().is_empty());
        }
    }

    #[test]
    fn a_device_that_was_pulled_out_backs_nothing() {
        let root = tree("blue", &dm_uuid(2), &[("sdb", None)]);
        let status = mapping_status_in(root.path(), "blue").unwrap();
        assert!(matches!(status, MappingStatus::Active { backing: None, luks_uuid: Some(_), .. }));
        assert!(!status.is_backed_by(8, 16));
    }

    #[test]
    fn the_mapping_that_keeps_tags_is_looked_through() {
        for (below, expected) in [("blue_dif", "8:16"), ("mpatha", "253:1")] {
            let root = tree("blue", &dm_uuid(2), &[("dm-1", Some("253:1"))]);
            let between = root.path().join("sys/devices/dm-1");
            fs::create_dir_all(between.join("dm")).unwrap();
            fs::create_dir_all(between.join("slaves/sdb")).unwrap();
            fs::write(between.join("dm/name"), format!("{below}\n")).unwrap();
            fs::write(between.join("slaves/sdb/dev"), "8:16\n").unwrap();
            let MappingStatus::Active { backing, .. } = mapping_status_in(root.path(), "blue").unwrap()
            else {
                panic!("not found")
            };
            assert_eq!(backing.unwrap().to_string(), expected);
        }
    }

    #[test]
    fn mappings_that_are_no_luks_have_no_luks_uuid() {
        for uuid in ["", "LVM-abc", "CRYPT-PLAIN-blue", "CRYPT-LUKS2-0123-blue", "CRYPT-LUKS2-é"] {
            let root = tree("blue", uuid, &[("sdb", Some("8:16")), ("sdc", Some("8:32"))]);
            let status = mapping_status_in(root.path(), "blue").unwrap();
            assert!(
                matches!(status, MappingStatus::Active { luks_uuid: None, backing: None, .. }),
                "{uuid}: {status:?}"
            );
        }
    }

    #[test]
    fn holders_mean_in_use() {
        let root = tree("blue", &dm_uuid(2), &[("sdb", Some("8:16"))]);
        fs::create_dir(root.path().join("sys/devices/virtual/block/dm-0/holders/dm-1")).unwrap();
        let status = mapping_status_in(root.path(), "blue").unwrap();
        assert!(matches!(status, MappingStatus::Active { in_use: true, .. }));
    }

    #[test]
    fn the_size_is_read_in_sectors() {
        let root = tree("blue", &dm_uuid(2), &[]);
        fs::write(root.path().join("sys/devices/virtual/block/dm-0/size"), "4096\n").unwrap();
        assert_eq!(sectors(root.path(), "blue").unwrap(), Some(4096));
        assert_eq!(sectors(root.path(), "red").unwrap(), None);
    }

    #[test]
    fn device_mapper_is_seen_by_its_sysfs_directory() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_device_mapper(root.path()));
        fs::create_dir_all(root.path().join("sys/class/misc/device-mapper")).unwrap();
        assert!(has_device_mapper(root.path()));
        assert_eq!(mapping_status_in(root.path(), "blue").unwrap(), MappingStatus::Absent);
    }
}
