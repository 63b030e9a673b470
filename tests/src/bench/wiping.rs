//! Filling a drive: loop devices on the disk and in memory, by `offsite wipe` and by what people type today.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use media_wipe::Generator;
use tempfile::TempDir;

use super::figures::{Figures, Unit};
use super::measure::{Cost, cost, find};
use crate::programs;

const GENERATOR: &str = "wipe: the generator alone, one core";

/// The figures of this module.
pub(super) const NAMES: [&str; 17] = [
    GENERATOR,
    "wipe: rate, loop on disk, dd zero",
    "wipe: rate, loop on disk, dd urandom",
    "wipe: rate, loop on disk, shred",
    "wipe: CPU, loop on disk, dd zero",
    "wipe: CPU, loop on disk, dd urandom",
    "wipe: CPU, loop on disk, shred",
    "wipe: peak memory, loop on disk, dd zero",
    "wipe: peak memory, loop on disk, dd urandom",
    "wipe: rate, loop on tmpfs, dd zero",
    "wipe: rate, loop on tmpfs, dd urandom",
    "wipe: rate, loop on tmpfs, shred",
    "wipe: CPU, loop on tmpfs, dd zero",
    "wipe: CPU, loop on tmpfs, dd urandom",
    "wipe: CPU, loop on tmpfs, shred",
    "wipe: peak memory, loop on tmpfs, dd zero",
    "wipe: peak memory, loop on tmpfs, dd urandom",
];

const REPETITIONS: usize = 3;
/// What is filled by ours and by dd from /dev/zero.
const WHOLE: u64 = 1 << 30;
/// What is filled by the slower ones.
const PART: u64 = 256 << 20;
/// A file system in memory on any Linux with glibc.
const TMPFS: &str = "/dev/shm";

/// A peer's name in figures, and how it is called.
const PEERS: [(&str, &str); 3] = [
    ("dd zero", "dd if=/dev/zero bs=4M oflag=direct conv=fsync"),
    ("dd urandom", "dd if=/dev/urandom bs=1M conv=fsync, 256 MiB"),
    ("shred", "shred -n1, 256 MiB"),
];

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    if figures.wants(GENERATOR) {
        generator(figures)?;
    }
    media(figures, "disk", std::env::temp_dir().as_path(), true)?;
    let memory = Path::new(TMPFS);
    if nix::sys::statfs::statfs(memory).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC) {
        media(figures, "tmpfs", memory, false)?;
    }
    for name in NAMES.iter().filter(|name| name.contains("tmpfs")) {
        figures.skip(name, "/dev/shm is no tmpfs here");
    }
    Ok(())
}

/// The keystream against the same cipher as OpenSSL runs it.
fn generator(figures: &mut Figures) -> Result<()> {
    let Ok(openssl) = find("openssl") else {
        figures.skip(GENERATOR, "no openssl here");
        return Ok(());
    };
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        ours.push(Generator::fastest().measure(Duration::from_secs(1)) / 1e6);
        let output = Command::new(&openssl)
            .args(["speed", "-mr", "-seconds", "1", "-bytes", "65536", "-evp", "aes-256-ctr"])
            .output()?;
        // A line such as +F:22:AES-256-CTR:8385722990.00 ends with the bytes a second.
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find(|line| line.starts_with("+F:")).and_then(|line| line.rsplit(':').next());
        peers.push(rate.context("openssl speed says no rate")?.trim().parse::<f64>()? / 1e6);
    }
    figures.record(GENERATOR, Unit::MegabytesPerSecond, &ours, "openssl speed -evp aes-256-ctr", &peers);
    Ok(())
}

