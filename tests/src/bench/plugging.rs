//! From the plug to the first file, in one VM: offsited against the tutorial's udev rule and autofs(8) maps,
//! with the same drives, key file and key slot. Times are the host's, from `device_add` to the end of a loop
//! that waits in the guest since before the plug.

use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::figures::{Figures, Unit};
use super::measure::turns;
use crate::guest_site::GuestSite;
use crate::tutorial::Tutorial;
use crate::vm::{Drive, Image, Running, Size, Vm};

const LINKED: &str = "plug to first file listed, asked once udev has its link";
const AWAY: &str = "plug to first file listed, asked for while away";
const ACCESS: &str = "first access of a plugged, locked drive";
const WRITE: &str = "write 64 MiB to a mounted drive";
const TWO: &str = "two drives at once, children_max=2";

/// The figures of this module.
pub(super) const NAMES: [&str; 5] = [LINKED, AWAY, ACCESS, WRITE, TWO];

const RULE_AND_MAPS: &str = "udev rule + autofs(8)";
const PLUGS: usize = 5;
const ACCESSES: usize = 5;
const WRITES: usize = 3;
const LIMIT: Duration = Duration::from_mins(3);
/// The peer's deadlock lasts until udevd kills its workers, after 180 s; nobody needs to wait for that.
const CAP: Duration = Duration::from_mins(1);

/// One drive with `offsite prepare`d contents.
struct Prepared {
    drive: Drive,
    luks_uuid: String,
    fs_uuid: String,
    name: &'static str,
}

/// Both set-ups in one guest; one of them is up at a time.
struct Sides<'vm> {
    vm: &'vm Vm,
    tutorial: Tutorial<'vm>,
    drives: Vec<Prepared>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Peer,
}

/// When the guest first asks for the files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// As soon as udev has linked what the set-up starts from.
    OnceLinked,
    /// From before the plug on, as Bacula does.
    Always,
}

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    if let Some(why) = Image::lacking() {
        for name in NAMES {
            figures.skip(name, &why);
        }
        return Ok(());
    }
    let image = Image::ready(|line| println!("    {line}"))?;
    Vm::start(&image)?.told(|vm| {
        let drives: &[_] = if figures.wants(TWO) { &["A", "B"] } else { &["A"] };
        measure_in(&Sides::set_up(vm, drives)?, figures)
    })
}

fn measure_in(sides: &Sides<'_>, figures: &mut Figures) -> Result<()> {
    if figures.wants(LINKED) {
        let plug = |side| sides.plug(side, Asking::OnceLinked);
        let (ours, peers) = alternate(PLUGS, plug)?;
        figures.record(LINKED, Unit::Seconds, &ours, RULE_AND_MAPS, &peers);
    }
    if figures.wants(ACCESS) {
        let (ours, peers) = sides.accesses()?;
        figures.record(ACCESS, Unit::Seconds, &ours, "cryptsetup open + mount, by hand", &peers);
    }
    if figures.wants(AWAY) {
        let plug = |side| sides.plug(side, Asking::Always);
        let (ours, peers) = ours_around_one_peer(plug)?;
        figures.record(AWAY, Unit::Seconds, &ours, RULE_AND_MAPS, &[peers]);
    }
    if figures.wants(WRITE) {
        let (ours, peers) = alternate(WRITES, |side| sides.write(side))?;
        figures.record(WRITE, Unit::MegabytesPerSecond, &ours, "the tutorial's sync mount", &peers);
    }
    if figures.wants(TWO) {
        let (ours, peers) = ours_around_one_peer(|side| sides.two(side))?;
        let name = if peers < CAP.as_secs_f64() {
            RULE_AND_MAPS.to_owned()
        } else {
            format!("{RULE_AND_MAPS}: > {} s, stopped", CAP.as_secs())
        };
        figures.record(TWO, Unit::Seconds, &ours, &name, &[peers]);
    }
    Ok(())
}

