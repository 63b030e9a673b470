//! The library as arithmetic: numbers, slots, state, and what the catalog is owed. No input or output.

pub(crate) mod bays;
pub(crate) mod closed_volumes;
pub(crate) mod identifiers;
pub(crate) mod listed;
pub(crate) mod model;
pub(crate) mod notice;
pub(crate) mod slot_set;
pub(crate) mod state;
pub(crate) mod unused;
pub(crate) mod versioned;
pub(crate) mod volumes_now;