fn media(figures: &mut Figures, medium: &str, directory: &Path, direct: bool) -> Result<()> {
    let names: Vec<&str> =
        NAMES.into_iter().filter(|name| name.contains(medium) && figures.wants(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        for name in names {
            figures.skip(name, "needs root and loop devices");
        }
        return Ok(());
    }
    let offsite = programs::release("offsite")?;
    let drive = Loop::attach(directory, WHOLE, direct)?;
    let mut ours = Vec::new();
    let mut theirs: [Vec<Cost>; PEERS.len()] = Default::default();
    for _ in 0..REPETITIONS {
        ours.push(cost(&mut drive.wiped_by(&offsite))?);
        for (index, costs) in theirs.iter_mut().enumerate() {
            costs.push(cost(&mut drive.filled_by(index)?)?);
        }
    }
    for ((peer, call), (index, costs)) in PEERS.iter().zip(theirs.iter().enumerate()) {
        let bytes = filled(index);
        let mut compare = |what: &str, unit, value: fn(&Cost, u64) -> f64| {
            let name = format!("wipe: {what}, loop on {medium}, {peer}");
            if figures.wants(&name) && NAMES.contains(&name.as_str()) {
                let of =
                    |costs: &[Cost], bytes| costs.iter().map(|cost| value(cost, bytes)).collect::<Vec<_>>();
                figures.record(&name, unit, &of(&ours, WHOLE), call, &of(costs, bytes));
            }
        };
        compare("rate", Unit::MegabytesPerSecond, Cost::megabytes_per_second);
        compare("CPU", Unit::CpuSecondsPerGigabyte, Cost::cpu_seconds_per_gigabyte);
        compare("peak memory", Unit::Mebibytes, |cost, _| cost.peak_mebibytes());
    }
    Ok(())
}

/// How many bytes a peer fills.
fn filled(peer: usize) -> u64 {
    if peer == 0 { WHOLE } else { PART }
}

/// A loop device of our own; detached by its name when dropped.
struct Loop {
    directory: TempDir,
    device: PathBuf,
    id: String,
}

impl Loop {
    fn attach(parent: &Path, bytes: u64, direct: bool) -> Result<Self> {
        let directory = TempDir::with_prefix_in("offsite-bench-", parent)?;
        let file = directory.path().join("drive");
        std::fs::File::create_new(&file)?.set_len(bytes)?;
        let output = Command::new(find("losetup")?)
            .args(["--find", "--show"])
            .arg(format!("--direct-io={}", if direct { "on" } else { "off" }))
            .arg(&file)
            .output()?;
        ensure!(output.status.success(), "no loop device: {}", String::from_utf8_lossy(&output.stderr));
        let device = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        // A loop device's id is the path of its file.
        let id = file.canonicalize()?.display().to_string();
        let drive = Self { directory, device, id };
        // The first fill of a sparse file pays for its allocation; nobody's figure shall.
        cost(&mut drive.filled_by(0)?)?;
        Ok(drive)
    }

    fn wiped_by(&self, offsite: &Path) -> Command {
        let mut command = Command::new(offsite);
        command.arg("--root").arg(self.directory.path().join("root"));
        command.arg("wipe").arg(&self.device).args(["--verify", "none", "--yes-destroy", &self.id]);
        command
    }

    fn filled_by(&self, peer: usize) -> Result<Command> {
        let (device, bytes) = (self.device.display(), filled(peer));
        let mut command = Command::new(find(if peer == 2 { "shred" } else { "dd" })?);
        match peer {
            0 => command
                .args(["if=/dev/zero", "bs=4M", "oflag=direct", "conv=fsync"])
                .args([format!("of={device}"), format!("count={}", bytes >> 22)]),
            1 => command
                .args(["if=/dev/urandom", "bs=1M", "conv=fsync"])
                .args([format!("of={device}"), format!("count={}", bytes >> 20)]),
            _ => command.args(["-n1", "-s", &bytes.to_string()]).arg(&self.device),
        };
        Ok(command)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        match Command::new("/usr/sbin/losetup").arg("--detach").arg(&self.device).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{} was not detached: {other:?}", self.device.display()),
        }
    }
}
