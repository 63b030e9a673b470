//! Test harnesses: loop devices, the VM, Bacula.

pub mod bacula;
pub mod vm;
