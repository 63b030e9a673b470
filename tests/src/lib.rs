//! Test harnesses: loop devices, the VM, Bacula.
