//! What the daemon costs when nothing happens, and whether everything is well after what shouldn't happen, in the VM.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::figures::{Figures, Unit};
use crate::guest_drives::{DriveSite, Magazine, SMALL, SOON};
use crate::storms;
use crate::tear_outs::{Bench, Moment, Tally};
use crate::tutorial::Tutorial;
use crate::vm::{Image, Vm};

const MEMORY: &str = "daemon: resident memory";
const WAKE_UPS: &str = "daemon: wake-ups, nothing mounted";
const LOCKED: &str = "daemon: last access to locked, idle time 10 s";
const TWO: &str = "two drives at once, children_max=2, against one";
const HELD: &str = "plug to listed, a file of the torn-out drive still open";
const STORM: &str = "event storm 16 x 100: drives as after a quiet start";
const TEAR_OUTS: &str = "tear-outs at 7 moments: recovered by themselves";

/// The figures of this module.
pub(super) const NAMES: [&str; 7] = [MEMORY, WAKE_UPS, LOCKED, TWO, HELD, STORM, TEAR_OUTS];

const REPETITIONS: usize = 5;
const MINUTE: Duration = Duration::from_mins(1);
const LIMIT: Duration = Duration::from_mins(3);
const STORM_DRIVES: u32 = 16;
const STORM_EVENTS: u32 = 100;
/// How often at each moment, unless `OFFSITE_TEAR_OUTS` says otherwise.
const TEAR_OUTS_EACH: u32 = 30;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let Some(image) = super::guest_image(figures, &NAMES)? else { return Ok(()) };
    figures.long(STORM);
    figures.long(TEAR_OUTS);
    if [MEMORY, WAKE_UPS, LOCKED, TWO, HELD].iter().any(|name| figures.wants(name)) {
        Vm::start(&image)?.told(|vm| at_rest_and_at_work(vm, figures))?;
    }
    if figures.wants(STORM) {
        Vm::start(&image)?.told(|vm| storm(vm, figures))?;
    }
    if figures.wants(TEAR_OUTS) {
        tear_outs(&image, figures)?;
    }
    Ok(())
}

fn at_rest_and_at_work(vm: &Vm, figures: &mut Figures) -> Result<()> {
    let site = DriveSite::install(vm)?;
    let (a, b) = (site.put_away("A", SMALL, "")?, site.put_away("B", SMALL, "")?);
    site.start()?;
    // It has worked before it rests.
    site.plug(&a.drive)?;
    site.wait_for_volumes(&a)?;
    site.wait_for_rest()?;
    if [MEMORY, WAKE_UPS].iter().any(|name| figures.wants(name)) {
        at_rest(vm, figures)?;
    }
    vm.unplug(&a.drive)?;
    site.wait_for_state(&a, "away")?;
    if figures.wants(TWO) {
        vm.limit_udev_workers(2)?;
        let one = || listed_after(&site, &[&a]);
        let two = || listed_after(&site, &[&a, &b]);
        let (two, one) = super::measure::turns(REPETITIONS, two, one)?;
        figures.record(TWO, Unit::Seconds, &two, "ours, one drive", &one);
        vm.limit_udev_workers(8)?;
    }
    if figures.wants(HELD) {
        let plain = || listed_after(&site, &[&a]);
        let (held, plain) = super::measure::turns(REPETITIONS, || listed_under_a_holder(&site, &a), plain)?;
        figures.record(HELD, Unit::Seconds, &held, "ours, nothing left behind", &plain);
    }
    if figures.wants(LOCKED) {
        locked(&site, &a, figures)?;
    }
    Ok(())
}

/// What a process costs while nothing happens.
struct Rest {
    memory: f64,
    wake_ups: f64,
}

/// The watchdog is fed every half of the 60 seconds that the unit allows.
const WATCHDOG_FEEDS: f64 = 2.0;

fn at_rest(vm: &Vm, figures: &mut Figures) -> Result<()> {
    Tutorial::install(vm)?;
    let ours = rest(vm, "offsited")?;
    let peer = rest(vm, "autofs")?;
    let automount = "autofs(8)'s automount";
    figures.record(MEMORY, Unit::Mebibytes, &[ours.memory], automount, &[peer.memory]);
    figures.record(WAKE_UPS, Unit::WakeUps, &[ours.wake_ups], "its timer, the watchdog's", &[WATCHDOG_FEEDS]);
    vm.sh("systemctl stop autofs").map(drop)
}

fn rest(vm: &Vm, unit: &str) -> Result<Rest> {
    let said = vm.sh_within(
        &format!(
            "pids=$(cat /sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs); sleep 2\n\
             look() {{ for pid in $pids; do cat /proc/$pid/task/*/status; done | awk '/ctxt_switches/ {{ n += $2 }} END {{ print n }}'; }}\n\
             look; sleep {}; look; for pid in $pids; do cat /proc/$pid/status; done | awk '/VmRSS/ {{ n += $2 }} END {{ print n }}'",
            MINUTE.as_secs()
        ),
        LIMIT,
    )?;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [switched, switched_then, memory] = numbers.as_slice() else { anyhow::bail!("{unit}: {said}") };
    Ok(Rest { memory: memory / 1024.0, wake_ups: switched_then - switched })
}

