//! The `offsite` program.

fn main() {}
