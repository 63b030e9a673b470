//! What a person who changes drives waits for, in one VM: offsited against the tutorial's udev rule and autofs(8) maps,
//! and against systemd-cryptsetup with an automount unit; the same drives, key file and key slot. Times are the host's,
//! from `device_add` to the end of a loop that waits in the guest since before the plug, unless a figure says otherwise.

mod sides;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::figures::{Figures, Unit};
use super::measure::turns;
use crate::vm::{Running, Vm};

use sides::{Goal, IDLE};
pub(super) use sides::{LIMIT, Prepared, Side, Sides};

const LINKED: [&str; 2] = [
    "plug to first file listed, asked once udev has its link (autofs)",
    "plug to first file listed, asked once udev has its link (systemd)",
];
const AWAY: [&str; 2] = [
    "plug to first file listed, asked for while away (autofs)",
    "plug to first file listed, asked for while away (systemd)",
];
const ABSENT: [&str; 2] =
    ["plugging: access to an absent drive (autofs)", "plugging: access to an absent drive (systemd)"];
const TWO: [&str; 2] = [
    "plugging: two drives at once, children_max=2 (autofs)",
    "plugging: two drives at once, children_max=2 (systemd)",
];
const HELD: [&str; 2] = [
    "plug after a tear-out under an open file, to written (autofs)",
    "plug after a tear-out under an open file, to written (systemd)",
];
const LOCKED: [&str; 2] = [
    "plugging: last access to locked, beyond the idle time (autofs)",
    "plugging: last access to locked, beyond the idle time (systemd)",
];
const ACCESS: &str = "first access of a plugged, locked drive";
const ACCESS_EARLIER: &str = "first access of a plugged, locked drive (earlier release)";
/// Names the directory with an earlier release's `offsite`, `offsited` and `vchanger`.
const EARLIER: &str = "PEER_OFFSITE";

/// The figures of this module.
pub(super) const NAMES: [&str; 14] = [
    LINKED[0],
    LINKED[1],
    AWAY[0],
    AWAY[1],
    ABSENT[0],
    ABSENT[1],
    TWO[0],
    TWO[1],
    HELD[0],
    HELD[1],
    LOCKED[0],
    LOCKED[1],
    ACCESS,
    ACCESS_EARLIER,
];

/// How often accesses are measured beside an earlier release, whose difference is small.
const EARLIER_TIMES: usize = 12;

/// How often the quick ones are measured.
const TIMES: usize = 3;
/// The tutorial's deadlock lasts until udevd kills its workers, after 180 s; nobody needs to wait for that.
const DEADLOCK_CAP: Duration = Duration::from_secs(30);
/// So long is waited for what never comes.
const NEVER_CAP: Duration = Duration::from_secs(15);

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let Some(image) = super::guest_image(figures, &NAMES)? else { return Ok(()) };
    Vm::start(&image)?.told(|vm| measure_in(&Sides::set_up(vm, &["A", "B"])?, figures))
}

fn measure_in(sides: &Sides<'_>, figures: &mut Figures) -> Result<()> {
    compare(figures, LINKED, TIMES, |side| sides.plug(side, Goal::ListedOnceLinked).map(Took::Seconds))?;
    compare(figures, ABSENT, 1, |side| sides.absent(side).map(Took::Seconds))?;
    // The peers wait for times that are the same at each go.
    compare(figures, AWAY, 1, |side| sides.plug(side, Goal::Listed).map(Took::Seconds))?;
    if figures.wants(ACCESS) {
        let (ours, by_hand) = sides.accesses()?;
        figures.record(ACCESS, Unit::Seconds, &ours, "cryptsetup open + mount, by hand", &by_hand);
    }
    match std::env::var_os(EARLIER).map(PathBuf::from) {
        _ if !figures.wants(ACCESS_EARLIER) => {}
        None => {
            figures.skip(ACCESS_EARLIER, "no peer: name the directory of earlier programs in PEER_OFFSITE");
        }
        Some(earlier) => {
            let (ours, theirs) = sides.accesses_beside(&earlier)?;
            figures.record(ACCESS_EARLIER, Unit::Seconds, &ours, "the earlier release", &theirs);
        }
    }
    compare(figures, LOCKED, 1, |side| sides.locked(side))?;
    compare(figures, TWO, 1, |side| sides.two(side))?;
    compare(figures, HELD, 1, |side| sides.held(side))
}

/// What one go took.
enum Took {
    Seconds(f64),
    /// It didn't come to its end within that time.
    MoreThan(Duration),
}

