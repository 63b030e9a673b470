//! Test harnesses: loop devices, the VM, Bacula.

pub mod bacula;
pub mod bench;
pub mod guest_drives;
pub mod guest_site;
pub mod loop_drive;
pub mod own_system;
pub mod programs;
pub mod story;
pub mod trials;
pub mod tutorial;
pub mod vm;
pub mod weeks;
