//! Drives that take turns, and playing years of them through.

pub(crate) mod simulation;
pub(crate) mod turns;