/// Measures ours and both peers, taking turns, and records ours against each of them.
fn compare(
    figures: &mut Figures,
    names: [&str; 2],
    times: usize,
    mut measure: impl FnMut(Side) -> Result<Took>,
) -> Result<()> {
    if !names.iter().any(|name| figures.wants(name)) {
        return Ok(());
    }
    let mut ours = Vec::new();
    let mut theirs = [(Vec::new(), false), (Vec::new(), false)];
    let mut once = |side: Side| {
        Ok::<_, anyhow::Error>(match measure(side).with_context(|| side.name())? {
            Took::Seconds(seconds) => (seconds, false),
            Took::MoreThan(limit) => (limit.as_secs_f64(), true),
        })
    };
    for _ in 0..times {
        let (seconds, stopped) = once(Side::Ours)?;
        if stopped {
            bail!("ours took more than {seconds} s");
        }
        ours.push(seconds);
        for (side, (samples, stopped)) in Side::PEERS.into_iter().zip(&mut theirs) {
            let (seconds, over) = once(side)?;
            samples.push(seconds);
            *stopped |= over;
        }
    }
    for ((name, side), (samples, stopped)) in names.into_iter().zip(Side::PEERS).zip(&theirs) {
        let peer = if *stopped { format!("{}: more, stopped", side.name()) } else { side.name().to_owned() };
        figures.record(name, Unit::Seconds, &ours, &peer, samples);
    }
    Ok(())
}

/// Waits for a loop in the guest; none when it isn't done in time.
fn finish(running: Running, since: Instant, cap: Duration) -> Took {
    match running.wait(cap) {
        Ok(output) if output.success() => Took::Seconds(since.elapsed().as_secs_f64()),
        _ => Took::MoreThan(cap),
    }
}

