//! What mounting `sync` costs and what it saves: offsited's default mount against `sync = true`, and against a plain
//! mount that nobody flushes, on a drive that loses its cache when it is pulled.
//!
//! A script in the guest writes and says after each part that it is done; at a random moment the drive is held, and
//! what was promised by then is looked for on what was flushed by then (`docs/durability.md` tells what that means).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::figures::{Figures, Unit};
use super::plugging::{LIMIT, Prepared, Side, Sides};
use crate::vm::{Vm, VolatileDrive, restore};

const RATE: &str = "durability: write 32 MiB, cache flushed at once";
const DISK_RATE: &str = "durability: write 32 MiB, each flush takes 8 ms";
const JOBS: &str = "durability: files closed as our bacula-sd does, kept when pulled";
const CLOSED: &str = "durability: files closed by any program, kept when pulled";
const BARE: &str = "durability: files closed, kept when pulled (nobody flushes)";
const OPEN: &str = "durability: written to an open file, kept when pulled";

/// The figures of this module.
pub(super) const NAMES: [&str; 6] = [RATE, DISK_RATE, JOBS, CLOSED, BARE, OPEN];

/// How often a drive is pulled for each figure, unless `OFFSITE_BENCH_PULLS` says otherwise.
const PULLS: usize = 2;
/// A platter that comes round 7200 times a minute.
const FLUSH: Duration = Duration::from_millis(8);
/// How often a rate is measured.
const RATES: usize = 2;
/// The parts that the scripts write, in bytes.
const PART: u32 = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Default,
    Sync,
    /// Opened and mounted by hand, without offsited.
    Bare,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Files that are flushed when they are closed, as the storage daemon does with `Sync On Close`.
    Flushed,
    /// Files that are written and closed.
    Closed,
    /// One file that stays open.
    Open,
}

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let Some(image) = super::guest_image(figures, &NAMES)? else { return Ok(()) };
    Vm::start(&image)?.told(|vm| {
        let sides = Sides::set_up(vm, &["A"])?;
        vm.sh(&format!("head -c {PART} /dev/urandom >/run/part; mkdir -p /mnt/bare"))?;
        let drive = sides.first()?;
        let pristine = std::fs::read(drive.drive.file())?;
        measure_in(&Trials { vm, drive, pristine }, figures)
    })
}

fn measure_in(trials: &Trials<'_>, figures: &mut Figures) -> Result<()> {
    const SYNC: &str = "mounted sync, as in the tutorial";
    for (name, flush) in [(RATE, Duration::ZERO), (DISK_RATE, FLUSH)] {
        if figures.wants(name) {
            let rates = |mode| (0..RATES).map(|_| trials.rate(mode, flush)).collect::<Result<Vec<_>>>();
            let (ours, sync) = (rates(Mode::Default)?, rates(Mode::Sync)?);
            figures.record(name, Unit::MegabytesPerSecond, &ours, SYNC, &sync);
        }
    }
    for (name, work, peer, peer_name) in [
        (JOBS, Work::Flushed, Mode::Sync, SYNC),
        (CLOSED, Work::Closed, Mode::Sync, SYNC),
        (BARE, Work::Closed, Mode::Bare, "a plain mount"),
        (OPEN, Work::Open, Mode::Sync, SYNC),
    ] {
        if figures.wants(name) {
            let pulls = |mode| (0..pulls()).map(|_| trials.pull(mode, work)).collect::<Result<Vec<_>>>();
            let (ours, peers) = (pulls(Mode::Default)?, pulls(peer)?);
            figures.record(name, Unit::Percent, &ours, peer_name, &peers);
        }
    }
    Ok(())
}

fn pulls() -> usize {
    std::env::var("OFFSITE_BENCH_PULLS").ok().and_then(|text| text.parse().ok()).unwrap_or(PULLS)
}

struct Trials<'vm> {
    vm: &'vm Vm,
    drive: &'vm Prepared,
    /// What is on the drive before each trial.
    pristine: Vec<u8>,
}

