//! Test harnesses: loop devices, the VM, Bacula.
//!
//! # The fault kit
//! What can go wrong with a drive, to be had on demand:
//!
//! | fault | where | how |
//! |---|---|---|
//! | a drive comes and goes, on any machine | [`loop_drive::LoopDrive`] | a loop device is attached and detached |
//! | a drive is torn out, whatever it is doing; comes back in another port, by a USB bridge | [`vm::Vm::unplug`], [`vm::Vm::plug_into`], [`vm::Vm::plug_by_usb`] | QEMU takes the device away |
//! | a drive that hardly answers | [`vm::Vm::slow_down`] | QEMU lets few requests through |
//! | a medium that fails, loses writes, is slow | [`vm::Flaky`] | dm-flakey, dm-delay and error targets in the guest |
//! | a clone | [`vm::Drive::clone_as`] | a second file |
//! | torn out at a chosen moment | [`tear_outs`] | a slow drive, and what the kernel shows of the step |
//! | events repeated, out of order, lost; the daemon killed in their midst | [`storms`], [`vm::Vm::repeat_event`] | sysfs' `uevent` files |
//! | udevd with no worker free | [`vm::Vm::limit_udev_workers`] | udevadm |

pub mod bacula;
pub mod bench;
pub mod guest_drives;
pub mod guest_site;
pub mod host_daemon;
pub mod loop_drive;
pub mod own_system;
pub mod programs;
pub mod storms;
pub mod story;
pub mod tear_outs;
pub mod trials;
pub mod tutorial;
pub mod vm;
pub mod weeks;
