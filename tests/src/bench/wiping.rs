//! Filling a drive: loop devices on the disk and in memory, by `offsite wipe` and by what people type today.

mod drives;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use media_wipe::Generator;

use super::figures::{Figures, Unit};
use super::measure::{Cost, cost, find};
use crate::programs;
use drives::{Drives, PEERS, SMALL, WHOLE, wiped};

const GENERATOR: &str = "wipe: the generator alone, one core";
const CHACHA: &str = "wipe: AES-256 alone, one core, ChaCha20";

/// The figures of this module.
pub(super) const NAMES: [&str; 30] = [
    GENERATOR,
    CHACHA,
    "wipe: rate, loop on disk, dd zero",
    "wipe: rate, loop on disk, dd urandom",
    "wipe: rate, loop on disk, shred",
    "wipe: rate, loop on disk, openssl",
    "wipe: rate, loop on disk, nwipe",
    "wipe: CPU, loop on disk, dd zero",
    "wipe: CPU, loop on disk, dd urandom",
    "wipe: CPU, loop on disk, shred",
    "wipe: CPU, loop on disk, openssl",
    "wipe: CPU, loop on disk, nwipe",
    "wipe: peak memory, loop on disk, dd zero",
    "wipe: peak memory, loop on disk, dd urandom",
    "wipe: rate, loop on disk, two drives, one",
    "wipe: rate, loop on disk, four drives, one",
    "wipe: rate, loop on tmpfs, dd zero",
    "wipe: rate, loop on tmpfs, dd urandom",
    "wipe: rate, loop on tmpfs, shred",
    "wipe: rate, loop on tmpfs, openssl",
    "wipe: rate, loop on tmpfs, nwipe",
    "wipe: CPU, loop on tmpfs, dd zero",
    "wipe: CPU, loop on tmpfs, dd urandom",
    "wipe: CPU, loop on tmpfs, shred",
    "wipe: CPU, loop on tmpfs, openssl",
    "wipe: CPU, loop on tmpfs, nwipe",
    "wipe: peak memory, loop on tmpfs, dd zero",
    "wipe: peak memory, loop on tmpfs, dd urandom",
    "wipe: rate, loop on tmpfs, two drives, one",
    "wipe: rate, loop on tmpfs, four drives, one",
];

const ROUNDS: usize = 5;
/// A file system in memory on any Linux with glibc.
const TMPFS: &str = "/dev/shm";

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    generator(figures)?;
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

/// The stream against the same cipher as OpenSSL runs it, and against the other cipher.
fn generator(figures: &mut Figures) -> Result<()> {
    let openssl = find("openssl");
    if openssl.is_err() {
        figures.skip(GENERATOR, "no openssl here");
    }
    let (mut ours, mut theirs, mut chacha) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        if figures.wants(GENERATOR) || figures.wants(CHACHA) {
            ours.push(Generator::Aes256Ctr.measure(Duration::from_millis(500)) / 1e6);
        }
        if figures.wants(CHACHA) {
            chacha.push(Generator::ChaCha20.measure(Duration::from_millis(500)) / 1e6);
        }
        if let (true, Ok(openssl)) = (figures.wants(GENERATOR), &openssl) {
            theirs.push(openssl_speed(openssl)?);
        }
    }
    if figures.wants(GENERATOR) {
        figures.record(GENERATOR, Unit::MegabytesPerSecond, &ours, "openssl speed -evp aes-256-ctr", &theirs);
    }
    if figures.wants(CHACHA) {
        figures.record(CHACHA, Unit::MegabytesPerSecond, &ours, "ChaCha20 of the same library", &chacha);
    }
    Ok(())
}

fn openssl_speed(openssl: &Path) -> Result<f64> {
    let output = Command::new(openssl)
        .args(["speed", "-mr", "-seconds", "1", "-bytes", "65536", "-evp", "aes-256-ctr"])
        .output()?;
    // A line such as +F:22:AES-256-CTR:8385722990.00 ends with the bytes a second.
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find(|line| line.starts_with("+F:")).and_then(|line| line.rsplit(':').next());
    Ok(rate.context("openssl speed says no rate")?.trim().parse::<f64>()? / 1e6)
}

