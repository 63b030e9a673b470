//! The `offsited` program.

fn main() {}