/// Seconds from the plug of some drives until all of them are listed; then they are locked and taken away.
fn listed_after(site: &DriveSite<'_>, magazines: &[&Magazine]) -> Result<f64> {
    let paths: Vec<String> = magazines.iter().map(|m| format!("{}/c0_{}_0002", m.path(), m.name)).collect();
    let vm = site.vm;
    let listed = vm.spawn(&format!(
        "touch /run/waiting; until ls {} >/dev/null 2>&1; do sleep 0.02; done",
        paths.join(" ")
    ))?;
    vm.wait_for("the loop in the guest", LIMIT, "test -e /run/waiting && rm /run/waiting")?;
    let plugged = Instant::now();
    for magazine in magazines {
        vm.plug(&magazine.drive)?;
    }
    listed.wait(LIMIT)?;
    let took = plugged.elapsed();
    for magazine in magazines {
        vm.sh(&format!("udevadm settle; offsite lock {}", magazine.name))?;
        vm.unplug(&magazine.drive)?;
        site.wait_for_state(magazine, "away")?;
    }
    Ok(took.as_secs_f64())
}

/// The same for a drive that was torn out under a program that lives on.
fn listed_under_a_holder(site: &DriveSite<'_>, a: &Magazine) -> Result<f64> {
    let vm = site.vm;
    site.plug(&a.drive)?;
    site.wait_for_volumes(a)?;
    let holder = site.holder(a)?;
    vm.unplug(&a.drive)?;
    site.wait_for_state(a, "away")?;
    let took = listed_after(site, &[a])?;
    vm.sh("touch /run/write /run/end")?;
    holder.wait(SOON)?;
    vm.sh("rm -f /run/held /run/write /run/end")?;
    site.wait_for_rest()?;
    Ok(took)
}

/// Seconds from the last access until the mapping has gone, by the guest's clock.
fn locked(site: &DriveSite<'_>, a: &Magazine, figures: &mut Figures) -> Result<()> {
    const IDLE: f64 = 10.0;
    let vm = site.vm;
    vm.sh(&format!(
        "sed -i 's/^idle_seconds = .*/idle_seconds = {IDLE}/' /etc/offsite/site.toml && systemctl restart offsited"
    ))?;
    site.plug(&a.drive)?;
    let once = || -> Result<f64> {
        site.wait_for_volumes(a)?;
        let said = vm.sh_within(
            &format!(
                "cat {}/c0_A_0001; last=$EPOCHREALTIME\n\
                 while compgen -G '/dev/mapper/offsite-*' >/dev/null; do sleep 0.05; done\n\
                 awk \"BEGIN {{ print $EPOCHREALTIME - $last }}\"",
                a.path()
            ),
            LIMIT,
        )?;
        said.trim().parse().context(said.clone())
    };
    let (ours, bar) = super::measure::turns(REPETITIONS, once, || Ok(IDLE + 2.0))?;
    figures.record(LOCKED, Unit::Seconds, &ours, "the bar: idle time + 2 s", &bar);
    Ok(())
}

fn storm(vm: &Vm, figures: &mut Figures) -> Result<()> {
    let outcome = storms::storm(&DriveSite::install(vm)?, STORM_DRIVES, STORM_EVENTS)?;
    ensure!(outcome.after == outcome.quiet, "{outcome:#?}");
    let all = f64::from(STORM_DRIVES);
    figures.record(STORM, Unit::Times, &[all], "drives in the storm", &[all]);
    Ok(())
}

/// Machines at a time: most of the time passes in drives that were made slow.
const MACHINES: usize = 2;
/// How often a machine that doesn't do what it is told is replaced by a new one.
const SPARE_MACHINES: u32 = 2;

/// Each moment in a machine of its own.
fn tear_outs(image: &Image, figures: &mut Figures) -> Result<()> {
    let count = std::env::var("OFFSITE_TEAR_OUTS").map_or(Ok(TEAR_OUTS_EACH), |text| text.parse())?;
    let moments = Mutex::new(Moment::ALL.into_iter());
    let next = || moments.lock().unwrap_or_else(PoisonError::into_inner).next();
    let total = Mutex::new(Tally::default());
    thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(moment) = next() {
                let tally = tear_out_at(image, moment, count)?;
                total.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
            }
            Ok(())
        };
        let machines: Vec<_> = (0..MACHINES).map(|_| scope.spawn(work)).collect();
        machines
            .into_iter()
            .try_for_each(|machine| machine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    for trouble in &total.troubles {
        println!("    {trouble}");
    }
    println!("    {} stale mappings, {} hung processes", total.stale, total.hung);
    let (recovered, torn) = (f64::from(total.recovered), f64::from(total.torn));
    figures.record(TEAR_OUTS, Unit::Times, &[recovered], "drives torn out", &[torn]);
    Ok(())
}

/// Goes on until the moment has its count.
fn tear_out_at(image: &Image, moment: Moment, count: u32) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut spare = SPARE_MACHINES;
    while let Err(error) = Vm::start(image)?.told(|vm| Bench::set_up(vm)?.tear_out(moment, count, &mut tally))
    {
        if spare == 0 {
            return Err(error);
        }
        spare -= 1;
        println!("    {moment} goes on in a new machine after: {error:#}");
    }
    println!(
        "    {moment:8} {} of {} recovered, {} stale mappings, {} hung processes, {} tries missed the moment",
        tally.recovered, tally.torn, tally.stale, tally.hung, tally.missed
    );
    Ok(tally)
}