impl Sides<'_> {
    /// Seconds from the plug to the goal.
    fn plug(&self, side: Side, goal: Goal) -> Result<f64> {
        let prepared = self.first()?;
        self.up(side)?;
        let listed = self.watch(side, goal, prepared)?;
        if goal == Goal::Listed {
            std::thread::sleep(Duration::from_millis(500));
        }
        let plugged = Instant::now();
        self.vm.plug(&prepared.drive)?;
        listed.wait(LIMIT)?;
        let took = plugged.elapsed();
        self.down(side)?;
        self.unplug_one(prepared)?;
        Ok(took.as_secs_f64())
    }

    /// Seconds that somebody waits who looks where a drive isn't, by the guest's clock.
    fn absent(&self, side: Side) -> Result<f64> {
        let path = Self::path(side, self.first()?);
        self.up(side)?;
        let took = self.seconds("", &format!("ls {path} || true"), "")?;
        self.down(side)?;
        Ok(took)
    }

    /// Seconds that the second of three scripts takes, by the guest's clock.
    fn seconds(&self, before: &str, timed: &str, after: &str) -> Result<f64> {
        let said = self.vm.sh_within(
            &format!(
                "set -e\n{before}\nbegun=$EPOCHREALTIME\n{{ {timed}\n}} >&2; ended=$EPOCHREALTIME\n{after}\n\
                 echo \"took $begun $ended\""
            ),
            LIMIT,
        )?;
        let (_, clocks) = said.rsplit_once("took ").context("no times")?;
        let (begun, ended) = clocks.trim().split_once(' ').context("two times")?;
        Ok(ended.parse::<f64>()? - begun.parse::<f64>()?)
    }

    /// Seconds of the first access, as a person or Bacula would wait for it.
    fn accesses(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let prepared = self.first()?;
        let device = prepared.drive.by_id();
        let path = Self::path(Side::Ours, prepared);
        self.vm.plug(&prepared.drive)?;
        self.vm.wait_for("the drive", LIMIT, &format!("test -b {device} && udevadm settle"))?;
        let listed = format!("grep -q c0_{}_0001", prepared.name);
        let ours = || self.first_access(prepared, &path);
        let by_hand = || {
            let open = format!(
                "cryptsetup open --key-slot 1 --key-file /etc/offsite/key {device} by-hand && \
                 mount /dev/mapper/by-hand /mnt/by-hand && ls /mnt/by-hand | {listed}"
            );
            self.seconds(
                "mkdir -p /mnt/by-hand; sleep 1; udevadm settle",
                &open,
                "umount /mnt/by-hand; udevadm settle; cryptsetup close by-hand",
            )
        };
        let result = turns(2 * TIMES, ours, by_hand);
        self.unplug_one(prepared)?;
        result
    }

    /// Seconds of the first access after the daemon's start.
    fn first_access(&self, prepared: &Prepared, path: &str) -> Result<f64> {
        self.seconds(
            "systemctl start offsited; sleep 1; udevadm settle",
            &format!("ls {path} | grep -q c0_{}_0001", prepared.name),
            &format!(
                "offsite lock {}; systemctl stop offsited; udevadm settle; ! dmsetup ls --target crypt | grep '('",
                prepared.name
            ),
        )
    }

    /// Seconds of the first access, by these programs and by those of an earlier release, on the same drive.
    fn accesses_beside(&self, earlier: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
        const PROGRAMS: [&str; 3] = ["offsite", "offsited", "vchanger"];
        let prepared = self.first()?;
        let path = Self::path(Side::Ours, prepared);
        // An earlier release may not know what a later one writes to site.toml beside the register.
        self.vm.sh("mkdir /opt/now /opt/earlier && cp /usr/bin/{offsite,offsited,vchanger} /opt/now/ && \
             sed -i /^luks_digest/d /etc/offsite/site.toml")?;
        for program in PROGRAMS {
            self.vm.put(&earlier.join(program), &format!("/opt/earlier/{program}"), 0o755)?;
        }
        self.vm.plug(&prepared.drive)?;
        let device = prepared.drive.by_id();
        self.vm.wait_for("the drive", LIMIT, &format!("test -b {device} && udevadm settle"))?;
        let with = |programs: &str| {
            self.vm.sh(&format!("cp /opt/{programs}/* /usr/bin/"))?;
            self.first_access(prepared, &path)
        };
        // The first of each also reads the programs from the disk.
        with("now")?;
        with("earlier")?;
        let result = turns(EARLIER_TIMES, || with("now"), || with("earlier"));
        self.vm.sh("cp /opt/now/* /usr/bin/")?;
        self.unplug_one(prepared)?;
        result
    }

    /// Seconds beyond the idle time from the last access until no container is open.
    fn locked(&self, side: Side) -> Result<Took> {
        let prepared = self.first()?;
        self.up(side)?;
        self.plug_and_list(side, prepared)?;
        let cap = NEVER_CAP.as_secs();
        let until = format!(
            "end=$((SECONDS + {cap} + {IDLE})); while dmsetup ls --target crypt | grep -q '('; do\n\
             sleep 0.05; [ $SECONDS -lt $end ] || break; done"
        );
        let took =
            self.seconds(&format!("ls {} >&2", Self::path(side, prepared)), &until, "")? - f64::from(IDLE);
        let open = self.vm.run("dmsetup ls --target crypt | grep -q '('")?.success();
        self.down(side)?;
        self.unplug_one(prepared)?;
        Ok(if open { Took::MoreThan(NEVER_CAP) } else { Took::Seconds(took) })
    }

    /// Seconds from plugging two drives at once until both are listed.
    fn two(&self, side: Side) -> Result<Took> {
        const USUAL_WORKERS: u32 = 8;
        const FEW_WORKERS: u32 = 2;
        self.up(side)?;
        self.vm.limit_udev_workers(FEW_WORKERS)?;
        let watched = self
            .drives
            .iter()
            .map(|p| self.watch(side, Goal::ListedOnceLinked, p))
            .collect::<Result<Vec<_>>>()?;
        let plugged = Instant::now();
        for prepared in &self.drives {
            self.vm.plug(&prepared.drive)?;
        }
        let cap = if side == Side::Tutorial { DEADLOCK_CAP } else { LIMIT };
        let took = watched.into_iter().map(|w| finish(w, plugged, cap)).reduce(later);
        // With more workers the rule's own deadlock ends at once, and so do the loops.
        self.vm.limit_udev_workers(USUAL_WORKERS)?;
        let listed = |p| format!("[[ $(ls {}) == *c0_* ]]", Self::path(side, p));
        let all: Vec<String> = self.drives.iter().map(listed).collect();
        self.vm.wait_for("both drives", LIMIT, &all.join(" && "))?;
        self.down(side)?;
        self.unplug(&self.drives)?;
        took.context("no drive")
    }

    /// Seconds from the plug of a drive that was torn out under an open file until it can be written; the process that
    /// holds the file lives on.
    fn held(&self, side: Side) -> Result<Took> {
        let prepared = self.first()?;
        self.up(side)?;
        self.plug_and_list(side, prepared)?;
        let volume = format!("{}/c0_{}_0001", Self::path(side, prepared), prepared.name);
        let holder = self.vm.spawn(&format!(
            "rm -f /run/let-go; exec 9<>{volume}; touch /run/held; until [ -e /run/let-go ]; do sleep 0.1; done"
        ))?;
        self.vm.wait_for("the holder", LIMIT, "test -e /run/held && rm /run/held")?;
        self.unplug_one(prepared)?;
        std::thread::sleep(Duration::from_secs(2));
        let written = self.watch(side, Goal::Written, prepared)?;
        let plugged = Instant::now();
        self.vm.plug(&prepared.drive)?;
        let cap = if side == Side::Ours { LIMIT } else { NEVER_CAP };
        let took = finish(written, plugged, cap);
        self.vm.sh("touch /run/let-go")?;
        holder.wait(LIMIT)?;
        self.unplug_one(prepared)?;
        self.down(side)?;
        Ok(took)
    }
}

fn later(one: Took, other: Took) -> Took {
    match (one, other) {
        (Took::Seconds(one), Took::Seconds(other)) => Took::Seconds(one.max(other)),
        (Took::MoreThan(cap), _) | (_, Took::MoreThan(cap)) => Took::MoreThan(cap),
    }
}
