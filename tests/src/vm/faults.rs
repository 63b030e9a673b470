//! Drives that fail: device-mapper targets of the guest's kernel.

use anyhow::Result;

use super::Vm;

/// A block device in the guest whose medium can be made to fail, by the kernel's dm-flakey and error
/// targets (`Documentation/admin-guide/device-mapper/dm-flakey.rst`). It starts well.
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
        let sectors = vm.sh(&format!("modprobe dm-flakey && blockdev --getsz {below}"))?.trim().parse()?;
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

impl Vm {
    /// Lets udevd run at most that many events at a time.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn limit_udev_workers(&self, count: u32) -> Result<()> {
        self.sh(&format!("udevadm control --children-max={count}")).map(drop)
    }
}