impl<'vm> Sides<'vm> {
    fn set_up(vm: &'vm Vm, names: &[&'static str]) -> Result<Self> {
        GuestSite::install(vm)?;
        let mut drives = Vec::new();
        for &name in names {
            let drive = vm.blank_drive(&format!("BENCH-{name}"), Size::mib(192))?;
            vm.plug(&drive)?;
            vm.wait_for("the drive", LIMIT, &format!("test -b {}", drive.by_id()))?;
            let said = vm.sh_within(
                &format!(
                    "offsite prepare {} --name {name} --skip-wipe --json --yes-destroy {} 2>/dev/null",
                    drive.by_id(),
                    drive.serial()
                ),
                LIMIT,
            )?;
            // What comes before the report is for people.
            let report = said.find('{').and_then(|at| said.get(at..)).unwrap_or_default();
            let report: serde_json::Value = serde_json::from_str(report).context(said.clone())?;
            let of = |key: &str| {
                let value = report.get("magazine").and_then(|m| m.get(key)).and_then(|v| v.as_str());
                value.map(str::to_owned).with_context(|| format!("no {key} in {report}"))
            };
            let (luks_uuid, fs_uuid) = (of("luks_uuid")?, of("fs_uuid")?);
            drives.push(Prepared { drive, luks_uuid, fs_uuid, name });
        }
        let tutorial = Tutorial::install(vm)?;
        vm.sh("install -m 400 /etc/offsite/key /etc/bacula/include/Bacula_Key_File")?;
        let sides = Self { vm, tutorial, drives };
        sides.vm.sh("systemctl stop autofs")?;
        sides.unplug(&sides.drives)?;
        Ok(sides)
    }

    fn only(&self) -> Result<&Prepared> {
        self.drives.first().context("a drive")
    }

    fn path(side: Side, prepared: &Prepared) -> String {
        match side {
            Side::Ours => format!("/srv/offsite/{}", prepared.fs_uuid),
            Side::Peer => Tutorial::path(&prepared.fs_uuid),
        }
    }

    /// Brings one set-up up; the other one is down.
    fn up(&self, side: Side) -> Result<()> {
        match side {
            Side::Ours => self.vm.sh("systemctl start offsited").map(drop),
            Side::Peer => {
                self.vm.sh("systemctl start autofs")?;
                self.tutorial.unlock_by_udev()
            }
        }
    }

    /// Takes a set-up down, with its mounts and mappings.
    fn down(&self, side: Side) -> Result<()> {
        let stop = match side {
            Side::Ours => "systemctl stop offsited",
            Side::Peer => {
                "systemctl stop autofs; rm -f /etc/udev/rules.d/55-eSATA-LUKS.rules; udevadm control --reload"
            }
        };
        self.vm
            .sh(&format!(
                "{stop}; udevadm settle --timeout=20\n\
             for mapping in $(dmsetup ls --target crypt | grep -v '^No' | cut -f1); do\n\
             umount -q /dev/mapper/$mapping; cryptsetup close $mapping || exit 1; done"
            ))
            .map(drop)
    }

    fn unplug(&self, drives: &[Prepared]) -> Result<()> {
        for prepared in drives {
            self.vm.unplug(&prepared.drive)?;
        }
        self.vm.wait_for("the drives to go", LIMIT, "! ls /dev/sd* && udevadm settle").map(drop)
    }

    /// Starts the loop that ends when a drive's volumes are listed.
    fn watch(&self, side: Side, asking: Asking, prepared: &Prepared) -> Result<Running> {
        let path = Self::path(side, prepared);
        let name = prepared.name;
        let linked = match (asking, side) {
            (Asking::Always, _) => String::new(),
            // Ours unlocks on access, so udev knows no more than the container.
            (Asking::OnceLinked, Side::Ours) => Self::until_linked(&prepared.luks_uuid),
            (Asking::OnceLinked, Side::Peer) => Self::until_linked(&prepared.fs_uuid),
        };
        let running = self.vm.spawn(&format!(
            "touch /run/watching-{name}\n{linked}\
             until [[ $(ls {path} 2>/dev/null) == *c0_{name}_0001* ]]; do sleep 0.02; done"
        ))?;
        let ready = format!("test -e /run/watching-{name} && rm /run/watching-{name}");
        self.vm.wait_for("the loop in the guest", LIMIT, &ready)?;
        Ok(running)
    }

    fn until_linked(uuid: &str) -> String {
        format!("until [[ -e /dev/disk/by-uuid/{uuid} ]]; do sleep 0.02; done\n")
    }

    /// Seconds from the plug to the listing.
    fn plug(&self, side: Side, asking: Asking) -> Result<f64> {
        let prepared = self.only()?;
        self.up(side)?;
        let listed = self.watch(side, asking, prepared)?;
        if asking == Asking::Always {
            std::thread::sleep(Duration::from_millis(500));
        }
        let plugged = Instant::now();
        self.vm.plug(&prepared.drive)?;
        listed.wait(LIMIT)?;
        let took = plugged.elapsed();
        self.down(side)?;
        self.unplug(slice::from_ref(prepared))?;
        Ok(took.as_secs_f64())
    }

    /// Seconds of the first access, by the guest's clock, as a person or Bacula would wait for it.
    fn accesses(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let prepared = self.only()?;
        let device = prepared.drive.by_id();
        self.vm.plug(&prepared.drive)?;
        self.vm.wait_for("the drive", LIMIT, &format!("test -b {device} && udevadm settle"))?;
        let result = alternate(ACCESSES, |side| {
            let (before, access, after) = match side {
                Side::Ours => (
                    "systemctl start offsited; sleep 1",
                    format!("ls {}", Self::path(side, prepared)),
                    "systemctl stop offsited",
                ),
                Side::Peer => (
                    "mkdir -p /mnt/by-hand; sleep 1",
                    format!(
                        "cryptsetup open --key-slot 1 --key-file /etc/offsite/key {device} by-hand && \
                         mount /dev/mapper/by-hand /mnt/by-hand && ls /mnt/by-hand"
                    ),
                    "umount /mnt/by-hand && cryptsetup close by-hand",
                ),
            };
            let said = self.vm.sh(&format!(
                "set -e; {before}; udevadm settle\n\
                 begun=$EPOCHREALTIME; files=$( {access} ); ended=$EPOCHREALTIME\n\
                 [[ $files == *c0_{}_0001* ]]; {after} >&2; echo took $begun $ended",
                prepared.name
            ))?;
            let times: Vec<f64> = said
                .split_once("took ")
                .context("no times")?
                .1
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            let [begun, ended] = times.as_slice() else { anyhow::bail!("no two times: {said}") };
            Ok(ended - begun)
        });
        self.unplug(slice::from_ref(prepared))?;
        result
    }

    /// MB/s of writing 64 MiB in blocks of Bacula's size and flushing them.
    fn write(&self, side: Side) -> Result<f64> {
        const BLOCK: u32 = 64_512;
        const BLOCKS: u32 = (64 << 20) / BLOCK;
        let prepared = self.only()?;
        self.up(side)?;
        let listed = self.watch(side, Asking::OnceLinked, prepared)?;
        self.vm.plug(&prepared.drive)?;
        listed.wait(LIMIT)?;
        let file = format!("{}/written", Self::path(side, prepared));
        let said = self.vm.sh_within(
            &format!(
                "set -e; begun=$EPOCHREALTIME\n\
                 dd if=/dev/zero of={file} bs={BLOCK} count={BLOCKS} conv=fsync 2>/dev/null\n\
                 ended=$EPOCHREALTIME; rm {file}; sync; awk \"BEGIN {{ print $ended - $begun }}\""
            ),
            LIMIT,
        )?;
        self.down(side)?;
        self.unplug(slice::from_ref(prepared))?;
        Ok(f64::from(BLOCK * BLOCKS) / 1e6 / said.trim().parse::<f64>().context(said)?)
    }

    /// Seconds from plugging two drives at once until both are listed, at most [`CAP`].
    fn two(&self, side: Side) -> Result<f64> {
        const USUAL_WORKERS: u32 = 8;
        const FEW_WORKERS: u32 = 2;
        self.up(side)?;
        self.vm.limit_udev_workers(FEW_WORKERS)?;
        let mut watched = Vec::new();
        for prepared in &self.drives {
            watched.push(self.watch(side, Asking::OnceLinked, prepared)?);
        }
        let plugged = Instant::now();
        for prepared in &self.drives {
            self.vm.plug(&prepared.drive)?;
        }
        let mut listed = Vec::new();
        for running in watched {
            listed.push(running.wait(CAP));
        }
        let took = plugged.elapsed();
        // With more workers the rule's own deadlock ends at once, and so do the loops.
        self.vm.limit_udev_workers(USUAL_WORKERS)?;
        let paths: Vec<String> =
            self.drives.iter().map(|p| format!("[[ $(ls {}) == *c0_* ]]", Self::path(side, p))).collect();
        self.vm.wait_for("both drives", LIMIT, &paths.join(" && "))?;
        self.down(side)?;
        self.unplug(&self.drives)?;
        let all = listed.iter().all(Result::is_ok);
        Ok(if all { took.min(CAP) } else { CAP }.as_secs_f64())
    }
}

/// The sides, taking turns.
fn alternate(count: usize, measure: impl Fn(Side) -> Result<f64>) -> Result<(Vec<f64>, Vec<f64>)> {
    turns(count, || measure(Side::Ours), || measure(Side::Peer))
}

/// Ours three times and the peer once, where the peer waits for some minute that is the same each time.
fn ours_around_one_peer(measure: impl Fn(Side) -> Result<f64>) -> Result<(Vec<f64>, f64)> {
    let ours = || measure(Side::Ours).context("ours");
    let first = ours()?;
    let peer = measure(Side::Peer).context("the peer")?;
    Ok((vec![first, ours()?, ours()?], peer))
}