/// What all rounds on one medium took.
#[derive(Default)]
struct Samples {
    ours: Vec<Cost>,
    theirs: [Vec<Cost>; PEERS.len()],
    two: Vec<Cost>,
    four: Vec<Cost>,
}

fn media(figures: &mut Figures, medium: &str, directory: &Path, direct: bool) -> Result<()> {
    skip_what_is_missing(figures, medium);
    if wanted(figures, medium, "") {
        let samples = fill(figures, medium, directory, direct)?;
        record(figures, medium, &samples);
    }
    Ok(())
}

fn wanted(figures: &Figures, medium: &str, what: &str) -> bool {
    NAMES.iter().any(|name| name.contains(medium) && name.ends_with(what) && figures.wants(name))
}

fn skip_what_is_missing(figures: &mut Figures, medium: &str) {
    for name in NAMES.iter().filter(|name| name.contains(medium)) {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            figures.skip(name, "needs root and loop devices");
        }
        for peer in PEERS.iter().filter(|peer| name.ends_with(&format!(", {}", peer.name))) {
            if find(peer.program).is_err() {
                figures.skip(name, &format!("no {} here", peer.program));
            }
        }
    }
}

/// Everybody takes turns in every round, so that a noisy moment meets all.
fn fill(figures: &Figures, medium: &str, directory: &Path, direct: bool) -> Result<Samples> {
    let offsite = programs::release("offsite")?;
    let drives = Drives::attach(directory, direct)?;
    let several = |count: usize| drives.small.iter().take(count).collect::<Vec<_>>();
    let mut samples = Samples::default();
    for round in 0..ROUNDS {
        samples.ours.push(cost(&mut wiped(&offsite, &[&drives.large]))?);
        for (peer, costs) in PEERS.iter().zip(&mut samples.theirs) {
            if round % peer.every == 0 && wanted(figures, medium, &format!(", {}", peer.name)) {
                costs.push(drives.fill(peer).with_context(|| peer.name)?);
            }
        }
        if wanted(figures, medium, "drives, one") {
            samples.two.push(cost(&mut wiped(&offsite, &several(2)))?);
            samples.four.push(cost(&mut wiped(&offsite, &several(4)))?);
        }
    }
    Ok(samples)
}

fn record(figures: &mut Figures, medium: &str, samples: &Samples) {
    let mut compare = |what: &str, peer: [&str; 2], unit, ours: Vec<f64>, theirs: Vec<f64>| {
        let name = format!("wipe: {what}, loop on {medium}, {}", peer[0]);
        if figures.wants(&name) && NAMES.contains(&name.as_str()) {
            figures.record(&name, unit, &ours, peer[1], &theirs);
        }
    };
    let rates =
        |costs: &[Cost], bytes| costs.iter().map(|cost| cost.megabytes_per_second(bytes)).collect::<Vec<_>>();
    let cpu = |costs: &[Cost], bytes| {
        costs.iter().map(|cost| cost.cpu_seconds_per_gigabyte(bytes)).collect::<Vec<_>>()
    };
    let memory = |costs: &[Cost]| costs.iter().map(Cost::peak_mebibytes).collect::<Vec<_>>();
    let ours = &samples.ours;
    for (peer, theirs) in PEERS.iter().zip(&samples.theirs) {
        let named = [peer.name, peer.call];
        compare("rate", named, Unit::MegabytesPerSecond, rates(ours, WHOLE), rates(theirs, peer.bytes));
        compare("CPU", named, Unit::CpuSecondsPerGigabyte, cpu(ours, WHOLE), cpu(theirs, peer.bytes));
        compare("peak memory", named, Unit::Mebibytes, memory(ours), memory(theirs));
    }
    for (count, bytes, costs) in [("two", 2 * SMALL, &samples.two), ("four", 4 * SMALL, &samples.four)] {
        let named = [&format!("{count} drives, one"), "offsite wipe of one drive"];
        compare("rate", named, Unit::MegabytesPerSecond, rates(costs, bytes), rates(ours, WHOLE));
    }
}
