//! Whether dm-crypt is faster without its work queues, in the VM: what `offsited` opens drives with against the same
//! mapping with both of them switched off.

use anyhow::{Context as _, Result};

use super::figures::{Figures, Unit};
use super::measure::turns;
use crate::vm::{Size, Vm};

const WRITE: &str = "luks: write through a mapping, with dm-crypt's work queues";
const READ: &str = "luks: read through a mapping, with dm-crypt's work queues";
const PEER: &str = "no-read-workqueue, no-write-workqueue";

/// The figures of this module.
pub(super) const NAMES: [&str; 2] = [WRITE, READ];

const TIMES: usize = 5;
const MEGABYTES: f64 = 67.108_864;
const SWITCHED_OFF: &str = "--perf-no_read_workqueue --perf-no_write_workqueue";

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let Some(image) = super::guest_image(figures, &NAMES)? else { return Ok(()) };
    Vm::start(&image)?.told(|vm| measure_in(vm, figures))
}

fn measure_in(vm: &Vm, figures: &mut Figures) -> Result<()> {
    let drive = vm.blank_drive("SPEED", Size::mib(96))?;
    vm.plug(&drive)?;
    let device = drive.by_id();
    vm.sh(&format!(
        "udevadm settle; modprobe dm-crypt; head -c 4096 /dev/urandom >/run/key; cryptsetup -q luksFormat --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 --sector-size 4096 {device} /run/key"
    ))?;
    let rate = |options: &str, copy: &str| -> Result<f64> {
        let said = vm.sh(&format!(
            "set -e; cryptsetup open --key-file /run/key {options} {device} speed; udevadm settle\n\
             start=$(date +%s%N); dd {copy} bs=1M count=64 status=none; end=$(date +%s%N)\n\
             udevadm settle; cryptsetup close speed; echo $((end - start))"
        ))?;
        let nanoseconds: f64 = said.trim().parse().with_context(|| format!("no time in {said:?}"))?;
        Ok(MEGABYTES / (nanoseconds / 1e9))
    };
    for (name, copy) in [
        (WRITE, "if=/dev/zero of=/dev/mapper/speed oflag=direct conv=fsync"),
        (READ, "if=/dev/mapper/speed of=/dev/null iflag=direct"),
    ] {
        if figures.wants(name) {
            let (ours, without) = turns(TIMES, || rate("", copy), || rate(SWITCHED_OFF, copy))?;
            figures.record(name, Unit::MegabytesPerSecond, &ours, PEER, &without);
        }
    }
    Ok(())
}
