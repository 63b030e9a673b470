//! Drives that fail: device-mapper targets of the guest's kernel.

use std::time::Duration;

use anyhow::Result;

use super::{Drive, Output, Vm};

/// A block device in the guest whose medium can be made to fail, by the kernel's dm-flakey, dm-delay and
/// error targets (`Documentation/admin-guide/device-mapper/dm-flakey.rst`). It starts well.
#[derive(Debug)]
pub struct Flaky<'vm> {
    vm: &'vm Vm,
    name: String,
    below: String,
    sectors: u64,
}

impl<'vm> Flaky<'vm> {
    /// Puts `/dev/mapper/NAME` over a device of the guest.
    ///
    /// # Errors
    /// When the device isn't there or is in use.
    pub fn over(vm: &'vm Vm, below: &str, name: &str) -> Result<Self> {
        let sectors =
            vm.sh(&format!("modprobe -a dm-flakey dm-delay && blockdev --getsz {below}"))?.trim().parse()?;
        vm.sh(&format!("dmsetup create {name} --table '0 {sectors} linear {below} 0'"))?;
        Ok(Self { vm, name: name.to_owned(), below: below.to_owned(), sectors })
    }

    /// The device's name in the guest.
    pub fn device(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// From now on everything works.
    ///
    /// # Errors
    /// When the guest refuses, as for the others.
    pub fn heal(&self) -> Result<()> {
        self.table(&format!("0 {} linear {} 0", self.sectors, self.below))
    }

    /// From now on writes are taken and lost, as by a drive that loses its cache when pulled.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn lose_writes(&self) -> Result<()> {
        self.table(&format!("0 {} flakey {} 0 0 3600 1 drop_writes", self.sectors, self.below))
    }

    /// From now on writes fail and reads work.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn fail_writes(&self) -> Result<()> {
        self.table(&format!("0 {} flakey {} 0 0 3600 1 error_writes", self.sectors, self.below))
    }

    /// From now on everything takes that long, by the kernel's dm-delay (whole milliseconds).
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn slow_down(&self, by: Duration) -> Result<()> {
        self.table(&format!("0 {} delay {} 0 {}", self.sectors, self.below, by.as_millis()))
    }

    /// From now on everything fails.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn fail(&self) -> Result<()> {
        self.table(&format!("0 {} error", self.sectors))
    }

    /// Takes the device away.
    ///
    /// # Errors
    /// When it is in use.
    pub fn remove(self) -> Result<()> {
        self.vm.sh(&format!("dmsetup remove {}", self.name)).map(drop)
    }

    fn table(&self, table: &str) -> Result<()> {
        let name = &self.name;
        // Without waiting for requests on their way: they would wait for ever on a device that is away.
        self.vm.sh(&format!("dmsetup load {name} --table '{table}' && dmsetup suspend --noflush --nolockfs {name} && dmsetup resume {name}")).map(drop)
    }
}

/// Timeout for a script's beginning, and for its end after a tear-out.
const BEGIN_LIMIT: Duration = Duration::from_mins(2);

impl Vm {
    /// Starts a script, takes the drive away once the script has made `/run/begun`, and waits for its end.
    ///
    /// # Errors
    /// When the drive isn't plugged, or the script doesn't begin, or hangs: it isn't done within two minutes
    /// of the tear-out.
    pub fn unplug_during(&self, drive: &Drive, script: &str) -> Result<Output> {
        self.sh("rm -f /run/begun")?;
        let running = self.spawn(script)?;
        self.wait_for("the script to begin", BEGIN_LIMIT, "test -e /run/begun")?;
        self.unplug(drive)?;
        running.wait(BEGIN_LIMIT)
    }

    /// Has the kernel announce a plugged drive again, `count` times as fast as it can, by `add`, `change`
    /// or `remove`; the drive itself stays where it is.
    ///
    /// # Errors
    /// When the drive isn't plugged.
    pub fn repeat_event(&self, drive: &Drive, action: &str, count: u32) -> Result<()> {
        let (name, serial) = (drive.by_id(), drive.serial());
        // By a remove event udev takes the name away, so it is resolved first.
        let script = format!(
            "file=/sys/class/block/$(basename $(readlink -e {name}))/uevent && [ -e $file ] || {{ echo no {serial}; exit 1; }}\n\
             for n in $(seq {count}); do echo {action} >$file || exit 1; done"
        );
        self.sh(&script).map(drop)
    }

    /// Lets udevd run at most that many events at a time.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn limit_udev_workers(&self, count: u32) -> Result<()> {
        self.sh(&format!("udevadm control --children-max={count}")).map(drop)
    }
}
