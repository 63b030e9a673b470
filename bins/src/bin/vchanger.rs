//! The `vchanger` program.

fn main() {}