impl Trials<'_> {
    /// Plugs the drive as it was at first, and opens it; returns it and where its files are.
    fn open(&self, mode: Mode, flush: Duration) -> Result<(VolatileDrive, String)> {
        restore(&self.drive.drive, &self.pristine)?;
        let volatile = VolatileDrive::of(&self.drive.drive, flush)?;
        let device = self.drive.drive.by_id();
        let sync = mode == Mode::Sync;
        self.vm.sh(&format!(
            "sed -i '/^sync = /d' /etc/offsite/site.toml; sed -i '1i sync = {sync}' /etc/offsite/site.toml\n\
             rm -rf /var/lib/offsite/torn/*"
        ))?;
        self.vm.plug_volatile(&volatile)?;
        self.vm.wait_for("the drive", LIMIT, &format!("test -b {device} && udevadm settle"))?;
        let path = match mode {
            Mode::Bare => {
                self.vm.sh(&format!(
                    "cryptsetup open --key-file /etc/offsite/key {device} bare && mount /dev/mapper/bare /mnt/bare"
                ))?;
                "/mnt/bare".to_owned()
            }
            Mode::Default | Mode::Sync => {
                self.vm.sh("systemctl start offsited")?;
                Sides::path(Side::Ours, self.drive)
            }
        };
        self.vm.wait_for("its files", LIMIT, &format!("ls {path} | grep c0_"))?;
        let mounted = self.vm.sh(&format!("grep ' {path} ext4 ' /proc/mounts"))?;
        ensure!(mounted.contains("sync,") == sync, "mounted otherwise than asked for: {mounted}");
        Ok((volatile, path))
    }

    /// Takes the drive away and clears away what it leaves.
    fn away(&self) -> Result<()> {
        self.vm.unplug(&self.drive.drive)?;
        self.vm.wait_for("the drive to go", LIMIT, "! ls /dev/sd* && udevadm settle")?;
        self.vm
            .sh("systemctl stop offsited; ! test -e /dev/mapper/bare || { umount --lazy /mnt/bare; dmsetup remove --force bare; }")
            .map(drop)
    }

    /// MB/s of writing 32 MiB in blocks of Bacula's size and flushing them at the end.
    fn rate(&self, mode: Mode, flush: Duration) -> Result<f64> {
        const BLOCK: u32 = 64_512;
        const BLOCKS: u32 = (32 << 20) / BLOCK;
        let (volatile, path) = self.open(mode, flush)?;
        let said = self.vm.sh_within(
            &format!(
                "set -e; begun=$EPOCHREALTIME\n\
                 dd if=/dev/zero of={path}/written bs={BLOCK} count={BLOCKS} conv=fsync 2>/dev/null\n\
                 ended=$EPOCHREALTIME; awk \"BEGIN {{ print $ended - $begun }}\""
            ),
            LIMIT,
        )?;
        self.away()?;
        drop(volatile);
        Ok(f64::from(BLOCK * BLOCKS) / 1e6 / said.trim().parse::<f64>().context(said)?)
    }

    /// Pulls the drive at a random moment of some work; of what was promised until then, the percentage that is left
    /// when the drive loses its cache.
    fn pull(&self, mode: Mode, work: Work) -> Result<f64> {
        let (volatile, path) = self.open(mode, FLUSH)?;
        let one = match work {
            Work::Flushed => "dd if=/run/part of=$at/f-$n bs=64512 conv=fsync status=none",
            Work::Closed => "cp /run/part $at/f-$n",
            Work::Open => "cat /run/part >&8",
        };
        let writer = self.vm.spawn(&format!(
            "at={path}; exec 8>$at/open; for n in $(seq 160); do {one} && echo promised $n || break; done 2>/dev/null; exec 8>&-; true"
        ))?;
        let count = || writer.text().lines().filter(|l| l.starts_with("promised")).count();
        self.vm.wait_until("the first part", LIMIT, || Ok(count() > 0))?;
        std::thread::sleep(random_moment());
        let (cut, promised) = volatile.cut(count);
        self.vm.unplug(&self.drive.drive)?;
        writer.wait(LIMIT)?;
        self.vm.sh(
            "systemctl stop offsited; ! test -e /dev/mapper/bare || { umount --lazy /mnt/bare; dmsetup remove --force bare; }",
        )?;
        let with_cache = self.left(&cut.written, work, promised)?;
        let without = self.left(&cut.flushed, work, promised)?;
        println!(
            "    promised {promised} x {} KiB; kept {with_cache}, and {without} when the cache is lost",
            PART >> 10
        );
        Ok(100.0 * f64::from(u32::try_from(without)?) / f64::from(u32::try_from(promised)?))
    }

    /// Plugs the drive with these contents, and counts the parts that are there of those promised.
    fn left(&self, contents: &[u8], work: Work, promised: usize) -> Result<usize> {
        restore(&self.drive.drive, contents)?;
        self.vm.sh("mkdir -p /var/lib/offsite/torn && systemctl start offsited")?;
        self.vm.sh(&format!("echo pulled >/var/lib/offsite/torn/{}", self.drive.fs_uuid))?;
        self.vm.plug(&self.drive.drive)?;
        let path = Sides::path(Side::Ours, self.drive);
        self.vm.wait_for("its files", LIMIT, &format!("ls {path} | grep c0_"))?;
        let same = match work {
            Work::Open => format!(
                "dd if={path}/open bs={PART} skip=$((n - 1)) count=1 status=none 2>/dev/null | cmp -s - /run/part"
            ),
            _ => format!("cmp -s {path}/f-$n /run/part"),
        };
        let said = self.vm.sh(&format!(
            "kept=0; for n in $(seq {promised}); do if {same}; then kept=$((kept + 1)); fi; done; echo $kept"
        ))?;
        self.away()?;
        said.trim().parse().context(said)
    }
}

/// Up to two seconds.
fn random_moment() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    Duration::from_millis(u64::from(nanos / 1000 % 2000))
}
