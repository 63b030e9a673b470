//! Test harnesses: loop devices, the VM, Bacula.

pub mod bacula;
pub mod tutorial;
pub mod vm;
