//! Loop devices, mounts and partitions that a test makes and takes away again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use media_wipe::{Refusal, System, Target, TargetError, identify};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub(crate) fn system() -> System {
    System::new(Path::new("/"))
}

pub(crate) fn tool(program: &str, arguments: &[&str]) -> Result<String, Failed> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// A loop device over a new file, detached when it is dropped.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
    pub(crate) file: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

fn attach(file: &Path, options: &[&str]) -> Result<PathBuf, Failed> {
    let file = file.to_string_lossy();
    tool("losetup", &[&["-f", "--show"], options, &[&*file]].concat()).map(PathBuf::from)
}

impl Loop {
    pub(crate) fn new(size: u64, options: &[&str]) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().canonicalize()?.join("disk");
        fs::File::create(&file)?.set_len(size)?;
        Ok(Self { device: attach(&file, options)?, file, _dir: Some(dir) })
    }

    /// A loop device over another one.
    pub(crate) fn over(below: &Path, options: &[&str]) -> Result<Self, Failed> {
        Ok(Self { device: attach(below, options)?, file: below.to_path_buf(), _dir: None })
    }

    pub(crate) fn id(&self) -> String {
        self.file.to_string_lossy().into_owned()
    }

    pub(crate) fn open(&self) -> Result<Target, TargetError> {
        Target::open(&system(), &self.device, &self.id())
    }

    pub(crate) fn kinds(&self) -> Result<Vec<&'static str>, Failed> {
        Ok(identify(&system(), &self.device)?.refusals.iter().map(Refusal::kind).collect())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = tool("losetup", &["-d", &self.device.to_string_lossy()]) {
            eprintln!("left behind: {}: {error:?}", self.device.display());
        }
    }
}

/// A mount, undone when it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn ext4(device: &Path, at: &Path) -> Result<Self, Failed> {
        mount(Some(device), at, Some("ext4"), MsFlags::empty(), None::<&str>)?;
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::empty()) {
            eprintln!("left mounted: {}: {error}", self.0.display());
        }
    }
}

/// The partition 1 of a loop device, taken away when it is dropped.
pub(crate) struct Partition {
    disk: PathBuf,
    pub(crate) node: PathBuf,
}

impl Partition {
    /// The kernel here may know no partition tables, but it knows partitions that it is told of.
    pub(crate) fn add(disk: &Path) -> Result<Self, Failed> {
        tool("addpart", &[&disk.to_string_lossy(), "1", "2048", "16384"])?;
        let node = PathBuf::from(format!("{}p1", disk.display()));
        for _ in 0..50 {
            if node.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { disk: disk.to_path_buf(), node })
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if self.node.exists()
            && let Err(error) = tool("delpart", &[&self.disk.to_string_lossy(), "1"])
        {
            eprintln!("left behind: {}: {error:?}", self.node.display());
        }
    }
}
