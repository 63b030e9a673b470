//! Devices that a test makes and removes: loop devices and scsi_debug's disks.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};
use tempfile::TempDir;

const LOSETUP: &str = "/sbin/losetup";
const PSEUDO: &str = "/sys/bus/pseudo/drivers/scsi_debug";

fn number(path: &Path) -> (u32, u32) {
    let device = fs::metadata(path).unwrap().rdev();
    (major(device).try_into().unwrap(), minor(device).try_into().unwrap())
}

/// A loop device over a sparse file, detached on drop.
pub(crate) struct Loop {
    path: PathBuf,
    file: PathBuf,
    _directory: TempDir,
}

impl Loop {
    pub(crate) fn possible() -> bool {
        Path::new(LOSETUP).exists() && Path::new("/dev/loop-control").exists()
    }

    pub(crate) fn new(mib: u64, sector: u32) -> Self {
        Self::attached(mib, &["--sector-size", &sector.to_string()])
    }

    #[cfg(feature = "gpt")]
    pub(crate) fn with_partitions(mib: u64) -> Self {
        Self::attached(mib, &["--partscan"])
    }

    fn attached(mib: u64, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("drive");
        File::create(&file).unwrap().set_len(mib << 20).unwrap();
        let output =
            Command::new(LOSETUP).args(["--find", "--show"]).args(options).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Self { path, file, _directory: directory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn number(&self) -> (u32, u32) {
        number(&self.path)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new(LOSETUP).arg("--detach").arg(&self.path).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("{} stays attached", self.path.display());
        }
    }
}

/// The only disk of scsi_debug, in the machine's memory, pulled out and plugged in by sysfs.
pub(crate) struct ScsiDisk {
    name: String,
    host: PathBuf,
}

impl ScsiDisk {
    /// Whether the kernel has scsi_debug and nobody else uses it.
    pub(crate) fn possible() -> bool {
        !Path::new(PSEUDO).exists()
            && Command::new("/sbin/modprobe")
                .args(["-n", "scsi_debug"])
                .status()
                .is_ok_and(|status| status.success())
    }

    pub(crate) fn plug() -> Self {
        let loaded =
            Command::new("/sbin/modprobe").args(["scsi_debug", "dev_size_mb=8", "delay=0"]).status().unwrap();
        assert!(loaded.success());
        let mut disk = Self { name: String::new(), host: PathBuf::new() };
        disk.settle();
        disk
    }

    /// Waits for the disk and its node, which is there a moment before it can be opened.
    fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some((name, host)) = find()
                && File::open(Path::new("/dev").join(&name)).is_ok()
            {
                (self.name, self.host) = (name, host);
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("scsi_debug made no disk");
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    pub(crate) fn number(&self) -> (u32, u32) {
        number(&self.path())
    }

    pub(crate) fn unplug(&self) {
        fs::write(format!("/sys/block/{}/device/delete", self.name), "1").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.path().exists() {
            assert!(Instant::now() < deadline, "{} stays", self.name);
            sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn replug(&mut self) {
        fs::write(self.host.join("scan"), "- - -").unwrap();
        self.settle();
    }
}

impl Drop for ScsiDisk {
    fn drop(&mut self) {
        // In the order of declaration mappings close before; the module goes when nothing holds its disk.
        for _ in 0..50 {
            if Command::new("/sbin/modprobe")
                .args(["-r", "scsi_debug"])
                .status()
                .is_ok_and(|status| status.success())
            {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        eprintln!("scsi_debug stays loaded");
    }
}

/// The disk's name and the sysfs directory of its host.
fn find() -> Option<(String, PathBuf)> {
    for host in fs::read_dir("/sys/class/scsi_host").ok()?.flatten() {
        let driver = fs::read_to_string(host.path().join("proc_name")).unwrap_or_default();
        if driver.trim() != "scsi_debug" {
            continue;
        }
        let host_name = host.file_name().into_string().ok()?;
        for block in fs::read_dir("/sys/block").ok()?.flatten() {
            let place = fs::canonicalize(block.path()).unwrap_or_default();
            if place.components().any(|part| part.as_os_str() == host_name.as_str()) {
                return Some((block.file_name().into_string().ok()?, host.path()));
            }
        }
    }
    None
}
