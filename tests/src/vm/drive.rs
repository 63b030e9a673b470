//! Removable drives: sparse files that a machine sees as SCSI disks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// A size of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    bytes: u64,
}

impl Size {
    /// That many mebibytes.
    pub const fn mib(count: u32) -> Self {
        Self { bytes: (count as u64) << 20 }
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

/// A drive that can be plugged; it keeps its contents while it is away.
#[derive(Clone, Debug)]
pub struct Drive {
    serial: String,
    file: PathBuf,
}

impl Drive {
    /// Makes a blank drive. The serial is what udev shows in `/dev/disk/by-id`, at most 36 characters.
    pub(super) fn blank(serial: &str, size: Size, directory: &Path) -> Result<Self> {
        let file = directory.join(format!("{serial}.raw"));
        let made = File::create_new(&file).with_context(|| format!("cannot make the drive {serial}"))?;
        made.set_len(size.bytes())?;
        Self::of_file(serial, &file)
    }

    /// Takes a file for a drive.
    ///
    /// # Errors
    /// When the file isn't there or the serial can't be one.
    pub fn of_file(serial: &str, file: &Path) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=36).contains(&serial.len()) && serial.chars().all(plain);
        let starts = serial.starts_with(|c: char| c.is_ascii_alphabetic());
        ensure!(fits && starts, "a serial is a letter and up to 35 of A-Z a-z 0-9 - _ . : {serial:?}");
        let file =
            fs::canonicalize(file).with_context(|| format!("no file {} for a drive", file.display()))?;
        Ok(Self { serial: serial.to_owned(), file })
    }

    /// A second drive with the same contents, as a cloning station makes it.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn clone_as(&self, serial: &str) -> Result<Self> {
        let file = self.file.with_file_name(format!("{serial}.raw"));
        super::tool::run("cp", ["--sparse=always".as_ref(), self.file.as_os_str(), file.as_os_str()])?;
        Self::of_file(serial, &file)
    }

    /// The serial.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The file with the contents; look into it only while the drive is away.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The name that udev gives the plugged drive.
    pub fn by_id(&self) -> String {
        format!("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{}", self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_that_names_a_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let blank = |serial: &str| Drive::blank(serial, Size::mib(1), directory.path());
        let drive = blank("OFFSITE-A").unwrap();
        assert_eq!(fs::metadata(drive.file()).unwrap().len(), 1 << 20);
        assert!(blank("OFFSITE-A").is_err(), "the drive is there already");
        let odd = ["", "a/b", "1st", &"x".repeat(37), "a b"];
        assert!(odd.iter().all(|serial| Drive::of_file(serial, drive.file()).is_err()));
    }
}
